"""Measure the effect of sound on the maps: on held-out composites and on recorded gaze.

    python weights/recipe/sounds.py composites W --held DIR -o composites.json
    python weights/recipe/sounds.py gaze W --data DIR -o gaze.json

`composites` measures direction (how much more of the map is on a source when it sounds than when
another source does) and placebo (correlation with the silent map for noise, silence, and sounds of
a kind that is not in the picture). `gaze` scores the six talking clips with their own sound, with
none, with another clip's, and with their own shifted by two seconds, and bootstraps over the clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from hear import Composites, test
from train import load
from videos import predicted, read_gaze, score_video

from avsal import load_model
from avsal.media import probe

CLIPS = ("011", "012", "021", "022", "025", "068")
SOUNDS = ("true", "none", "other", "shifted")
DRAWS = 10_000


def on_gaze(weights: str, data: Path) -> dict[str, object]:
    """Score each clip with each sound: NSS, CC, and the gain of the true sound."""
    predictor = load_model("small-224x384", weights)
    gaze, folder = read_gaze(data), data / "video_gaze" / "videos"
    scores: dict[str, dict[str, tuple[float, float]]] = {}
    for place, name in enumerate(CLIPS):
        path, other = (folder / f"{n}.mp4" for n in (name, CLIPS[(place + 1) % len(CLIPS)]))
        info = probe(path)
        scores[name] = {}
        for sound in SOUNDS:
            maps = predicted(predictor, None, sound, other)(path)
            size, seconds = (info.width, info.height), float(info.duration or 0)
            scores[name][sound] = score_video(maps, gaze[name], size, seconds)
        print(name, scores[name], flush=True)
    gains = {sound: gain(scores, sound) for sound in SOUNDS[1:]}
    return {"scores": scores, "gain in NSS over": gains}


def gain(scores: dict[str, dict[str, tuple[float, float]]], sound: str) -> dict[str, float]:
    """Return the mean gain of the true sound in NSS, and its 95 % bootstrap interval."""
    each = np.array([row["true"][0] - row[sound][0] for row in scores.values()])
    random = np.random.default_rng(0)
    means = random.choice(each, (DRAWS, len(each))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return {"mean": float(each.mean()), "low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=("composites", "gaze"))
    parser.add_argument("weights")
    parser.add_argument("--held", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    if given.what == "composites":
        network = load(Path(given.weights))
        held = Composites.read(given.held, network)
        result: dict[str, object] = test(network, held, len(held.index), seed=5)
    else:
        result = on_gaze(given.weights, given.data)
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
