"""What is shown of a shot: one crop, a closer or a wider one, or two panels.

It works on maps reduced to a small grid. How much of them a crop holds, and how much its edges cut,
is measured here too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from math import log
from operator import attrgetter
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import map_coordinates, maximum_filter

from avsal.atomic import write_errors
from avsal.crops.motion import COSTS, PLACES, Cost, choose_places
from avsal.crops.settings import Fit, Framing, Picture, Share, scaled
from avsal.metrics import centre_prior

GRID = (36, 64)  # (height, width) to which maps are brought
_CHUNK = 512  # maps read at once
EDGE = 0.03  # of the picture's side; gaze that is closer to an edge of a crop is cut by it
_AT_BORDER = 1e-6  # of a picture's side

Weights = Callable[[np.ndarray, float, int], np.ndarray]  # see `coverage`


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


def edge_bands(offsets: np.ndarray, length: float, cells: int) -> np.ndarray:
    """Which part of every cell is close to an edge of a crop, float32 (n, cells).

    An edge of the crop that is an edge of the picture cuts nothing and does not count.

    Args:
        offsets, length, cells: see `coverage`.
    """
    start = np.asarray(offsets)
    bands = np.zeros((len(start), cells), np.float32)
    for edge in (start, start + length):
        inner = (edge > _AT_BORDER) & (edge < 1 - _AT_BORDER)
        bands += inner[:, None] * coverage(edge - EDGE, 2 * EDGE, cells)
    return bands


class Grids:
    """Maps in order, read back a few at a time, so that memory does not grow with their number.

    Use it in a `with` statement.
    """

    def __enter__(self) -> Grids:
        self._file = tempfile.TemporaryFile()
        self._count = 0
        return self

    def __exit__(self, *_error: object) -> None:
        with suppress(OSError):  # what did not fit on the disk is tried once more
            self._file.close()

    def __len__(self) -> int:
        return self._count

    def add(self, grid: np.ndarray) -> None:
        """Append a map on `GRID`.

        Raises:
            OutputError: the folder for temporary files is full.
        """
        with write_errors(Path(tempfile.gettempdir())):
            self._file.write(grid.astype(np.float32).tobytes())
            self._file.flush()
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

    def kept(
        self,
        offsets: Sequence[np.ndarray],
        share: Share,
        columns: Weights = coverage,
        rows: Weights = coverage,
    ) -> np.ndarray:
        """The share (n,) of the gaze of every map inside its crop.

        Args:
            offsets: in x and in y, (n,) each.
            columns, rows: give the weights of cells; `coverage` counts what is inside.
        """
        found = np.empty(self._count)
        for place, maps in self._chunks():
            across = columns(offsets[0][place], share[0], GRID[1])
            down = rows(offsets[1][place], share[1], GRID[0])
            found[place] = (np.matmul(down[:, None], maps)[:, 0] * across).sum(axis=1)
        return found

    def cut(self, offsets: Sequence[np.ndarray], share: Share) -> np.ndarray:
        """The share (n,) of the gaze of every map that an edge of its crop goes through."""
        sides = self.kept(offsets, share, columns=edge_bands)
        return sides + self.kept(offsets, share, rows=edge_bands)

    def mean(self) -> np.ndarray:
        """The mean map, float64 on `GRID`."""
        total = np.zeros(GRID)
        for _place, maps in self._chunks():
            total += maps.sum(axis=0, dtype=np.float64)
        return total / self._count


Way = tuple[np.ndarray, np.ndarray]  # offsets (n,) in x and in y, as fractions of the picture

# A map is sure of things that viewers do not look at; part of the gaze is expected in the middle.
# Chosen on the ten videos that the default network's validation weights never saw.
PRIOR_SHARE = 0.15
_PRIOR = centre_prior(GRID) / centre_prior(GRID).sum()

# By less than this share of the gaze, averaged over a shot, maps cannot tell a better crop from one
# in the middle.
LEAST_GAIN = 0.02
# Gaze that an edge goes through counts against a place: half a face is worse than none.
CUT_COST = 0.2
_ZOOM_KEEPS = 0.95  # a closer crop must keep so much of what the largest one keeps
_ENOUGH = 0.8  # a crop that keeps less of the gaze than this is widened or split
_STEPS = 5  # scales tried
_PANEL_PLACES = 33  # of a panel along each axis

_PANELS_KEEP = 0.7  # where two panels keep less of the gaze, it is on more than two things
# Less gaze between two panels than this, against the lower peak inside them, makes them two things.
_VALLEY = 0.5
_PANEL_SCALES = (1, 1.15)  # how much panels show across and down; 1 at the largest crop's scale

# What `Fit.AUTO` counts against a picture that is divided, and against one that is e times smaller
# than the largest crop shows it, in shares of gaze. Chosen on videos with recorded gaze that are
# not in `weights/recipe/gaze-validation.txt`: 19 for the first, ten of them for the second. With
# half of the first, four of 32 web pages are divided; now none is.
SPLIT_COST = 0.1
SMALL_COST = 0.44
_MODEST = (1.15, 1.3)  # times the largest crop


@dataclass(frozen=True)
class Layout:
    """One crop or two panels, for every control point of a shot.

    Attributes:
        size: of the crop, or of each panel.
        ways: of the crop, or of both panels.
        kept: mean share of the predicted gaze inside.
        cut: mean share of the predicted gaze that an edge goes through.
        scale: of what is shown, against the largest crop.
    """

    size: Share
    ways: tuple[Way, ...]
    kept: float
    cut: float
    scale: float = 1.0

    @property
    def whole(self) -> float:
        """The share of the gaze that is kept and not cut: text and faces may not be halved."""
        return self.kept - CUT_COST * self.cut

    @property
    def worth(self) -> float:
        """What `Fit.AUTO` compares: shares of gaze less what they cost."""
        split = SPLIT_COST if len(self.ways) > 1 else 0
        return self.whole - split - SMALL_COST * max(0, -log(self.scale))


def choose_layout(knots: Grids, picture: Picture, framing: Framing) -> Layout:
    """Choose how a shot is shown.

    Args:
        knots: its mean map at every control point.
    """
    largest = picture.largest_crop(framing.aspect)
    cost = COSTS[framing.motion]
    crop = _one_crop(knots, largest, 1, cost)
    if framing.fit == Fit.PAD and crop.kept < _ENOUGH:
        return _padded(knots, largest, cost)
    options = [crop]
    if framing.fit in (Fit.SPLIT, Fit.AUTO) and crop.kept < _ENOUGH:
        for scale in _PANEL_SCALES:
            options += _two_panels(knots, picture, framing, scale)
    if framing.fit == Fit.AUTO:
        scales = [scale for scale in _MODEST if scale < 1 / min(largest)] + _wider(largest)
        options += [_one_crop(knots, largest, scale, cost) for scale in scales]
    best = max(options, key=attrgetter("worth"))
    if best is not crop:
        return best
    if framing.zoom > 1:
        return _closer(knots, crop, framing.zoom, cost)
    return crop


def _one_crop(knots: Grids, largest: Share, scale: float, cost: Cost) -> Layout:
    """The best way of a crop `scale` times as large as the largest one of its shape."""
    size = scaled(largest, scale)
    way = _places(knots, size, cost)
    kept, cut = float(knots.kept(way, size).mean()), float(knots.cut(way, size).mean())
    return Layout(size, (way,), kept, cut, 1 / scale)


def _padded(knots: Grids, largest: Share, cost: Cost) -> Layout:
    """The least widened crop that keeps enough, or the whole picture."""
    for scale in _wider(largest):
        crop = _one_crop(knots, largest, scale, cost)
        if crop.whole >= _ENOUGH:
            return crop
    return crop


def _wider(largest: Share) -> list[float]:
    """Scales up to that of the whole picture."""
    return [float(scale) for scale in np.geomspace(1, 1 / min(largest), _STEPS + 1)[1:]]


def _closer(knots: Grids, crop: Layout, zoom: float, cost: Cost) -> Layout:
    """The closest crop that keeps nearly what the largest one keeps."""
    for scale in np.geomspace(zoom, 1, _STEPS + 1):
        closer = _one_crop(knots, crop.size, 1 / float(scale), cost)
        if closer.kept >= _ZOOM_KEEPS * crop.kept:
            return closer
    return crop


def _places(knots: Grids, share: Share, cost: Cost) -> Way:
    """Offsets (n,) in x and y that keep most of the expected gaze and cut little of it.

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
        weights = coverage(candidates, share[axis], cells)
        weights -= CUT_COST * edge_bands(candidates, share[axis], cells)
        offsets[axis] = choose_places(profile @ weights.T, share[axis], cost)
        covers[axis] = coverage(offsets[axis], share[axis], cells)
    middle = [np.full(len(knots), (1 - length) / 2) for length in share]
    gained = _whole(knots, offsets, share) - _whole(knots, middle, share)
    x, y = offsets if gained.mean() >= LEAST_GAIN else middle
    return x, y


