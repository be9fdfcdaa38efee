"""Areas of the picture: boxes and polygons that may move.

On the command line: `logo:20,10,200,80` is a box (x, y, width, height), `roof:0,0;50%,0;25%,30%` a
polygon. Numbers are pixels, or per cent of the width or height. Key frames add a time in seconds:
`car@1.5:0,0,100,50` and `car@4:300,0,100,50`; between them the area moves linearly; before the
first and after the last it is absent. For files see `avsal.areas.files`.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avsal.errors import UsageError
from avsal.prediction.settings import MAX_SECONDS, seconds_of
from avsal.results.records import decimal

Shape = tuple[tuple[float, float], ...]  # corners, x and y as fractions of width and height
Size = tuple[int, int]  # (width, height), pixels
Number = float | str  # pixels, or "5%"
# "x,y,w,h", "x,y;x,y;x,y", four numbers, or three and more corners (x, y)
Box = str | Sequence[Number] | Sequence[Sequence[Number]]
Key = tuple[str, float | None, Shape]  # name, seconds, shape

_ROUNDING = 1e-3  # of a side, by which rounding may place a corner outside
_MOMENT = 1e-6  # seconds; less is a rounding error
_PART = 0.1  # seconds for which an area that moves is taken to be where it is in their middle
_MOST_PARTS = 200  # of one frame; in a longer one the parts are longer
_NAME_LENGTH = 80
_MOST_CORNERS = 10_000
_DECIMALS = 12  # of a cell's cover: a cell that is covered whole counts as 1, not a rounding less


@dataclass(frozen=True)
class Area:
    """A named area.

    Attributes:
        name: unique among those that are measured together.
        shapes: its corners, at each time of `times`, or always the same.
        times: seconds since the first frame, ascending; empty if the area never changes.

    Raises:
        UsageError: the name is empty or too long, or the shapes and times do not fit together or
            into the picture.
    """

    name: str
    shapes: tuple[Shape, ...]
    times: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        try:
            _check_name(self.name)
            if self.shapes and np.ndim(self.shapes[0]) == 1:
                raise ValueError(f"{self.name}: shapes is one shape; give a tuple of shapes")
            for shape in self.shapes:
                _checked(self.name, shape, (1, 1))
            _check_times(self.name, self.shapes, self.times)
        except (TypeError, ValueError) as error:
            raise UsageError(f"area {one_line(error)}") from None

    def at(self, time: float) -> Shape | None:
        """Its corners at a time in seconds; None if it is absent then."""
        if not self.times:
            return self.shapes[0]
        if not self.times[0] <= time <= self.times[-1]:
            return None
        after = max(1, int(np.searchsorted(self.times, time)))
        before, later = self.times[after - 1], self.times[after]
        part = (time - before) / (later - before)
        first, last = (np.array(self.shapes[i]) for i in (after - 1, after))
        return tuple(map(tuple, first + part * (last - first)))

    def while_shown(self, time: float, duration: float) -> tuple[list[Shape], float]:
        """Its corners while a frame is shown, and for how many seconds of that it exists.

        Args:
            time, duration: of the frame, seconds.

        Returns:
            The corners in the middle of equal parts of that time, of a tenth of a second at most;
            none if it is absent.
        """
        if not self.times:
            return [self.shapes[0]], duration
        begin, end = max(time, self.times[0]), min(time + duration, self.times[-1])
        present = end - begin
        if present < 0 or (begin > time and present < _MOMENT):
            return [], 0.0
        parts = min(max(1, math.ceil(present / _PART - _MOMENT)), _MOST_PARTS)
        middles = (begin + (number + 0.5) / parts * present for number in range(parts))
        return [shape for middle in middles if (shape := self.at(middle))], present


def box(x: float, y: float, width: float, height: float) -> Shape:
    """The corners of a box given as fractions of the picture's width and height."""
    return (x, y), (x + width, y), (x + width, y + height), (x, y + height)


