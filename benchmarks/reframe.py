"""What crops keep of recorded gaze, and how they move.

    python benchmarks/reframe.py VIDEO_GAZE MAPS --weights avsal-small [--names LIST] [--each]

VIDEO_GAZE holds videos/ and fixations.npz (names; fix: video, observer, start, duration, x/W, y/H).
With --weights the maps that MAPS lacks are made. Videos without maps are left out. A fixation
counts while it lasts: shares are of the frames that it spans. The scale of a crop is the largest
one's size over its own; bars make it less than 1.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from predicted import add_options, chosen, make_maps

from avsal import media
from avsal.crops.layout import small_grid
from avsal.crops.planning import Crop, plan_crops
from avsal.crops.settings import Fit, Framing, Motion, Picture, Share, parse_aspect
from avsal.prediction.maps import GazeMap
from avsal.prediction.shots import find_shots
from avsal.results.folder import read_result

PLACES = 201
REST = 0.001  # picture widths per frame


@dataclass
class Clip:
    """One video: maps, and for every frame the recorded gaze inside a crop at every place."""

    name: str
    picture: Picture
    maps: list[GazeMap]
    cuts: list[int]
    gaze: np.ndarray  # (frames, fixations) bool: open while the frame is shown
    x: np.ndarray  # (fixations,), as fractions of the picture
    y: np.ndarray
    largest: Share  # crop

    @property
    def share(self) -> float:
        """Width of the crop."""
        return self.largest[0]


def read(root: Path, maps: Path, aspect: Fraction, names: list[Path] | None) -> list[Clip]:
    data = np.load(root / "fixations.npz")
    clips = []
    for number, name in enumerate(data["names"]):
        if not (maps / str(name)).is_dir() or not chosen(str(name), names):
            continue
        path = root / "videos" / f"{name}.mp4"
        info, result = media.probe(path), read_result(maps / str(name))
        picture = Picture(info.width, info.height, info.sample_aspect)
        with media.VideoReader(path) as video:
            cuts = [shot.first for shot in find_shots(video)[1:]]
        entries = [
            GazeMap(r.index, r.pts, Fraction(0), small_grid(d), bisect_right(cuts, r.index))
            for r, d in result.densities()
        ]
        times = np.array([float(entry.pts - entries[0].pts) for entry in entries])
        _video, _observer, start, duration, x, y = data["fix"][data["fix"][:, 0] == number].T
        gaze = (start <= times[:, None]) & (times[:, None] < start + duration)
        largest = picture.largest_crop(aspect)
        clips.append(Clip(str(name), picture, entries, cuts, gaze, x, y, largest))
    return clips


def kept(clip: Clip, offsets: np.ndarray) -> float:
    """Share of the recorded gaze inside crops of full height at (frames,) offsets."""
    inside = (offsets[:, None] <= clip.x) & (clip.x < offsets[:, None] + clip.share)
    return float((clip.gaze & inside).sum() / clip.gaze.sum())


def kept_by(clip: Clip, crops: list[Crop]) -> float:
    """Share of the recorded gaze inside planned crops or panels."""
    inside = np.zeros_like(clip.gaze)
    size = np.array([clip.picture.width, clip.picture.height] * 2)
    for frame, crop in enumerate(crops):
        for box in crop.boxes:
            left, top, width, height = np.array(box) / size
            across = (left <= clip.x) & (clip.x < left + width)
            inside[frame] |= across & (top <= clip.y) & (clip.y < top + height)
    return float((clip.gaze & inside).sum() / clip.gaze.sum())


def mean_scale(clip: Clip, crops: list[Crop]) -> float:
    """How large things are on average, against the largest crop."""
    width, height = clip.largest[0] * clip.picture.width, clip.largest[1] * clip.picture.height
    return statistics.mean(1 / max(1, crop.width / width, crop.height / height) for crop in crops)


def per_shot(clip: Clip, gain: np.ndarray) -> np.ndarray:
    """Offsets (frames,) of the best still crop in every shot; gain is (frames, PLACES)."""
    offsets = np.empty(len(gain))
    bounds = [0, *clip.cuts, len(gain)]
    for first, last in itertools.pairwise(bounds):
        offsets[first:last] = places(clip)[gain[first:last].sum(axis=0).argmax()]
    return offsets


def places(clip: Clip) -> np.ndarray:
    return np.linspace(0, 1 - clip.share, PLACES)


def recorded_gain(clip: Clip) -> np.ndarray:
    start = places(clip)[:, None]
    inside = (start <= clip.x) & (clip.x < start + clip.share)
    return clip.gaze.astype(np.float32) @ inside.T.astype(np.float32)


def free(clip: Clip) -> float:
    """Best place by the recorded gaze in every half second."""
    gain = recorded_gain(clip)
    start = clip.maps[0].pts
    halves = np.array([int((entry.pts - start) * 2) for entry in clip.maps])
    best = sum(gain[halves == half].sum(axis=0).max() for half in np.unique(halves))
    return float(best / clip.gaze.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--aspect", default="9:16")
    parser.add_argument("--each", action="store_true", help="a row for every video")
    add_options(parser)
    arguments = parser.parse_args()
    aspect = parse_aspect(arguments.aspect)
    make_maps(arguments.root / "videos", arguments.maps, arguments)
    clips = read(arguments.root, arguments.maps, aspect, arguments.names)
    centre = [kept(clip, np.full(len(clip.maps), (1 - clip.share) / 2)) for clip in clips]
    best = [kept(clip, per_shot(clip, recorded_gain(clip))) for clip in clips]
    report("centre", centre, centre)
    report("best still crop per shot, by the gaze itself", best, centre)
    report("free every half second, by the gaze itself", [free(clip) for clip in clips], centre)
    for motion in (Motion.STILL, Motion.STEADY, Motion.FOLLOW):
        shares, rests, jerks, took = [], [], [], []
        for clip in clips:
            began = time.perf_counter()
            crops = list(plan_crops(clip.maps, clip.picture, Framing(aspect, motion)))
            took.append((time.perf_counter() - began) / len(crops))
            x = np.array([crop.x for crop in crops]) / clip.picture.width
            step = float(crops[-1].pts - crops[0].pts) / (len(crops) - 1)
            shares.append(kept_by(clip, crops))
            whole = np.split(x, clip.cuts)  # a cut is no motion
            rests.append(mean_of([np.abs(np.diff(part)) < REST for part in whole]))
            jerks.append(mean_of([np.abs(np.diff(part, 3) / step**3) for part in whole]))
        report(motion, shares, centre, rests, jerks)
        print(f"  {statistics.median(took) * 1000:.2f} ms per frame to plan")
        if arguments.each:
            for clip, share, middle, most in zip(clips, shares, centre, best, strict=True):
                print(f"  {clip.name:20} {share:.3f}  centre {middle:.3f}  best still {most:.3f}")
    for fit in (Fit.PAD, Fit.SPLIT, Fit.AUTO):
        report_fit(fit, clips, aspect, centre, arguments.each)


def report_fit(
    fit: Fit, clips: list[Clip], aspect: Fraction, centre: list[float], each: bool
) -> None:
    """What steady crops keep with a `--fit`, and how large they show things."""
    shares, scales = [], []
    for clip in clips:
        crops = list(plan_crops(clip.maps, clip.picture, Framing(aspect, fit=fit)))
        shares.append(kept_by(clip, crops))
        scales.append(mean_scale(clip, crops))
    report(f"--fit {fit}", shares, centre)
    print(f"  mean scale {statistics.mean(scales):.3f}")
    if each:
        for clip, share, scale in zip(clips, shares, scales, strict=True):
            print(f"  {clip.name:20} {share:.3f}  scale {scale:.2f}")


def mean_of(parts: list[np.ndarray]) -> float:
    return float(np.concatenate(parts).mean())


def report(
    name: str,
    shares: list[float],
    centre: list[float],
    rests: list[float] | None = None,
    jerks: list[float] | None = None,
) -> None:
    worst = min(share - middle for share, middle in zip(shares, centre, strict=True))
    moved = ""
    if rests and jerks:
        moved = f"  at rest {statistics.mean(rests):.2f}  jerk {statistics.mean(jerks):.2f}"
    print(f"{name:46} kept {statistics.mean(shares):.3f}  worst to centre {worst:+.3f}{moved}")


if __name__ == "__main__":
    main()
