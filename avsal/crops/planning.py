"""The path of a crop over the maps of a video."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter

import cv2
import numpy as np

from avsal.crops.motion import COSTS, KNOT, PLACES, Cost, at_times, choose_places, smooth
from avsal.crops.settings import Framing, Picture, Share, parse_aspect, scaled
from avsal.results.gaze import GazeMap, timed_maps

GRID = (36, 64)  # (height, width) to which maps are brought
_CHUNK = 512  # maps read at once
_EXACT_KNOT = Fraction(KNOT)

_LONGEST = Fraction(
    10
)  # seconds that one frame counts for; after a pause of hours nothing is gained

# A map is sure of things that viewers do not look at; part of the gaze is expected in the middle.
# Chosen on the ten videos that the default network's validation weights never saw.
PRIOR_SHARE = 0.15
_PRIOR_SIGMA = (0.19, 0.22)  # of height and width, as the spread of fixations on photographs

# By less than this share of the gaze, averaged over a shot, maps cannot tell a better crop from one
# in the middle.
LEAST_GAIN = 0.0125
_ZOOM_KEEPS = 0.95  # a closer crop must keep so much of what the largest one keeps
_PAD_KEEPS = 0.8  # a crop that keeps less of the gaze than this is widened
_STEPS = 5  # scales tried


def small_grid(density: np.ndarray) -> np.ndarray:
    """A map on `GRID`, float64, sums to 1; a map without any gaze is even."""
    grid = cv2.resize(density.astype(np.float64), GRID[::-1], interpolation=cv2.INTER_AREA)
    total = grid.sum()
    return grid / total if total > 0 else np.full(GRID, 1 / grid.size)


def coverage(offsets: np.ndarray, length: float, cells: int) -> np.ndarray:
    """Which part of every cell of an axis is inside a crop, float32 (n, cells).

    Args:
        offsets: (n,) where crops begin, as fractions of the axis.
        length: of the crop, as a fraction of the axis.
    """
    cell = np.arange(cells)
    start = np.asarray(offsets)[:, None] * cells
    inside = np.minimum(cell + 1, start + length * cells) - np.maximum(cell, start)
    return np.clip(inside, 0, 1).astype(np.float32)


class Grids:
    """Maps one after the other, read back a few at a time so that no number of them needs memory.

    Use it in a `with` statement.
    """

    def __enter__(self) -> Grids:
        self._file = tempfile.TemporaryFile()
        self._count = 0
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def add(self, grid: np.ndarray) -> None:
        """Append a map on `GRID`."""
        self._file.write(grid.astype(np.float32).tobytes())
        self._count += 1

    def _chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Places of some maps, and the maps, float32 (m, *GRID)."""
        self._file.seek(0)
        for start in range(0, self._count, _CHUNK):
            stop = min(start + _CHUNK, self._count)
            data = self._file.read((stop - start) * GRID[0] * GRID[1] * 4)
            yield slice(start, stop), np.frombuffer(data, np.float32).reshape(-1, *GRID)

    def along(self, axis: int, weights: np.ndarray) -> np.ndarray:
        """Gaze along x (axis 0) or y (axis 1), float32 (n, cells), summed over the other axis.

        Args:
            weights: float32 (n, cells) of the other axis.
        """
        found = np.empty((self._count, GRID[1 - axis]), np.float32)
        for place, maps in self._chunks():
            other = maps if axis == 0 else maps.swapaxes(1, 2)
            found[place] = np.matmul(weights[place, None], other)[:, 0]
        return found

    def kept(self, offsets: Sequence[np.ndarray], share: Share) -> np.ndarray:
        """The share (n,) of the gaze of every map inside its crop.

        Args:
            offsets: in x and in y, (n,) each.
        """
        found = np.empty(self._count)
        for place, maps in self._chunks():
            columns = coverage(offsets[0][place], share[0], GRID[1])
            rows = coverage(offsets[1][place], share[1], GRID[0])
            found[place] = (np.matmul(rows[:, None], maps)[:, 0] * columns).sum(axis=1)
        return found


def _centre(sigma_y: float, sigma_x: float) -> np.ndarray:
    rows, columns = (
        np.exp(-((((np.arange(cells) + 0.5) / cells - 0.5) / sigma) ** 2) / 2)
        for cells, sigma in zip(GRID, (sigma_y, sigma_x), strict=True)
    )
    centre = np.outer(rows, columns)
    return centre / centre.sum()