def cover(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """Which part of every cell of a grid a shape covers, float64 (height, width).

    Exact: the covers of two shapes that share an edge add up. Edges are split where they cross
    lines of the grid; each piece then tells how much is to the right of it in its cell and its row.

    Args:
        shape: a polygon that does not cross itself, inside the picture.
        size: (height, width) of the grid.
    """
    height, width = size
    corners = np.array(shape, np.float64) * (width, height)
    right_of = np.zeros((height + 1, width + 2))
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crossings = [np.array([0.0, 1.0]), (np.arange(height + 1) - y0) / (y1 - y0)]
        if x0 != x1:
            crossings.append((np.arange(width + 1) - x0) / (x1 - x0))
        along = np.unique(np.clip(np.concatenate(crossings), 0, 1))
        middle = (along[1:] + along[:-1]) / 2
        x, y = x0 + middle * (x1 - x0), y0 + middle * (y1 - y0)
        rise = np.diff(along) * (y1 - y0)
        column = np.clip(x.astype(int), 0, width)
        row = np.clip(y.astype(int), 0, height)
        np.add.at(right_of, (row, column), rise * (column + 1 - x))
        np.add.at(right_of, (row, column + 1), rise * (x - column))
    covered = np.abs(right_of.cumsum(axis=1)[:height, :width])
    return np.clip(np.round(covered, _DECIMALS), 0, 1)


def grid_areas(text: str) -> list[Area]:
    """The cells of a grid, row by row, from "COLUMNSxROWS" such as "3x3".

    Raises:
        UsageError: it is something else, or a grid of more than 100 cells.
    """
    match = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", str(text).strip())
    columns, rows = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= columns * rows <= 100:
        raise UsageError(f"grid {text}: give COLUMNSxROWS such as 3x3, 100 cells at most")
    return [
        Area(f"row {r + 1} column {c + 1}", (box(c / columns, r / rows, 1 / columns, 1 / rows),))
        for r in range(rows)
        for c in range(columns)
    ]


def parse_areas(texts: Iterable[str], size: Size) -> list[Area]:
    """Read areas as the command line gives them.

    Args:
        size: (width, height) of the picture, which pixels count in.

    Raises:
        UsageError: one cannot be understood, is outside the picture, or is not unique.
    """
    try:
        return collect([_parse(text, size) for text in texts])
    except ValueError as error:
        raise UsageError(f"area {one_line(error)}") from None


def area_of(name: str, shape: Box | Mapping[float, Box], size: Size) -> Area:
    """An area from a box or polygon, or from a mapping of seconds to boxes or polygons.

    Raises:
        UsageError: see `parse_areas`.
    """
    frames = shape if isinstance(shape, Mapping) else {None: shape}
    try:
        _check_name(name)
        keys = [
            (
                name,
                None if second is None else read_seconds(name, str(second)),
                read_shape(name, _box_text(name, box), size),
            )
            for second, box in frames.items()
        ]
        if not keys:
            raise ValueError(f"{name}: has no key frames")
        return collect(keys)[0]
    except (TypeError, ValueError) as error:
        raise UsageError(f"area {one_line(error)}") from None


def _box_text(name: str, box: Box) -> str:
    """A box or polygon that a program gives, as it is written on the command line."""
    if isinstance(box, str):
        return box
    try:
        values: list[Any] = list(box)
        corners = [values] if not values or np.ndim(values[0]) == 0 else values
        return ";".join(",".join(map(str, corner)) for corner in corners)
    except TypeError:
        raise ValueError(f"{name}: {box!r} is neither text nor numbers X,Y,WIDTH,HEIGHT") from None


def one_line(reason: object) -> str:
    """What is wrong as one short line that may be printed, whatever it quotes."""
    text = " ".join(str(reason).split())[:200]
    return "".join(c if c.isprintable() else "?" for c in text)


def _parse(text: str, size: Size) -> Key:
    name, colon, corners = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text}: give NAME:X,Y,WIDTH,HEIGHT or NAME:X,Y;X,Y;X,Y")
    name, at, time = name.rpartition("@")
    if not at:
        return time, None, read_shape(time, corners, size)
    return name, read_seconds(name, time), read_shape(name, corners, size)


def read_seconds(name: str, text: str) -> float:
    try:
        seconds = seconds_of(text) if ":" in text else decimal(text)
    except UsageError as error:
        raise ValueError(f"{name}: time {error}") from None
    if seconds is None or not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"{name}: time {text} is not a number of seconds")
    return seconds


def read_shape(name: str, text: str, size: Size) -> Shape:
    """Corners from "x,y,w,h" or "x,y;x,y;x,y"."""
    _check_unit(name, text)
    groups = [
        [_fraction(name, n, size[i % 2]) for i, n in enumerate(g.split(","))]
        for g in text.split(";")
    ]
    if len(groups) == 1 and len(groups[0]) == 4:
        shape = box(*groups[0])
    elif len(groups) >= 3 and all(len(group) == 2 for group in groups):
        shape = tuple((x, y) for x, y in groups)
    else:
        raise ValueError(
            f"{name}: {text} is neither a box X,Y,WIDTH,HEIGHT nor three or more X,Y;X,Y"
        )
    return _checked(name, shape, size)


