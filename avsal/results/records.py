"""Numbers from files that anyone may have written: type, length and range are checked first.

Text becomes a number only if it is short, as `Fraction("1e1000000000")` would compute for ever.
The functions raise ValueError, LookupError or TypeError with a short reason; the readers of files
add the file's name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

from avsal.errors import MediaError
from avsal.media.source import LARGEST_PICTURE

LARGEST = 10**15  # of any number
_EXACT = re.compile(r"-?\d{1,24}(/[1-9]\d{0,24}|\.\d{1,24})?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d{1,24}\.?\d{0,24}|\.\d{1,24})(e[+-]?\d{1,2})?", re.ASCII | re.I)
Record = TypeVar("Record")
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RecursionError)
_CHUNK = 16 * 1024  # characters read at once
_LONGEST_RECORD = 64 * 1024  # characters; avsal's own have about 150
_LONGEST_HEADER = 1024 * 1024
_RECORDS = re.compile(r'"frames"\s*:\s*\[')


def number(values: Any, name: Any, least: float = -LARGEST, most: float = LARGEST) -> float:
    """A finite number out of JSON values, from `least` to `most`."""
    value = values[name]
    if type(value) not in (int, float) or not abs(value) < LARGEST:
        raise ValueError(f"{name} is not a number")
    if not least <= value <= most:
        raise ValueError(f"{name} {value:g} is not from {least:g} to {most:g}")
    return float(value)


def whole(values: Any, name: str, kind: str = "whole number") -> int:
    """A whole number from 0 out of JSON values."""
    value = values[name]
    if type(value) is not int or not 0 <= value < LARGEST:
        raise ValueError(f"{name} is not a {kind}")
    return value


def exact(values: Any, name: str) -> Fraction:
    """An exact number out of JSON values, written as text: "1001/30000", "3" or "0.04"."""
    value = values[name]
    if not isinstance(value, str) or not _EXACT.fullmatch(value):
        raise ValueError(f"{name} is not a fraction")
    fraction = Fraction(value)
    if abs(fraction) >= LARGEST:
        raise ValueError(f"{name} is too large")
    return fraction


def ratio(values: Any, name: str) -> Fraction:
    """An exact number as text, or any other number."""
    if isinstance(values[name], str):
        return exact(values, name)
    return Fraction(number(values, name))


def decimal(text: str) -> float | None:
    """The number that a short text stands for; None where it is something else."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def picture_size(values: Any, names: tuple[Any, Any] = ("width", "height")) -> tuple[int, int]:
    """Width and height of a picture in pixels; whole floats count as whole numbers.

    Args:
        names: keys of the two in `values`.
    """
    sides = [number(values, name) for name in names]
    width, height = map(int, sides)
    text = f"{width}x{height} pixels"
    if [width, height] != sides or min(sides) < 1:
        raise ValueError(f"{text}: no size of a picture")
    if width * height > LARGEST_PICTURE:
        raise ValueError(f"{text}: too many")
    return width, height


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


# Reads JSON in which every number is finite. Digits of whole numbers are limited by Python itself.
JSON = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def plain(value: Any) -> float:
    """A number of NumPy, or a fraction, as `json.dumps` takes it; its argument `default`."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value if isinstance(value, Fraction) else str(value))  # float32's 0.1 is 0.1
    raise TypeError(f"{value!r} cannot be written as JSON")


class RecordsWriter:
    """Writes such a file, record by record."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        """Start the file; names that are not UTF-8 are written as JSON escapes."""
        text = json.dumps(header, indent=1, ensure_ascii=False, allow_nan=False, default=plain)
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
        self._file.write(text[:-2] + ',\n "frames": [')
        self._separator = "\n  "

    def add(self, record: dict[str, Any]) -> None:
        """Write the next record; exact numbers are written as text."""
        self._file.write(self._separator + json.dumps(record, allow_nan=False, default=str))
        self._separator = ",\n  "

    def close(self, after: Mapping[str, Sequence[dict[str, Any]]] | None = None) -> None:
        """Finish the file.

        Args:
            after: further lists of records; one per line, too.
        """
        self._file.write("\n ]")
        for name, records in (after or {}).items():
            lines = (json.dumps(record, allow_nan=False, default=str) for record in records)
            self._file.write(f",\n {json.dumps(name)}: [\n  " + ",\n  ".join(lines) + "\n ]")
        self._file.write("\n}\n")
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file without finishing it; harmless after `close`."""
        with suppress(OSError):  # what was still to be written may not fit on the disk
            self._file.close()