def _whole(knots: Grids, offsets: Sequence[np.ndarray], share: Share) -> np.ndarray:
    return knots.kept(offsets, share) - CUT_COST * knots.cut(offsets, share)


def _two_panels(knots: Grids, picture: Picture, framing: Framing, scale: float) -> Iterator[Layout]:
    """The two places, still throughout the shot, that together keep most; or none.

    Each panel fills half of the result and shows `scale` times as much, across and down, as at the
    scale of the largest crop. Panels neither overlap nor divide what is one thing.
    """
    size = _panel(picture, framing.aspect, scale)
    starts_x, starts_y = (np.linspace(0, 1 - length, _PANEL_PLACES) for length in size)
    columns, rows = (
        (coverage(starts, length, cells), edge_bands(starts, length, cells))
        for starts, length, cells in zip((starts_x, starts_y), size, reversed(GRID), strict=True)
    )
    mean = knots.mean()
    inside = rows[0] @ mean @ columns[0].T
    cut = rows[0] @ mean @ columns[1].T + rows[1] @ mean @ columns[0].T
    worth = (inside - CUT_COST * cut).ravel()
    x, y = (starts.ravel() for starts in np.meshgrid(starts_x, starts_y))
    apart = np.abs(np.subtract.outer(x, x)) >= size[0] - 1e-9
    apart |= np.abs(np.subtract.outer(y, y)) >= size[1] - 1e-9
    if not apart.any():
        return
    pairs = np.where(apart, np.add.outer(worth, worth), -np.inf)
    first, second = map(int, np.unravel_index(pairs.argmax(), pairs.shape))
    if not _are_two(mean, [(x[n], y[n]) for n in (first, second)], size):
        return
    side_by_side = abs(x[first] - x[second]) >= size[0] / 2
    order = sorted((first, second), key=(x if side_by_side else y).item)
    ways = tuple((np.full(len(knots), x[n]), np.full(len(knots), y[n])) for n in order)
    kept = [float(knots.kept(way, size).mean()) for way in ways]
    cuts = [float(knots.cut(way, size).mean()) for way in ways]
    if sum(kept) >= _PANELS_KEEP:
        yield Layout(size, ways, sum(kept), sum(cuts), 1 / scale)


