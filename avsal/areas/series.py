"""Shares of the gaze in areas, frame by frame and over time."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from avsal.areas.areas import Area, Shape, check_unique, cover
from avsal.metrics import centre_prior
from avsal.prediction.maps import GazeMap, spread_of, timed_maps
from avsal.prediction.settings import Seconds

_FINEST = (108, 192)  # (height, width) of the grid that maps are measured on, at most


ZERO = Fraction(0)
BLOCK = 1.0  # seconds that belong together when time is drawn again
DRAWS = 2000
FIRST_SECONDS = 3.0  # that viewers give a video before they turn away; reported on their own
_RANGE = (2.5, 97.5)  # per cent
_ROUNDING = 1e-6  # of a block or of a second
_MOST_BLOCKS = 36_000  # ten hours of seconds; in longer videos blocks are longer


@dataclass(frozen=True)
class AreaShare:
    """The share of one frame's gaze in an area.

    Attributes:
        index: frame number.
        time: seconds since the first frame.
        duration: seconds that the frame is shown.
        area: name.
        share: of the predicted gaze, 0..1.
        part: of the picture's surface that the area is, 0..1.
        prior: share that a centred Gaussian gives it, 0..1.
        present: seconds of `duration` in which the area exists.
    """

    index: int
    time: float
    duration: float
    area: str
    share: float
    part: float
    prior: float
    present: float

    @property
    def density(self) -> float:
        """Share divided by the share of a uniform map; not a number for an area of size 0."""
        return self.share / self.part if self.part else math.nan

    @property
    def over_prior(self) -> float:
        """Share divided by the share that the centre prior gives."""
        return self.share / self.prior if self.prior else math.nan

    @property
    def seconds(self) -> float:
        """Expected seconds of one viewer's gaze while the frame is shown."""
        return self.share * self.present


@dataclass(frozen=True)
class FrameShares:
    """One frame measured.

    Attributes:
        index, time, duration: see `AreaShare`.
        spread: part of the picture, 0..1, that the smallest area with half of the gaze covers.
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
    collector = Collector(areas)
    return [collector.add(entry) for entry in timed_maps(maps, times, rate, end)]


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


def _mean_cover(shapes: Sequence[Shape], size: tuple[int, int]) -> tuple[np.ndarray, float, float]:
    """The mean of `_cover` over shapes."""
    if len(shapes) == 1:
        return _cover(shapes[0], size)
    inside, parts, priors = zip(*(_cover(shape, size) for shape in shapes), strict=True)
    return np.mean(inside, axis=0), float(np.mean(parts)), float(np.mean(priors))


@dataclass(frozen=True)
class Series:
    """Measurements of n frames and a areas.

    Attributes:
        names: of the areas.
        index: (n,) frame numbers.
        time, duration: (n,) seconds since the first frame; seconds that a frame is shown.
        spread: (n,) see `FrameShares`.
        share, part, prior: (n, a) see `AreaShare`; not a number where an area does not exist.
        exists: (n, a) seconds of each frame in which each area exists.
        mean: mean map over time, sums to 1.
    """

    names: tuple[str, ...]
    index: np.ndarray
    time: np.ndarray
    duration: np.ndarray
    spread: np.ndarray
    share: np.ndarray
    part: np.ndarray
    prior: np.ndarray
    exists: np.ndarray
    mean: np.ndarray

    def average(self, values: np.ndarray) -> np.ndarray:
        """Mean over time of (n,), or of (n, a) over the time that an area exists; not a number
        where it never does."""
        weights = self.exists if values.ndim > 1 else self.duration
        if not self.duration.sum() > 0:  # a still image
            weights = np.ones_like(values)
        weights = np.where(np.isnan(values), 0, weights)
        with np.errstate(invalid="ignore"):
            return np.nansum(values * weights, axis=0) / weights.sum(axis=0)

    def seconds(self) -> np.ndarray:
        """(a,) expected seconds of one viewer's gaze in every area."""
        return np.nansum(self.share * self.exists, axis=0)

    def present(self) -> np.ndarray:
        """(a,) seconds that every area exists."""
        return self.exists.sum(axis=0)

    def first_share(self) -> np.ndarray:
        """(a,) mean share over the first seconds that were measured; not a number where absent."""
        if not len(self.time):
            return np.full(len(self.names), np.nan)
        left = self.time[0] + FIRST_SECONDS - self.time
        duration = np.clip(np.minimum(self.duration, left), 0, None)
        part = duration / np.maximum(self.duration, np.finfo(float).tiny)
        return replace(self, duration=duration, exists=self.exists * part[:, None]).average(
            self.share
        )

    def largest(self) -> tuple[np.ndarray, np.ndarray]:
        """(a,) largest share of any frame, and the seconds at which that frame begins."""
        shares = np.where(np.isnan(self.share), -np.inf, self.share)
        if not len(shares):
            return np.full(len(self.names), np.nan), np.full(len(self.names), np.nan)
        position = shares.argmax(axis=0)
        values = self.share[position, np.arange(len(self.names))]
        return values, np.where(np.isnan(values), np.nan, self.time[position])

    def blocks(self, length: float = BLOCK) -> tuple[np.ndarray, np.ndarray]:
        """(n, a) mean share in every block of time, and seconds of it that the area exists.

        A frame counts in every block for as long as it is shown there. A still image fills one.
        """
        duration = self.duration if self.duration.sum() > 0 else np.full_like(self.duration, length)
        shown = np.stack([self.time, self.time + duration], axis=1).ravel()
        shown = np.maximum.accumulate(shown)
        count = int(np.ceil(shown[-1] / length - _ROUNDING)) if shown.size else 0
        edges = np.arange(count + 1) * length
        exists = self.exists if self.duration.sum() > 0 else ~np.isnan(self.share) * length
        seconds = _between(edges, shown, exists)
        gaze = _between(edges, shown, np.nan_to_num(self.share) * exists)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(seconds > _ROUNDING, gaze / seconds, np.nan), seconds


