"""Maps reduced to a small grid, and how much of them is inside a crop or cut by its edges."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from avsal.atomic import write_errors
from avsal.crops.settings import Share

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
