"""A table of gaze on one video: `time,x,y` with optional `observer` and `duration` columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avsal.datasets.arrays import read_lines
from avsal.datasets.points import UNKNOWN_OBSERVER, GazePoints
from avsal.errors import DataError

NEEDED = ("time", "x", "y")
FRACTION_TOP = 1.0  # a table whose x and y stay within this is in fractions, else in pixels


@dataclass(frozen=True)
class GazeTable:
    """Gaze on one video over time.

    Attributes:
        points: all places.
        start, end: float (n,), seconds since the first frame during which each place was looked
            at; equal for a sample without a duration.
    """

    points: GazePoints
    start: np.ndarray
    end: np.ndarray

    def during(self, time: float, duration: float) -> GazePoints:
        """Points on a frame that is shown from `time` for `duration` seconds."""
        sampled = (self.start >= time) & (self.start < time + duration)
        lasting = (self.start < time + duration) & (self.end > time)
        return self.points.take(sampled | lasting)


def read_gaze_table(path: Path, size: tuple[int, int]) -> GazeTable:
    """Read a table of gaze (.csv with a header; comma, semicolon or tab).

    Args:
        size: (height, width) of the video, for places in pixels. Places are fractions of it where
            none of the table is over 1.

    Raises:
        DataError: the file is missing, lacks a column or holds something that is no number.
    """
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path}: empty; give a header time,x,y,observer and one line a sample")
    separator = max(",;\t", key=lines[0].count)
    names = [name.strip().lower() for name in next(csv.reader([lines[0]], delimiter=separator))]
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise DataError(f"{path}: no column {missing[0]}; the header needs time,x,y[,observer]")
    rows = list(csv.DictReader(lines[1:], names, delimiter=separator))
    if not rows:
        raise DataError(f"{path}: no samples under the header; give one line a sample")
    columns = {name: _numbers(path, rows, name) for name in (*NEEDED, "duration") if name in names}
    return _table(columns, _observers(rows) if "observer" in names else None, size)


def _numbers(path: Path, rows: Iterable[dict[str, str]], name: str) -> np.ndarray:
    values = []
    for line, row in enumerate(rows, 2):
        try:
            values.append(float(row[name]))
        except (TypeError, ValueError):
            raise DataError(f'{path}: line {line}: {name} "{row[name]}" is no number') from None
    return np.array(values)


def _observers(rows: Iterable[dict[str, str]]) -> np.ndarray:
    """Numbers for the observers' names, in order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(str(row["observer"]), len(numbers)) for row in rows])


def _table(
    columns: dict[str, np.ndarray], observers: np.ndarray | None, size: tuple[int, int]
) -> GazeTable:
    x, y, start = columns["x"], columns["y"], columns["time"]
    duration = columns.get("duration", np.zeros_like(start))
    height, width = size
    if np.nanmax([np.nanmax(x), np.nanmax(y)]) > FRACTION_TOP:
        x, y = x / width, y / height
    if observers is None:
        observers = np.full(x.size, UNKNOWN_OBSERVER)
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(start)
    points = GazePoints(x[known], y[known], observers[known])
    return GazeTable(points, start[known], (start + np.nan_to_num(duration))[known])
