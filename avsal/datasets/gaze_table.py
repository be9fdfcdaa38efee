"""Tables of gaze points: text with one row per sample or fixation under a header.

The columns are `time` (seconds from the video's first frame; `time_ms`, `time_us` and `time_ns` are
read too), `x` and `y` (pixels of the displayed video or fractions of its size), and optionally
`observer`, `duration` (seconds; or `duration_ms`) or `end` of a fixation and `video` (a file name).
A table for several videos needs the last one.
"""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

import numpy as np

from avsal.datasets.gaze import Points
from avsal.errors import DataError, cause_of, require_file
from avsal.media.suffixes import VIDEOS
from avsal.text import NO_THOUSANDS, THOUSANDS, Separators, delimiter_of, read_rows

_OF_GAZE = ("", "gaze_", "gaze_point_", "fixation_", "fixation_point_")
COLUMNS = {  # possible names of each column; the first one in the table is read
    "time": ("time", "t", "start", "start_time", "onset", "timestamp", "start_timestamp"),
    "x": tuple(gaze + x for gaze in _OF_GAZE for x in ("x", "x_px")),
    "y": tuple(gaze + y for gaze in _OF_GAZE for y in ("y", "y_px")),
    "observer": tuple(
        who + ending
        for who in ("observer", "subject", "participant", "viewer", "subj", "user", "person")
        for ending in ("", "_id", "id", "_name", "_no")
    ),
    "duration": ("duration", "fixation_duration", "gaze_event_duration"),
    "end": ("end", "end_time", "end_timestamp"),  # read if there is no duration
    "video": ("video", "file", "clip", "stimulus", "video_name", "filename", "file_name"),
}
REQUIRED = ("time", "x", "y")
IN_TIME = ("time", "duration", "end")
NUMERIC = ("x", "y", *IN_TIME)
# Units in a second, by the ending of a column's name.
UNITS_OF_TIME = {"": 1, "_s": 1, "_sec": 1, "_seconds": 1, "_ms": 1000, "_msec": 1000}
UNITS_OF_TIME |= {"_us": 10**6, "_\N{GREEK SMALL LETTER MU}s": 10**6, "_ns": 10**9}
LOST = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "missing", ".", "-", "--", "?"))
_ROUNDING = 6e-4  # seconds, by which times may be off: a frame's 1/30 s may be written as 0.033
_SHOWN = 120  # characters of a row or a header in a message


@dataclass(frozen=True)
class GazeRows:
    """Rows of a table that belong to one video, sorted by time.

    Attributes:
        times, durations: seconds, float64 (n,).
        places: x and y as written, float32 (n, 2); NaN where the tracker lost the eyes.
        observers: numbers from 0, (n,); None if the table has no such column.
        table: path of the table.
        unread: names of the table's columns that have no known meaning.
        lost: number of rows without a time.
    """

    times: np.ndarray
    durations: np.ndarray
    places: np.ndarray
    observers: np.ndarray | None
    table: str = ""
    unread: tuple[str, ...] = ()
    lost: int = 0

    def __len__(self) -> int:
        return len(self.times)

    def where(self, chosen: np.ndarray) -> GazeRows:
        """The rows that a mask or indices (n,) select."""
        return replace(
            self,
            times=self.times[chosen],
            durations=self.durations[chosen],
            places=self.places[chosen],
            observers=None if self.observers is None else self.observers[chosen],
        )

    def shown(self, start: float, end: float) -> Points:
        """Points of the rows between `start` and `end`, at least in part.

        Times may be rounded to milliseconds: a row that begins just before `start` begins there,
        and one that ends just after `start` ends there.
        """
        earliest = start - _ROUNDING
        longest = self.durations.max(initial=0.0)
        first, last = np.searchsorted(self.times, (earliest - longest, end - _ROUNDING))
        rows = self.where(np.arange(first, last))
        ends = rows.times + rows.durations
        touching = rows.where((rows.times >= earliest) | (ends > start + _ROUNDING))
        return Points.inside(touching.places, touching.observers)


NO_ROWS = GazeRows(np.zeros(0), np.zeros(0), np.zeros((0, 2), np.float32), None)