def _check_unit(name: str, text: str) -> None:
    """Refuse fractions of the picture, which as pixels would be an area of next to nothing."""
    values = [decimal(number.strip()) for number in text.replace(";", ",").split(",")]
    pixels = [value for value in values if value is not None]
    sides = values[2:] if len(values) == 4 else []
    fractions = len(pixels) == len(values) and max(pixels) <= 1
    fractions = fractions and not all(map(float.is_integer, pixels))
    if fractions or any(side is not None and 0 < side < 1 for side in sides):
        raise ValueError(
            f"{name}: {text[:80]} is at most a pixel in width or height; give per cent, such as 5%"
        )


def _fraction(name: str, text: str, side: int) -> float:
    text = text.strip()
    value = decimal(text.removesuffix("%").rstrip())
    if value is None:
        raise ValueError(f"{name}: {text[:40] or 'nothing'} is neither pixels nor per cent")
    return value / (100 if text.endswith("%") else side)


def _checked(name: str, shape: Shape, size: Size) -> Shape:
    corners = np.array(shape, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or not 3 <= len(corners) <= _MOST_CORNERS:
        raise ValueError(f"{name}: give 3 to {_MOST_CORNERS} corners (x, y)")
    if not np.isfinite(corners).all():
        raise ValueError(f"{name}: a corner is not a number")
    if corners.min() < -_ROUNDING or corners.max() > 1 + _ROUNDING:
        x, y = corners[np.abs(corners - 0.5).max(axis=1).argmax()] * size
        raise ValueError(
            f"{name}: reaches to ({x:.4g}, {y:.4g}), outside the {size[0]}x{size[1]} picture; "
            "give the part of it that is inside"
        )
    inside = np.clip(corners, 0, 1)
    x, y = inside.T
    if abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) < 1e-9:
        raise ValueError(f"{name}: covers nothing; give its corners in their order around it")
    return tuple(map(tuple, inside.tolist()))


def _check_name(name: str) -> None:
    fits = isinstance(name, str) and name.strip() and len(name) <= _NAME_LENGTH
    if not fits or not name.isprintable():
        raise ValueError(
            f"{str(name)[:_NAME_LENGTH]!r}: is not a name; give 1 to {_NAME_LENGTH} characters"
        )


def _check_times(name: str, shapes: Sequence[Shape], times: Sequence[float]) -> None:
    """Check that key frames have one time each, in order, and that corners can be interpolated."""
    if not times and len(shapes) != 1:
        raise ValueError(f"{name}: has {len(shapes)} shapes without times; give one, or times")
    if len(times) == 1:
        raise ValueError(f"{name}: has one key frame only; give its end too, or no time")
    if times and len(times) != len(shapes):
        raise ValueError(f"{name}: has {len(shapes)} shapes and {len(times)} times")
    if not all(0 <= time <= MAX_SECONDS for time in times):
        raise ValueError(f"{name}: a time is not a number of seconds")
    if any(later <= time for time, later in itertools.pairwise(times)):
        raise ValueError(f"{name}: two key frames have the same time, or the times do not ascend")
    if len(set(map(len, shapes))) > 1:
        raise ValueError(f"{name}: its key frames have different numbers of corners")


def collect(keys: Iterable[Key]) -> list[Area]:
    by_name: dict[str, list[tuple[float | None, Shape]]] = {}
    for name, time, shape in keys:
        _check_name(name)
        by_name.setdefault(normal_name(name), []).append((time, shape))
    return [_area(name, frames) for name, frames in by_name.items()]


def normal_name(name: str) -> str:
    """A name with accents in their composed form, so that names that look the same are the same."""
    return unicodedata.normalize("NFC", name.strip())


def _area(name: str, frames: list[tuple[float | None, Shape]]) -> Area:
    times = [time for time, _shape in frames if time is not None]
    if not times:
        if len(frames) > 1:
            raise ValueError(f"{name}: is there twice; give another name, or times: {name}@SECONDS")
        return Area(name, (frames[0][1],))
    if len(times) < len(frames):
        raise ValueError(f"{name}: has key frames with and without a time")
    ordered = sorted(frames, key=lambda frame: frame[0] or 0)
    shapes, times = tuple(shape for _t, shape in ordered), sorted(times)
    _check_times(name, shapes, times)
    return Area(name, shapes, tuple(times))


def check_unique(areas: Sequence[Area]) -> None:
    """Refuse areas of the same name.

    Raises:
        UsageError: there are two, or what is given is not a sequence of areas.
    """
    if not isinstance(areas, Sequence) or not all(isinstance(area, Area) for area in areas):
        raise UsageError(f"areas {areas!r}: give a list of Area objects")
    counts = Counter(normal_name(area.name) for area in areas)
    for name, count in counts.items():
        if count > 1:
            raise UsageError(f"area {name}: is there twice; give another name")
