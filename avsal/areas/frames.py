"""Shares of the predicted gaze inside areas, frame by frame."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from avsal.areas.areas import Area, Shape, check_unique, cover
from avsal.errors import UsageError
from avsal.results.timed import Seconds, frame_step, timed_maps

_FINEST = (108, 192)  # (height, width) of the grid that maps are measured on, at most
_COARSE = (36, 64)  # on which concentration is measured, so that map sizes can be compared

# Sigma of a centred Gaussian as shares of height and width: the spread of all fixations in free
# viewing of photographs (OSIE 0.20 and 0.21, EyeCrowd 0.18 and 0.23).
PRIOR_SIGMA = (0.19, 0.22)


@dataclass(frozen=True)
class AreaShare:
    """What an area gets of one frame's gaze.

    Attributes:
        index: frame number.
        time: seconds since the first frame.
        duration: seconds that the frame is shown.
        area: name.
        share: of the predicted gaze, 0..1.
        part: of the picture's surface that the area is, 0..1.
        prior: share that a centred Gaussian gives it, 0..1.
    """

    index: int
    time: float
    duration: float
    area: str
    share: float
    part: float
    prior: float

    @property
    def density(self) -> float:
        """How many times more gaze than if it were spread evenly; not a number for no surface."""
        return self.share / self.part if self.part else math.nan

    @property
    def over_prior(self) -> float:
        """How many times more gaze than the middle of the picture would explain."""
        return self.share / self.prior if self.prior else math.nan

    @property
    def seconds(self) -> float:
        """Expected seconds of one viewer's gaze while the frame is shown."""
        return self.share * self.duration


@dataclass(frozen=True)
class FrameShares:
    """One frame measured.

    Attributes:
        index, time, duration: see `AreaShare`.
        spread: part of the picture over which the gaze is spread, 0..1: two to the power of the
            map's entropy, over the number of its cells.
        areas: those that exist at that time.
    """

    index: int
    time: float
    duration: float
    spread: float
    areas: tuple[AreaShare, ...]


def shares(
    maps: Iterable[np.ndarray],
    areas: Sequence[Area],
    *,
    times: Sequence[Seconds] | None = None,
    rate: Seconds = 25,
    end: Seconds | None = None,
) -> list[FrameShares]:
    """Measure areas on maps alone.

    Args:
        maps: one (h, w) array of non-negative values for every frame, of any size and scale.
        areas: with unique names; `avsal.areas.Area("logo", (avsal.areas.box(0, 0, .2, .1),))`.
        times: seconds at which every frame begins, one for each map, ascending; None counts frames
            at `rate` frames per second.
        end: seconds at which the last frame ends; None shows it as long as the one before it.

    Raises:
        UsageError: two areas have the same name, or times do not fit the maps.
    """
    return list(measure(_lasting(timed_maps(maps, times, rate), frame_step(rate), end), areas))


def _lasting(
    maps: Iterable[tuple[int, Fraction, np.ndarray]], only: Seconds, end: Seconds | None
) -> Iterator[tuple[int, float, float, np.ndarray]]:
    """Give maps with times their durations.

    Args:
        only: seconds that a single map lasts without an end.
    """
    duration = float(only)
    held: tuple[int, float, np.ndarray] | None = None
    for index, time, density in maps:
        if held is not None:
            duration = float(time) - held[1]
            yield held[0], held[1], duration, held[2]
        held = index, float(time), density
    if held is not None:
        duration = duration if end is None else float(end) - held[1]
        if not 0 < duration < math.inf:
            raise UsageError(f"end {end}: does not come after the last map's {held[1]:g} s")
        yield held[0], held[1], duration, held[2]


def measure(
    maps: Iterable[tuple[int, float, float, np.ndarray]], areas: Sequence[Area]
) -> Iterator[FrameShares]:
    """Measure frame by frame, in constant memory.

    Args:
        maps: frame number, seconds since the first frame, duration in seconds, map (h, w).

    Raises:
        UsageError: two areas have the same name.
    """
    check_unique(areas)
    for index, time, duration, density in maps:
        grid = fine_grid(density)
        total = grid.sum()
        found = []
        for area in areas:
            shape = area.at(time)
            if shape is not None:
                inside, part, prior = _cover(shape, grid.shape)
                share = float((grid * inside).sum() / total) if total > 0 else part
                found.append(AreaShare(index, time, duration, area.name, share, part, prior))
        yield FrameShares(index, time, duration, spread(grid), tuple(found))


def fine_grid(density: np.ndarray) -> np.ndarray:
    """A map as float64, on `_FINEST` if it is larger; every cell holds the sum inside it."""
    height, width = min(density.shape[0], _FINEST[0]), min(density.shape[1], _FINEST[1])
    grid = density.astype(np.float64)
    if (height, width) == density.shape:
        return grid
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_AREA)


@functools.lru_cache(maxsize=128)
def _cover(shape: Shape, size: tuple[int, int]) -> tuple[np.ndarray, float, float]:
    """Cover of the cells, part of the picture, and share of the centre prior."""
    inside = cover(shape, size)
    prior = centre_prior(size)
    return inside, float(inside.mean()), float((inside * prior).sum() / prior.sum())


@functools.lru_cache(maxsize=8)
def centre_prior(size: tuple[int, int]) -> np.ndarray:
    """Centred Gaussian on (height, width) cells."""
    rows, columns = (
        np.exp(-((((np.arange(side) + 0.5) / side - 0.5) / sigma) ** 2) / 2)
        for side, sigma in zip(size, PRIOR_SIGMA, strict=True)
    )
    return np.outer(rows, columns)


def spread(grid: np.ndarray) -> float:
    """Part of the picture over which the gaze is spread, see `FrameShares`."""
    height, width = min(grid.shape[0], _COARSE[0]), min(grid.shape[1], _COARSE[1])
    coarse = cv2.resize(grid, (width, height), interpolation=cv2.INTER_AREA)
    total = coarse.sum()
    if total <= 0:
        return 1.0
    share = coarse[coarse > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()) / coarse.size)