@dataclass(frozen=True)
class GazeTable:
    """A table as it was read.

    Attributes:
        path: the text file.
        numbers: float64 (n, 4): time and duration in seconds, x and y as written.
        observers: text of the column (n,); None without the column.
        videos: text of the column (n,); None without the column.
        unread: names of the columns that have no known meaning.
    """

    path: Path
    numbers: np.ndarray
    observers: np.ndarray | None
    videos: np.ndarray | None
    unread: tuple[str, ...] = ()

    def of_video(self, video: Path) -> GazeRows:
        """The rows of one video.

        Raises:
            DataError: the table has only other videos, or several that may be this one.
        """
        if self.videos is None:
            return self._rows(np.ones(len(self.numbers), bool))
        names = list(dict.fromkeys(self.videos))
        matching = _most_alike(video.absolute(), names)
        if not matching:
            raise DataError(
                f"{self.path}: has gaze for {_listed(names)}, not for {video.name}; give the "
                "video that was shown, or correct the column video"
            )
        return self._rows(np.isin(self.videos, _of_one(matching, names, self.path)))

    def by_video(self, folder: Path) -> dict[Path, GazeRows]:
        """The rows of each video in a folder.

        Raises:
            DataError: the table has no column of videos, or names one that is not there.
        """
        if self.videos is None:
            raise DataError(f"{self.path}: needs a column video that names the files of {folder}")
        owners = {name: _file(self.path, folder, name) for name in dict.fromkeys(self.videos)}
        rows = {}
        for path in dict.fromkeys(owners.values()):
            names = [name for name, owner in owners.items() if owner == path]
            rows[path] = self._rows(np.isin(self.videos, _of_one(names, names, self.path)))
        return rows

    def _rows(self, chosen: np.ndarray) -> GazeRows:
        times, durations, x, y = self.numbers[chosen].T
        observers = None
        if self.observers is not None:
            observers = np.unique(self.observers[chosen], return_inverse=True)[1]
        timed = np.isfinite(times)
        rows = GazeRows(
            times,
            np.nan_to_num(np.maximum(durations, 0)),
            np.stack([x, y], axis=1).astype(np.float32),
            observers,
            str(self.path),
            self.unread,
            int((~timed).sum()),
        ).where(timed)
        return rows.where(np.argsort(rows.times, kind="stable"))


def _file(table: Path, folder: Path, name: str) -> Path:
    """The video in a folder that has a name in a table."""
    relative = PureWindowsPath(name)
    if not relative.anchor and ".." not in relative.parts and name:
        direct = folder / relative.as_posix()
        if direct.is_file():
            return direct
    elif (folder / relative.name).is_file():
        return folder / relative.name
    files = {path.relative_to(folder).as_posix(): path for path in _videos(folder)}
    matching = _most_alike(Path(relative.as_posix()), files)
    if not matching:
        raise DataError(f"{folder / name}: missing, though {table} has gaze for it")
    if len(matching) > 1:
        raise DataError(f"{table}: {name} may be {_listed(matching)} of {folder}; name the folder")
    return files[matching[0]]


def _of_one(matching: list[str], names: Iterable[str], table: Path) -> list[str]:
    """The names that are spellings of the same path as the matching ones, or of its last parts."""
    longest = max((_folded(_parts(name)) for name in matching), key=len)
    alike = [name for name in names if _ends(longest, _folded(_parts(name)))]
    other = [name for name in matching if name not in alike]
    if other:
        both = _listed([*alike[:1], *other])
        raise DataError(f"{table}: {both} may be the same video; keep the rows of one")
    return alike


def _ends(parts: list[str], last: list[str]) -> bool:
    return bool(last) and _agreement(parts, last) == len(last)


def _videos(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS)
    return sorted(path for path in found if path.is_file())


def _most_alike(path: Path, spellings: Iterable[str]) -> list[str]:
    """The names that agree with a path in the most parts, counted from the end.

    Names may have slashes or backslashes, all or none of the folders, upper or lower case, and, if
    nothing else agrees, no suffix or another one.
    """
    wanted = _parts(str(path))
    for simplified in (list, _folded, _without_suffix):
        agreements = {
            name: _agreement(simplified(wanted), simplified(_parts(name))) for name in spellings
        }
        most = max(agreements.values(), default=0)
        if most:
            return [name for name, agreement in agreements.items() if agreement == most]
    return []


def _parts(name: str) -> list[str]:
    return list(PureWindowsPath(unicodedata.normalize("NFC", name)).parts)


def _folded(parts: list[str]) -> list[str]:
    return [part.casefold() for part in parts]


def _without_suffix(parts: list[str]) -> list[str]:
    return [*_folded(parts[:-1]), *(PureWindowsPath(part).stem.casefold() for part in parts[-1:])]