_PRIOR = _centre(*_PRIOR_SIGMA)


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
    """

    index: int
    pts: Fraction
    x: float
    y: float
    width: float
    height: float
    shot: int
    kept: float | None


def plan(
    maps: Iterable[np.ndarray],
    aspect: str | Fraction,
    size: tuple[int, int],
    *,
    times: Sequence[Fraction] | None = None,
    rate: Fraction | int = 25,
    cuts: Iterable[int] = (),
    motion: str = "steady",
    zoom: float = 1.0,
    pad: bool = False,
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
        motion, zoom, pad: see `Framing`.
        sample_aspect: width to height of a displayed pixel.

    Raises:
        UsageError: an aspect, motion or zoom that cannot be, or times that do not fit the maps.
    """
    ratio = parse_aspect(aspect) if isinstance(aspect, str) else Fraction(aspect)
    frames = timed_maps(maps, times, rate, cuts=sorted(cuts))
    picture = Picture(*size, Fraction(sample_aspect))
    return list(plan_crops(frames, picture, Framing(ratio, motion, zoom, pad)))


def plan_crops(maps: Iterable[GazeMap], picture: Picture, framing: Framing) -> Iterator[Crop]:
    """Yield the crops of every shot once its last map is there; see `plan`.

    Until then its maps, reduced in size, are in a temporary file: long shots need no memory.
    """
    for number, shot in itertools.groupby(maps, attrgetter("shot")):
        yield from _plan_shot(number, shot, picture, framing)


def _plan_shot(
    number: int, maps: Iterable[GazeMap], picture: Picture, framing: Framing
) -> Iterator[Crop]:
    with Grids() as frames, Grids() as knots:
        tags, seconds = _collect(maps, frames, knots)
        share = _choose_share(knots, picture.largest_crop(framing.aspect), framing)
        cost = COSTS[framing.motion]
        pixels = picture.width, picture.height
        offsets = [
            at_times(smooth(_whole_pixels(way, side, length), 1 - length, cost), seconds)
            for way, side, length in zip(_places(knots, share, cost), pixels, share, strict=True)
        ]
        kept = frames.kept(offsets, share)
        width, height = share[0] * picture.width, share[1] * picture.height
        for (index, pts), left, top, inside in zip(tags, *offsets, kept, strict=True):
            x, y = (
                min(round(float(offset) * side, 3), side * (1 - length))
                for offset, side, length in zip((left, top), pixels, share, strict=True)
            )
            yield Crop(index, pts, x, y, width, height, number, float(inside))


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


def _places(knots: Grids, share: Share, cost: Cost) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (n,) in x and y that keep most of the expected gaze.

    Where both axes have room, each is chosen with the other given, x first and last. What gains
    too little against a crop in the middle stays there.
    """
    offsets = [np.zeros(len(knots)), np.zeros(len(knots))]
    covers = [np.ones((len(knots), cells), np.float32) for cells in reversed(GRID)]
    free = [axis for axis in (0, 1) if share[axis] < 1]
    for axis in free if len(free) < 2 else (0, 1, 0):
        other = covers[1 - axis]
        prior = other @ (_PRIOR if axis == 0 else _PRIOR.T)
        profile = (1 - PRIOR_SHARE) * knots.along(axis, other) + PRIOR_SHARE * prior
        cells = profile.shape[1]
        candidates = np.linspace(0, 1 - share[axis], PLACES)
        gain = profile @ coverage(candidates, share[axis], cells).T
        offsets[axis] = choose_places(gain, share[axis], cost)
        covers[axis] = coverage(offsets[axis], share[axis], cells)
    middle = [np.full(len(knots), (1 - length) / 2) for length in share]
    gained = knots.kept(offsets, share) - knots.kept(middle, share)
    x, y = offsets if gained.mean() >= LEAST_GAIN else middle
    return x, y


def _choose_share(knots: Grids, largest: Share, framing: Framing) -> Share:
    """The crop's size in a shot: the largest, a closer one, or one that needs bars."""

    def keeps(share: Share) -> float:
        return float(knots.kept(_places(knots, share, COSTS[framing.motion]), share).mean())

    kept = keeps(largest)
    if framing.pad and kept < _PAD_KEEPS:
        fits = max(1 / side for side in largest)
        wider = (scaled(largest, scale) for scale in np.geomspace(1, fits, _STEPS + 1)[1:])
        return next((share for share in wider if keeps(share) >= _PAD_KEEPS), (1.0, 1.0))
    if framing.zoom > 1:
        closer = (scaled(largest, 1 / scale) for scale in np.geomspace(framing.zoom, 1, _STEPS + 1))
        return next(share for share in closer if keeps(share) >= _ZOOM_KEEPS * kept)
    return largest
