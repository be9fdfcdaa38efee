"""A table with one row of numbers for every frame, as CSV or Parquet.

Columns:

- index: frame number from 0.
- time: seconds since the video's first frame.
- duration: seconds that the frame is shown.
- peak_x, peak_y: the most salient pixel, in pixels of the video as displayed.
- centroid_x, centroid_y: the mean of the gaze, in the same pixels.
- spread: fraction of the picture that the smallest area with half of the gaze covers, 0 to 1.
- entropy: bits, of the map at the network's own size.
- shot: number of the shot from 0; empty where the shots are not known.
"""

from __future__ import annotations

import csv
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from avsal.errors import UsageError
from avsal.prediction.maps import SaliencyFrame, centroid_of, peak_of, spread_of
from avsal.prediction.shots import Shot

TABLE_STEM = "saliency"  # of a table in a result folder
SUFFIXES = (".csv", ".parquet")

# Digits after the point that are written; None is a whole number.
_DIGITS: dict[str, int | None] = {
    "index": None,
    "time": 6,
    "duration": 6,
    "peak_x": 2,
    "peak_y": 2,
    "centroid_x": 2,
    "centroid_y": 2,
    "spread": 6,
    "entropy": 4,
}


def check_table(path: Path) -> None:
    """Refuse a table that cannot be written, before anything is computed.

    Raises:
        UsageError: it is neither CSV nor Parquet, or the library for Parquet is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: maps are exported to a table; give a .csv or .parquet file")
    check_library(suffix.removeprefix("."))


def check_library(format: str) -> None:
    """Refuse "parquet" where the library for it is not installed; other formats need none.

    Raises:
        UsageError: it is not.
    """
    if format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("parquet: needs pyarrow; pip install 'avsal[parquet]', or write csv")


class Table:
    """Collects rows, 72 bytes each, and writes them once the shots are known."""

    def __init__(self, path: Path) -> None:
        """Start a table; the suffix tells its form.

        Raises:
            UsageError: see `check_table`.
        """
        check_table(path)
        self._path = path
        self._values = array("d")

    def add_frame(self, frame: SaliencyFrame) -> None:
        """Add the row of a predicted frame."""
        tag = frame.tag
        peak, centroid = (
            _to_picture(place, frame.density, (tag.width, tag.height))
            for place in (frame.peak, frame.centroid)
        )
        times = float(tag.time), float(tag.duration)
        self._add(tag.index, *times, *peak, *centroid, frame.spread, frame.entropy)

    def add_map(
        self,
        index: int,
        times: tuple[float, float],
        density: np.ndarray,
        entropy: float,
        size: tuple[int, int],
    ) -> None:
        """Add the row of a saved map.

        Args:
            times: seconds since the video's first frame, and seconds that the frame is shown.
            density: float (h, w).
            entropy: bits.
            size: (width, height) of the video as displayed, pixels.
        """
        peak, centroid = (
            _to_picture(place, density, size) for place in (peak_of(density), centroid_of(density))
        )
        self._add(index, *times, *peak, *centroid, spread_of(density), entropy)

    def _add(self, *values: float) -> None:
        rounded = zip(_DIGITS.values(), values, strict=True)
        self._values.extend(round(value, digits or 0) for digits, value in rounded)

    def write(self, shots: Sequence[Shot] | None) -> int:
        """Write the file and return the number of rows.

        Args:
            shots: of the video, ascending; None where they are not known.
        """
        columns = self._columns(shots)
        if self._path.suffix.lower() == ".csv":
            _write_csv(self._path, columns)
        else:
            _write_parquet(self._path, columns)
        return len(columns["index"])

    def _columns(self, shots: Sequence[Shot] | None) -> dict[str, list[Any]]:
        values = np.array(self._values).reshape(-1, len(_DIGITS))
        columns: dict[str, list[Any]] = {
            name: (column.astype(np.int64) if digits is None else column).tolist()
            for (name, digits), column in zip(_DIGITS.items(), values.T, strict=True)
        }
        starts = [shot.first for shot in shots or ()]
        columns["shot"] = [
            max(0, bisect_right(starts, index) - 1) if starts else None
            for index in columns["index"]
        ]
        return columns


def _to_picture(
    place: tuple[float, float], density: np.ndarray, size: tuple[int, int]
) -> tuple[float, float]:
    """A place in a map in pixels of the video; whole numbers are pixels' centres in both."""
    height, width = density.shape
    x = (place[0] + 0.5) * size[0] / width - 0.5
    y = (place[1] + 0.5) * size[1] / height - 0.5
    return x, y


def _write_csv(path: Path, columns: dict[str, list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    whole = {name for name, digits in _DIGITS.items() if digits is None} | {"shot"}
    kinds = {name: pyarrow.int64() if name in whole else pyarrow.float64() for name in columns}
    schema = pyarrow.schema(list(kinds.items()))
    parquet.write_table(pyarrow.table(columns, schema=schema), path)