@dataclass(frozen=True)
class RecordsFile:
    """Such a file, to be read.

    Attributes:
        path: the file.
        made_by: the command that writes it, for errors.

    Raises:
        MediaError: from every method, the file is missing or damaged.
    """

    path: Path
    made_by: str

    def header(self) -> dict[str, Any]:
        """Everything in the file but the records."""
        with self._opened() as file:
            return self._header(file)[0]

    def records(self, parse: Callable[[int, Any], Record]) -> Iterator[Record]:
        """The record of every frame, in order and in constant memory.

        Args:
            parse: turns a frame's number and its JSON values into a record; raises one of
                `UNREADABLE` where they are wrong.
        """
        before = -1
        with self._opened() as file:
            rest = self._header(file)[1]
            try:
                for values in _objects(file, rest):
                    index = whole(values, "index", "frame number")
                    if index <= before:
                        raise ValueError(f"frame {index} comes after frame {before}")
                    before = index
                    yield _parsed(index, values, parse)
            except UNREADABLE as error:
                raise self.damaged(error) from error

    def after(self) -> dict[str, Any]:
        """What follows the records; empty where nothing does."""
        with self._opened() as file:
            objects = _objects(file, self._header(file)[1])
            try:
                rest = _last(objects).strip().removeprefix(",")
                return dict(JSON.decode("{" + (rest or "}")))
            except UNREADABLE as error:
                raise self.damaged(error) from error

    def damaged(self, error: Exception) -> MediaError:
        """The one line for a file that cannot be understood."""
        reason = " ".join(str(error).split())[:120]
        if isinstance(error, KeyError):
            reason = f"{error} is missing"
        elif isinstance(error, RecursionError):
            reason = "nested too deeply"
        return MediaError(
            f"{self.path}: damaged, or not written by {self.made_by} ({reason}); "
            f"run {self.made_by} again"
        )

    def _opened(self) -> TextIO:
        if not self.path.is_file():  # a pipe or a device would never end
            raise MediaError(f"{self.path}: missing; give one that {self.made_by} wrote")
        try:
            return self.path.open(encoding="utf-8")
        except OSError as error:
            raise self.damaged(error) from error

    def _header(self, file: TextIO) -> tuple[dict[str, Any], str]:
        """The values before the records, and the text that was read behind the records' bracket."""
        text = ""
        try:
            while not (records := _RECORDS.search(text)):
                more = file.read(_CHUNK)
                if not more or len(text) > _LONGEST_HEADER:
                    raise ValueError("no list of frames in it")
                text += more
            header = JSON.decode(text[: records.start()].rstrip().removesuffix(",") + "}")
            return dict(header), text[records.end() :]
        except UNREADABLE as error:
            raise self.damaged(error) from error


def _parsed(index: int, values: Any, parse: Callable[[int, Any], Record]) -> Record:
    try:
        return parse(index, values)
    except ValueError as error:
        raise ValueError(f"frame {index}: {error}") from error


def _last(objects: Generator[Any, None, str]) -> str:
    """Go through the items and return what comes after them."""
    while True:
        try:
            next(objects)
        except StopIteration as ended:
            return str(ended.value)


def _objects(file: TextIO, text: str) -> Generator[Any, None, str]:
    """The items of a JSON array of objects whose bracket is before `text`; returns the rest."""
    while not (text := text.lstrip(" \t\r\n,")).startswith("]"):
        try:
            value, end = JSON.raw_decode(text)
        except ValueError:  # no JSON, or not read to its end
            more = file.read(_CHUNK)
            if not more or len(text) > _LONGEST_RECORD:
                raise
            text += more
        else:
            yield value
            text = text[end:]
    return text[1:] + file.read(_LONGEST_HEADER)
