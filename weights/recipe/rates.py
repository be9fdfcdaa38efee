"""Compare the maps of a video with those at lower frame rates, at equal times.

    python weights/recipe/rates.py W --data DIR [--stride N]

Videos of 50 and 60 frames per second are also read with every second, fourth or fifth frame only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from avsal import load_model
from avsal.media import VideoFrame, VideoReader, probe
from avsal.metrics import cc
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import MapSize, PredictSettings

THINNED = {50: (2, 4), 60: (2, 5)}
SIZE = MapSize("fixed", 96, 56)


def maps(
    predictor: Predictor, path: Path, every: int, stride: int | None
) -> dict[float, np.ndarray]:
    """Return the densities, by time, of a video of which only every n-th frame is read."""
    settings = PredictSettings(stride=stride, size=SIZE)
    with VideoReader(path) as video:
        frames = thinned(video, every)
        found = predictor.predict_frames(frames, None, settings)
        return {round(float(each.time), 3): each.density for each in found}


def thinned(frames: Iterator[VideoFrame], every: int) -> Iterator[VideoFrame]:
    """Yield every n-th frame, renumbered."""
    for frame in frames:
        if frame.index % every == 0:
            yield replace(frame, index=frame.index // every, duration=frame.duration * every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("weights")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stride", type=int)
    given = parser.parse_args()
    predictor = load_model("small-224x384", given.weights)
    for path in sorted((given.data / "video_gaze" / "videos").glob("*.mp4")):
        rate = round(float(probe(path).rate or 0))
        whole = maps(predictor, path, 1, given.stride) if rate in THINNED else {}
        for every in THINNED.get(rate, ()):
            other = maps(predictor, path, every, given.stride)
            alike = [cc(density, whole[time]) for time, density in other.items()]
            print(
                f"{path.stem}: {rate} -> {rate / every:g} fps, CC mean {np.mean(alike):.4f},"
                f" lowest {np.min(alike):.4f}, {len(alike)} frames",
                flush=True,
            )


if __name__ == "__main__":
    main()