def _agreement(first: list[str], second: list[str]) -> int:
    """Number of equal parts, counted from the end."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    differing = (number for number, (one, other) in enumerate(pairs) if one != other)
    return next(differing, min(len(first), len(second)))


def _listed(names: Iterable[str], most: int = 3) -> str:
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(name or "''" for name in every[:most]) + more


def read_table(path: Path) -> GazeTable:
    """Read a table.

    Raises:
        DataError: the file is missing, lacks a column, or has a row without numbers.
    """
    require_file(path, "table")
    try:
        rows = read_rows(path)
        _line, names = next(rows)
        columns, units = _columns(names, path)
        unread = tuple(name for i, name in enumerate(names) if i not in columns.values())
        content = _Content(path, columns, units, len(names), delimiter_of(path))
        for line, row in rows:
            content.add(row, line)
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({cause_of(error)})") from None
    return content.table(unread)


def _columns(header: Sequence[str], path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Index of each column that is read, and for those in time their units in a second."""
    # NFKC has one letter for the two that look like a micro sign.
    folded = (unicodedata.normalize("NFKC", name).lower() for name in header)
    names = [re.sub(r"[\s()\[\]]+", "_", name).strip("_") for name in folded]
    found: dict[str, int] = {}
    units: dict[str, int] = {}
    for meaning, known in COLUMNS.items():
        endings = UNITS_OF_TIME if meaning in IN_TIME else {"": 1}
        spellings = {name + end: unit for name in known for end, unit in endings.items()}
        spelling = next((spelling for spelling in spellings if spelling in names), None)
        if spelling is not None and not (meaning == "end" and "duration" in found):
            found[meaning] = names.index(spelling)
            units[meaning] = spellings[spelling]
    if "end" in found and names[found["end"]] in COLUMNS["end"]:  # without a unit of its own
        units["end"] = units.get("time", 1)
    missing = [meaning for meaning in REQUIRED if meaning not in found]
    if missing:
        listed = ", ".join(header)[:_SHOWN] or "none"
        hint = "commas, semicolons or tabs separate columns"
        if len(header) > 1:
            hint = "rename the columns that hold them"
        raise DataError(f"{path}: has the columns {listed}; missing {', '.join(missing)} ({hint})")
    return found, units


@dataclass
class _Content:
    """The rows read so far."""

    path: Path
    columns: dict[str, int]
    units: dict[str, int]
    width: int
    delimiter: str
    _numbers: list[list[float]] = field(default_factory=list)
    _observers: list[str] = field(default_factory=list)
    _videos: list[str] = field(default_factory=list)
    _thousands: str = ""  # the first number whose comma may separate thousands
    _has_decimal_comma: bool = False  # in a number whose comma can be nothing else
    _has_point: bool = False

    def __post_init__(self) -> None:
        self._numeric = {name: self.columns[name] for name in NUMERIC if name in self.columns}
        self._separators = [Separators() for _ in self._numeric]

    def add(self, row: list[str], line: int) -> None:
        """Add a row; raises DataError."""
        columns = self.columns
        try:
            if len(row) > self.width:
                raise ValueError
            texts = [row[index] for index in self._numeric.values()]
            numbers = list(map(self._number, texts))
            for text, separators in zip(texts, self._separators, strict=True):
                separators.look(text)
            if "observer" in columns:
                self._observers.append(row[columns["observer"]].strip())
            if "video" in columns:
                self._videos.append(row[columns["video"]].strip())
        except (ValueError, IndexError):
            text = f"{self.path}:{line}: {','.join(row)[:_SHOWN]!r} is not a row of numbers"
            if len(row) != self.width:
                text += f"; it has {len(row)} fields, the header {self.width}"
            if len(row) > self.width:
                text += " (decimal commas need semicolons between columns)"
            raise DataError(text) from None
        self._numbers.append(numbers)

    def _number(self, text: str) -> float:
        """A number; NaN for any spelling of a lost sample."""
        try:
            value = float(text)
        except ValueError:
            if text.strip().casefold() in LOST:
                return math.nan
            value = float(text.replace(",", ".", 1))
            if not THOUSANDS.fullmatch(text.strip()):
                self._has_decimal_comma = True
            elif not self._thousands:
                self._thousands = text.strip()
        else:
            self._has_point |= "." in text
        return value if math.isfinite(value) else math.nan

    def table(self, unread: tuple[str, ...]) -> GazeTable:
        """The complete table; raises DataError."""
        if not self._numbers:
            raise DataError(f"{self.path}: has a header and no rows")
        if (self._thousands or self._has_decimal_comma) and self._has_point:
            raise DataError(
                f"{self.path}: has numbers with a comma and numbers with a point; write all of "
                "them with a decimal point, without thousands separators"
            )
        if self._thousands and self.delimiter == "," and not self._has_decimal_comma:
            raise DataError(f"{self.path}: {self._thousands}: {NO_THOUSANDS}")
        for separators in self._separators:
            if separators.problem:
                raise DataError(f"{self.path}: {separators.problem}")
        found = dict(zip(self._numeric, np.array(self._numbers, np.float64).T, strict=True))
        # A quotient is the nearest number to the seconds, a product with 0.001 may be the next one.
        seconds = {name: found[name] / self.units[name] for name in IN_TIME if name in found}
        times = seconds["time"]
        ends = seconds.get("end", times)
        durations = seconds.get("duration", ends - times)
        numbers = np.stack([times, durations, found["x"], found["y"]], axis=1)
        observers = np.array(self._observers) if "observer" in self.columns else None
        videos = np.array(self._videos) if "video" in self.columns else None
        return GazeTable(self.path, numbers, observers, videos, unread)
