"""The path of a crop over the maps of a video."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from numbers import Integral
from operator import attrgetter
from typing import Any

import numpy as np

from avsal.crops.layout import GRID, Grids, choose_layout, small_grid
from avsal.crops.motion import COSTS, KNOT, at_times, smooth
from avsal.crops.settings import Box, Fit, Framing, Picture, Share, aspect_of
from avsal.errors import UsageError
from avsal.prediction.maps import GazeMap, timed_maps

_EXACT_KNOT = Fraction(KNOT)

# Seconds that one frame counts for; after a pause of hours nothing is gained.
_LONGEST = Fraction(10)


@dataclass(frozen=True)
class Crop:
    """What is shown of one frame.

    Attributes:
        index: frame number in the video.
        pts: presentation time on the container's clock, seconds, exact.
        x, y: left and upper edge in pixels of the displayed picture.
        width, height: pixels; of another shape than the output only where bars are filled in.
        shot: number of the shot, from 0.
        kept: share of the predicted gaze inside, 0..1; None if it is unknown.
        second: the lower or right panel where two panels share the result; x to height are the
            upper or left one then.
    """

    index: int
    pts: Fraction
    x: float
    y: float
    width: float
    height: float
    shot: int
    kept: float | None
    second: Box | None = None

    @property
    def boxes(self) -> list[Box]:
        """What is shown: one part of the picture, or two."""
        first = Box(self.x, self.y, self.width, self.height)
        return [first] if self.second is None else [first, self.second]


def plan(
    maps: Iterable[np.ndarray],
    aspect: str | float | Fraction,
    size: tuple[int, int],
    *,
    times: Sequence[Fraction] | None = None,
    rate: Fraction | int = 25,
    cuts: Iterable[int] = (),
    motion: str = "steady",
    zoom: float = 1.0,
    pad: bool = False,
    fit: str = Fit.CROP,
    sample_aspect: Fraction | int = 1,
) -> list[Crop]:
    """Find a crop for every frame from maps alone.

    Args:
        maps: one (h, w) array of non-negative values for every frame, of any size and scale.
        aspect: width to height of the result, as a number or as "9:16".
        size: (width, height) of the video in pixels, as displayed.
        times: seconds at which every frame begins, one for each map, ascending; None counts frames
            at `rate` frames per second.
        cuts: numbers of the frames that begin a new shot (`avsal.prediction.shots` finds them).
        motion, zoom, fit: see `avsal.crops.settings.Framing`.
        pad: the same as fit "pad".
        sample_aspect: width to height of a displayed pixel.

    Raises:
        UsageError: the aspect, size, motion or zoom is impossible, or the times do not fit the
            maps.
    """
    ratio = aspect_of(aspect)
    if not isinstance(cuts, Iterable):
        raise UsageError(f"cuts {cuts!r}: give a list of frame numbers")
    frames = timed_maps(maps, times, rate, cuts=sorted(cuts))
    picture = Picture(*_checked_size(size), Fraction(sample_aspect))
    framing = Framing(ratio, motion, zoom, Fit.PAD if pad else fit)
    return list(plan_crops(frames, picture, framing))


def _checked_size(size: Any) -> tuple[int, int]:
    sides = list(size) if isinstance(size, Iterable) and not isinstance(size, str) else []
    if len(sides) != 2 or not all(isinstance(side, Integral) and int(side) > 0 for side in sides):
        raise UsageError(f"size {size!r}: give (width, height) of the video in pixels")
    return int(sides[0]), int(sides[1])


def plan_crops(maps: Iterable[GazeMap], picture: Picture, framing: Framing) -> Iterator[Crop]:
    """Yield the crops of every shot once its last map is there; see `plan`.

    Until then its maps, reduced in size, are in a temporary file: long shots need no memory.
    """
    for number, shot in itertools.groupby(maps, attrgetter("shot")):
        yield from _plan_shot(number, shot, picture, framing)


def plan_inside(
    maps: Iterable[GazeMap], picture: Picture, inside: Box, framing: Framing
) -> Iterator[Crop]:
    """As `plan_crops`, for a part of the picture in whole pixels, as if the rest were missing."""
    part = picture.part(inside)
    across, down = inside.x / picture.width, inside.y / picture.height
    right, bottom = across + part.width / picture.width, down + part.height / picture.height

    def cut(entry: GazeMap) -> GazeMap:
        height, width = entry.density.shape
        left, top = int(across * width), int(down * height)
        density = entry.density[top : ceil(bottom * height), left : ceil(right * width)]
        return replace(entry, density=density)

    for crop in plan_crops(map(cut, maps), part, framing):
        second = None if crop.second is None else _shifted(crop.second, inside)
        moved = _shifted(crop.boxes[0], inside)
        yield replace(crop, x=moved.x, y=moved.y, second=second)


def _shifted(box: Box, by: Box) -> Box:
    return box._replace(x=box.x + by.x, y=box.y + by.y)


def _plan_shot(
    number: int, maps: Iterable[GazeMap], picture: Picture, framing: Framing
) -> Iterator[Crop]:
    with Grids() as frames, Grids() as knots:
        tags, seconds = _collect(maps, frames, knots)
        layout = choose_layout(knots, picture, framing)
        pixels, cost = (picture.width, picture.height), COSTS[framing.motion]
        ways = [
            [
                at_times(smooth(_whole_pixels(offsets, side, length), 1 - length, cost), seconds)
                for offsets, side, length in zip(way, pixels, layout.size, strict=True)
            ]
            for way in layout.ways
        ]
        kept = np.sum([frames.kept(way, layout.size) for way in ways], axis=0)
        for frame, ((index, pts), inside) in enumerate(zip(tags, kept, strict=True)):
            places = ([float(axis[frame]) for axis in way] for way in ways)
            boxes = [_box(place, layout.size, pixels) for place in places]
            second = boxes[1] if len(boxes) > 1 else None
            yield Crop(index, pts, *boxes[0], number, float(inside), second)


def _box(offset: Sequence[float], share: Share, pixels: tuple[int, int]) -> Box:
    """A crop in pixels, inside the picture however it is rounded."""
    x, y = (
        min(round(start * side, 3), side * (1 - length))
        for start, side, length in zip(offset, pixels, share, strict=True)
    )
    return Box(x, y, share[0] * pixels[0], share[1] * pixels[1])


def _whole_pixels(offsets: np.ndarray, side: int, length: float) -> np.ndarray:
    """Offsets rounded to whole pixels of a side, but never so far that the crop leaves it."""
    return np.minimum(np.rint(offsets * side) / side, 1 - length)


def _collect(
    maps: Iterable[GazeMap], frames: Grids, knots: Grids
) -> tuple[list[tuple[int, Fraction]], np.ndarray]:
    """Keep every map small, and the mean map of every `KNOT` seconds.

    Returns:
        Index and pts of every frame; and the seconds (n,) at which it counts in the plan, where no
        frame lasts longer than `_LONGEST`.
    """
    tags: list[tuple[int, Fraction]] = []
    seconds: list[Fraction] = []
    total, count, done = np.zeros(GRID), 0, 0
    for entry in maps:
        passed = min(entry.pts - tags[-1][1], _LONGEST) if tags else Fraction(0)
        tags.append((entry.index, entry.pts))
        seconds.append(seconds[-1] + passed if seconds else passed)
        knot = int(seconds[-1] / _EXACT_KNOT)
        while done < knot:  # a frame that is shown longer counts for all that time
            knots.add(total / count)
            total, count, done = total / count, 1, done + 1
            if done == knot:
                total, count = np.zeros(GRID), 0
        grid = small_grid(entry.density)
        frames.add(grid)
        total, count = total + grid, count + 1
    knots.add(total / count)
    return tags, np.array([float(second) for second in seconds])
