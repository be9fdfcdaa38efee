"""`saliency.json`: what made a result, and one record a frame; written and read as a stream.

The records come last and one a line, so that a long video needs no memory on either side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn, TextIO

from avsal.errors import MediaError
from avsal.prediction.saliency import SaliencyFrame

DESCRIPTION = "saliency.json"

_CHUNK = 16 * 1024  # characters read at once
_LONGEST_RECORD = 64 * 1024  # characters; avsal's own have about 150
_LONGEST_HEADER = 1024 * 1024
_RECORDS = re.compile(r'"frames"\s*:\s*\[')
_SECONDS = re.compile(r"-?\d{1,24}(/[1-9]\d{0,24})?")
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)
_LARGEST = 10**15  # of any number


@dataclass(frozen=True)
class FrameRecord:
    """What `saliency.json` says of one frame.

    Attributes:
        index: frame number from 0; maps are named after it.
        pts: presentation time on the container's clock, seconds, exact.
        time: seconds since the video's first frame.
        peak: (x, y) of the most salient pixel of the map.
        entropy: bits, of the map at the network's own size.
        min, max: densities that the lowest and the highest gray level stand for.
    """

    index: int
    pts: Fraction
    time: float
    peak: tuple[int, int]
    entropy: float
    min: float
    max: float

    @classmethod
    def of(cls, frame: SaliencyFrame, low: float, high: float) -> FrameRecord:
        """The record of a frame whose densities from `low` to `high` span all gray levels."""
        entropy = round(frame.entropy, 4)
        return cls(
            frame.index,
            frame.pts,
            round(frame.time, 6),
            frame.peak,
            entropy,
            float(low),
            float(high),
        )

    @classmethod
    def parse(cls, values: Any) -> FrameRecord:
        """The record that JSON values stand for.

        Raises:
            ValueError, KeyError, TypeError: a value is missing or of the wrong kind.
        """
        index, pts, peak = values["index"], values["pts"], values["peak"]
        if type(index) is not int or not 0 <= index < _LARGEST:
            raise ValueError("index is no frame number")
        if not isinstance(pts, str) or not _SECONDS.fullmatch(pts):
            raise ValueError(f"frame {index}: pts is no fraction")
        if not isinstance(peak, list) or [type(number) for number in peak] != [int, int]:
            raise ValueError(f"frame {index}: peak is no pixel")
        time, entropy, low, high = (
            number(values, name) for name in ("time", "entropy", "min", "max")
        )
        return cls(index, Fraction(pts), time, (peak[0], peak[1]), entropy, low, high)

    def text(self) -> str:
        """The record as JSON."""
        return json.dumps({**asdict(self), "pts": str(self.pts)}, allow_nan=False)


def number(values: Any, name: str) -> float:
    """A finite number out of JSON values.

    Raises:
        ValueError, KeyError, TypeError: it is missing or something else.
    """
    value = values[name]
    if type(value) not in (int, float) or not abs(value) < _LARGEST:
        raise ValueError(f"{name} is no number")
    return float(value)


class DescriptionWriter:
    """Writes `saliency.json` record by record."""

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        """Start the file; names that are not UTF-8 are written as JSON escapes."""
        text = json.dumps(header, indent=1, ensure_ascii=False, allow_nan=False)
        self._file = (folder / DESCRIPTION).open("w", encoding="utf-8", errors="backslashreplace")
        self._file.write(text[:-2] + ',\n "frames": [')
        self._separator = "\n  "

    def add(self, record: FrameRecord) -> None:
        """Write the next record."""
        self._file.write(self._separator + record.text())
        self._separator = ",\n  "

    def close(self) -> None:
        """Finish the file."""
        self._file.write("\n ]\n}\n")
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file without finishing it; harmless after `close`."""
        with suppress(OSError):  # what was still to be written may not fit on the disk
            self._file.close()


def is_result(folder: Path) -> bool:
    """Whether a folder holds a finished result."""
    return (folder / DESCRIPTION).is_file()


def read_header(folder: Path) -> dict[str, Any]:
    """Everything in a folder's `saliency.json` but the records.

    Raises:
        MediaError: there is none, or it is damaged.
    """
    with _opened(folder) as file:
        return _header(folder, file)[0]


def read_records(folder: Path) -> Iterator[FrameRecord]:
    """The records of a folder's `saliency.json`, in order of frames and in constant memory.

    Raises:
        MediaError: see `read_header`.
    """
    before = -1
    with _opened(folder) as file:
        rest = _header(folder, file)[1]
        try:
            for values in _objects(file, rest):
                record = FrameRecord.parse(values)
                if record.index <= before:
                    raise ValueError(f"frame {record.index} comes after frame {before}")
                before = record.index
                yield record
        except UNREADABLE as error:
            raise damaged(folder, error) from error


def _opened(folder: Path) -> TextIO:
    path = folder / DESCRIPTION
    if not path.is_file():  # a pipe or a device would never end
        raise MediaError(f"{path}: missing; give a folder that avsal predict wrote")
    try:
        return path.open(encoding="utf-8")
    except OSError as error:
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> MediaError:
    """The one line for a `saliency.json` that cannot be understood."""
    reason = " ".join(str(error).split())[:120]
    if isinstance(error, KeyError):
        reason = f"{error} is missing"
    elif isinstance(error, RecursionError):
        reason = "nested too deeply"
    return MediaError(
        f"{folder / DESCRIPTION}: damaged, or not written by avsal predict ({reason}); run avsal "
        "predict again"
    )


def _header(folder: Path, file: TextIO) -> tuple[dict[str, Any], str]:
    """The values before the records, and the text that was read behind the records' bracket."""
    text = ""
    try:
        while not (records := _RECORDS.search(text)):
            more = file.read(_CHUNK)
            if not more or len(text) > _LONGEST_HEADER:
                raise ValueError("no list of frames in it")
            text += more
        header = json.loads(text[: records.start()].rstrip().removesuffix(",") + "}")
        return dict(header), text[records.end() :]
    except UNREADABLE as error:
        raise damaged(folder, error) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _objects(file: TextIO, text: str) -> Iterator[Any]:
    """The items of a JSON array of objects whose bracket lies before `text`."""
    while not (text := text.lstrip(" \t\r\n,")).startswith("]"):
        try:
            value, end = _DECODER.raw_decode(text)
        except ValueError:  # no JSON, or not read to its end
            more = file.read(_CHUNK)
            if not more or len(text) > _LONGEST_RECORD:
                raise
            text += more
        else:
            yield value
            text = text[end:]