def _between(edges: np.ndarray, shown: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """What falls between neighbouring edges of amounts (n, a) that are spread over time.

    Args:
        shown: (2 n,) begin and end of every amount in turn, ascending.
    """
    sums = np.cumsum(amounts, axis=0)
    so_far = np.stack([sums - amounts, sums], axis=1).reshape(-1, amounts.shape[1])
    at_edges = [np.interp(edges, shown, column) for column in so_far.T]
    return np.diff(np.array(at_edges).reshape(-1, len(edges)).T, axis=0)


class Collector:
    """Measures map after map and keeps what a `Series` needs."""

    def __init__(self, areas: Sequence[Area], origin: Fraction = ZERO) -> None:
        """Start with no maps.

        Args:
            origin: `pts` of the video's first frame.

        Raises:
            UsageError: two areas have the same name.
        """
        check_unique(areas)
        self._areas, self._origin = areas, origin
        self._frames: list[tuple[float, ...]] = []
        self._values: list[np.ndarray] = []
        self._mean = np.zeros((1, 1))

    def add(self, entry: GazeMap) -> FrameShares:
        """Measure the next map."""
        time, duration = float(entry.pts - self._origin), float(entry.duration)
        grid = fine_grid(entry.density)
        total = float(grid.sum())
        if self._mean.shape != grid.shape:
            self._mean = np.zeros_like(grid)
        self._mean += grid / max(total, np.finfo(float).tiny) * (duration or 1e-9)
        values = np.full((len(self._areas), 4), np.nan)  # share, part, prior, seconds of each area
        found = []
        for row, area in zip(values, self._areas, strict=True):
            shapes, present = area.while_shown(time, duration)
            if shapes:
                inside, part, prior = _mean_cover(shapes, grid.shape)
                share = float((grid * inside).sum() / total) if total > 0 else part
                row[:] = share, part, prior, present
                shown = (entry.index, time, duration, area.name)
                found.append(AreaShare(*shown, share, part, prior, present))
        spread = spread_of(entry.density)
        self._values.append(values)
        self._frames.append((entry.index, time, duration, spread))
        return FrameShares(entry.index, time, duration, spread, tuple(found))

    def series(self) -> Series:
        """All that was measured."""
        index, time, duration, spread = np.array(self._frames).reshape(-1, 4).T
        values = np.array(self._values, np.float64).reshape(len(index), len(self._areas), 4)
        names = tuple(area.name for area in self._areas)
        share, part, prior, exists = np.moveaxis(values, -1, 0)
        exists = np.nan_to_num(exists)
        mean = self._mean / max(self._mean.sum(), np.finfo(float).tiny)
        return Series(
            names, index.astype(int), time, duration, spread, share, part, prior, exists, mean
        )


@dataclass(frozen=True)
class Difference:
    """How much more gaze an area gets in one version than in another.

    Attributes:
        area: name.
        first, second: mean share in either version, over the time that both have.
        low, high: range of the difference first - second when whole seconds are resampled; None if
            there are fewer than two.
    """

    area: str
    first: float
    second: float
    low: float | None
    high: float | None


def compare(first: Series, second: Series, seed: int = 0) -> list[Difference]:
    """Compare two versions second by second, over the time that both have an area.

    A second counts by the time of it that both have. The range holds 95 % of the mean differences
    of 2000 drawings of whole seconds with repetition. It shows how steady the difference is over
    time, and says nothing about viewers.
    """
    longest = max(
        (float(s.time[-1] + s.duration[-1]) for s in (first, second) if len(s.time)), default=0
    )
    length = max(BLOCK, longest / _MOST_BLOCKS)
    (one, shown), (other, other_shown) = first.blocks(length), second.blocks(length)
    count = min(len(one), len(other))
    differences = []
    for place, name in enumerate(first.names):
        a, b = one[:count, place], other[:count, place]
        both = ~np.isnan(a) & ~np.isnan(b)
        a, b = a[both], b[both]
        weights = np.minimum(shown[:count, place], other_shown[:count, place])[both]
        low = high = None
        if len(a) > 1:
            random = np.random.default_rng(seed)
            draws = (random.choice(len(a), len(a)) for _ in range(DRAWS))
            drawn = [np.average((a - b)[draw], weights=weights[draw]) for draw in draws]
            low, high = map(float, np.percentile(drawn, _RANGE))
        if len(a):
            mean_a, mean_b = (float(np.average(values, weights=weights)) for values in (a, b))
            differences.append(Difference(name, mean_a, mean_b, low, high))
    return differences
