"""Cuts found in joined clips: how many of the true ones, and how many false ones.

    python benchmarks/shots.py FOLDER

FOLDER holds clips of one scene each. Stretches of them are joined, so that the true cuts are known:
at random, and so that colours change as little as they can, as between two views of one room. What
is found inside a single clip is counted by itself, as some hold real cuts after all.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

from avsal import media
from avsal.prediction.shots import ShotFinder, difference, shots_between, thumbnail

CLIPS, JOINED, PIECES = 160, 60, 10
LENGTH = (12, 90)  # frames of a piece
SMALL = (160, 90)

Find = Callable[[np.ndarray], list[int]]


def read(folder: Path) -> list[np.ndarray]:
    """The first 150 frames of randomly chosen clips, small."""
    files = sorted(folder.rglob("*.mp4"))
    random.Random(0).shuffle(files)
    clips = []
    for path in files[:CLIPS]:
        with media.VideoReader(path) as video:
            images = [f.image for f, _ in zip(video, range(150), strict=False)]
        clips.append(np.stack([cv2.resize(i, SMALL, interpolation=cv2.INTER_AREA) for i in images]))
    return clips


def join(clips: list[np.ndarray], draw: random.Random, alike: bool) -> tuple[np.ndarray, set[int]]:
    """Pieces of clips one after the other, and where they join.

    Args:
        alike: each clip is the one of those left whose colours are nearest to the one before.
    """
    rest = draw.sample(clips, len(clips))
    parts, joints, length = [], set(), 0
    for _ in range(PIECES):
        if alike and parts:
            rest.sort(key=lambda clip: -coarse_difference(parts[-1][-1], clip[0]))
        clip = rest.pop()
        count = min(len(clip), draw.randint(*LENGTH))
        start = 0 if alike else draw.randint(0, len(clip) - count)
        parts.append(clip[start : start + count])
        length += count
        joints.add(length)
    return np.concatenate(parts), joints - {length}


def coarse_difference(before: np.ndarray, after: np.ndarray) -> float:
    return difference(thumbnail(before), thumbnail(after))


def avsal_shots(frames: np.ndarray) -> list[int]:
    finder = ShotFinder()
    for index, image in enumerate(frames):
        finder.add(index, Fraction(0), image)
    shots = shots_between((0, Fraction(0)), len(frames) - 1, Fraction(0), finder.changes)
    return [shot.first for shot in shots[1:]]


def stride_barriers(frames: np.ndarray) -> list[int]:
    """Where `--stride` interpolates no maps."""
    return sorted({*avsal_shots(frames), *coarse_change(frames)})


def detector(make: Callable[[], ContentDetector]) -> Find:
    def find(frames: np.ndarray) -> list[int]:
        used = make()
        found = (
            used.process_frame(FrameTimecode(i, 25.0), f[..., ::-1]) for i, f in enumerate(frames)
        )
        return [cut.frame_num for cuts in found for cut in cuts]

    return find


def coarse_change(frames: np.ndarray) -> list[int]:
    """The detector of avsal 0.1: a coarse grid's colours change by more than 20 levels."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    change = F.adaptive_avg_pool2d(pixels, (8, 12)).diff(dim=0).abs().mean((1, 2, 3))
    return (torch.nonzero(change > 20)[:, 0] + 1).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    clips = read(parser.parse_args().folder)
    for alike in (False, True):
        draw = random.Random(1)
        compare(clips, [join(clips, draw, alike) for _ in range(JOINED)])


def compare(clips: list[np.ndarray], joined: list[tuple[np.ndarray, set[int]]]) -> None:
    ways: dict[str, Find] = {
        "coarse change (avsal 0.1)": coarse_change,
        "content 27": detector(lambda: ContentDetector(27, min_scene_len=1)),
        "adaptive 3, window 1": detector(lambda: AdaptiveDetector(window_width=1, min_scene_len=1)),
        "adaptive 3, window 2": detector(lambda: AdaptiveDetector(min_scene_len=1)),
        "avsal.prediction.shots": avsal_shots,
        "--stride: both": stride_barriers,
    }
    frames = sum(len(video) for video, _ in joined)
    print(f"{len(clips)} clips, {frames} joined frames, {sum(len(c) for _, c in joined)} cuts")
    for name, find in ways.items():
        began = time.perf_counter()
        results = [(set(find(video)), cuts) for video, cuts in joined]
        took = (time.perf_counter() - began) / frames
        hits = sum(len(found & cuts) for found, cuts in results)
        true = sum(len(cuts) for _, cuts in results)
        false = sum(len(found - cuts) for found, cuts in results)
        inside = sum(len(find(clip)) for clip in clips)
        f1 = 2 * hits / (true + hits + false)
        print(
            f"{name:26} found {hits / true:.3f}  false {false:4}  F1 {f1:.3f}  "
            f"inside single clips {inside:3}  {took * 1000:.2f} ms per frame"
        )


if __name__ == "__main__":
    main()