def _panel(picture: Picture, aspect: Fraction, scale: float) -> Share:
    """What fills half of the result."""
    across, down = picture.largest_crop(aspect)
    if scale > 1:  # where the largest crop misses the shape by a pixel, a wider one would by more
        shape = float(aspect / picture.aspect)
        across, down = min(1.0, shape), min(1.0, 1 / shape)
    return scaled((across, down / 2) if aspect < picture.aspect else (across / 2, down), scale)


def _are_two(mean: np.ndarray, places: Sequence[tuple[float, float]], size: Share) -> bool:
    """Whether the gaze has a peak inside each of two panels, and a valley between the peaks.

    A peak is a maximum of the whole map: the flank of what the other panel shows is none.
    """
    rows, columns = np.nonzero(mean == maximum_filter(mean, 3, mode="nearest"))
    centres = (np.stack([columns, rows], axis=1) + 0.5) / GRID[::-1]
    peaks = []
    for place in places:
        inside = ((centres >= place) & (centres <= np.add(place, size))).all(axis=1)
        if not inside.any():
            return False
        highest = np.where(inside, mean[rows, columns], -1).argmax()
        peaks.append((rows[highest], columns[highest]))
    (top, left), (bottom, right) = peaks
    line = np.linspace(top, bottom, _PANEL_PLACES), np.linspace(left, right, _PANEL_PLACES)
    heights = map_coordinates(mean, line, order=1)
    return bool(heights.min() < _VALLEY * min(heights[0], heights[-1]))
