"""Settings that travel through the pipeline, and the words that the command line accepts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from avsal.errors import UsageError, nearest

if TYPE_CHECKING:
    from avsal.media.frames import FrameInfo

# Version of the way from frames to maps: raise it where the same weights and settings give other
# maps, so that results and scores of the earlier way are made again.
PROCESSING = 4

Seconds = float | Fraction


class Format(StrEnum):
    """Kinds of files that maps are written to; the last two hold numbers and no maps."""

    PNG = "png"
    PNG16 = "png16"
    NPY = "npy"
    VIDEO = "video"
    CSV = "csv"
    PARQUET = "parquet"


class Scale(StrEnum):
    """What the highest gray level stands for."""

    FRAME = "frame"
    CLIP = "clip"
    PROBABILITY = "probability"


class Precision(StrEnum):
    """Compute dtypes that can be asked for."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class EngineName(StrEnum):
    """What computes a network."""

    AUTO = "auto"
    TORCH = "torch"
    ONNX = "onnx"
    OPENVINO = "openvino"


def check_word(name: str, word: str, known: type[StrEnum]) -> None:
    """Refuse a word that is none of the known ones.

    Raises:
        UsageError: it is none of them.
    """
    if word not in list(known):
        # A file may hold anything in the place of a word.
        hint = nearest(str(word), known) or f"; give one of {', '.join(known)}"
        raise UsageError(f"{name} {word}: is unknown{hint}")


def check_device(name: str) -> None:
    """Refuse the name of a device that no machine has.

    Raises:
        UsageError: it is none of auto, cpu, cuda and cuda:N.
    """
    if not isinstance(name, str):
        raise UsageError(f'device {name!r}: is not text; give "auto", "cpu", "cuda" or "cuda:N"')
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        return
    is_gpu = name.lower() in ("gpu", "nvidia")
    hint = "; did you mean cuda?" if is_gpu else nearest(name, ("auto", "cpu", "cuda"))
    raise UsageError(f"device {name}: is unknown{hint or '; give auto, cpu, cuda or cuda:N'}")


MAX_SECONDS = 1e9  # 32 years; in a container's unit of time it still fits into 64 bits
_LATE = 0.5  # seconds by which a part may begin late and nobody notices
MAX_SIDE = 16_384  # pixels of a map's width or height
MAX_PIXELS = 2**26  # of a map, 8192 x 8192; in float32 256 MB


def exact_seconds(seconds: float) -> Fraction:
    """The decimal number that a person wrote: 0.04 is 1/25, not the nearest binary fraction."""
    return Fraction(str(seconds))


def seconds_of(text: str) -> float:
    """Read seconds as people write them: "62.5", "1:02.5", "00:01:02.5".

    Raises:
        UsageError: the text is none of these.
    """
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", text.strip(), re.ASCII)
    hours, minutes, seconds = match.groups() if match else (None, None, "60")
    too_large = (minutes and float(seconds) >= 60) or (hours and int(minutes or 0) >= 60)
    if match is None or too_large:
        raise UsageError(f"{text}: give a time such as 3.5 (seconds), 0:03 or 00:01:02.5")
    return float(Fraction(seconds) + 60 * int(minutes or 0) + 3600 * int(hours or 0))


def clock(seconds: float | Fraction, digits: int = 0) -> str:
    """A time as people read it: 7.5 s, 1:05, 1:02:03; from a minute on with `digits` decimals.

    Reports, pictures and notes give times so. Messages about single frames and about settings give
    plain seconds, because these can be compared, and pasted into an option.
    """
    if (tenths := round(float(seconds), 1)) < 60:
        return f"{tenths:g} s"
    minutes, second = divmod(round(float(seconds), digits), 60)
    hours, minute = divmod(int(minutes), 60)
    text = f"{second:0{3 + digits if digits else 2}.{digits}f}"
    return f"{hours}:{minute:02}:{text}" if hours else f"{minute}:{text}"


def percent(share: float, digits: int = 0) -> str:
    """A share, 0 to 1, as people read it: 85 %."""
    return f"{share * 100:.{digits}f} %"


@dataclass(frozen=True)
class MapSize:
    """Size of the maps that are given out; the video's display size by default."""

    kind: str = "video"  # "video", "model" or "fixed"
    width: int = 0  # pixels, for "fixed"
    height: int = 0

    @classmethod
    def parse(cls, text: str) -> MapSize:
        """Read "video", "model" or "WIDTHxHEIGHT".

        Raises:
            UsageError: the text is none of these, or the size is too large.
        """
        if text in ("video", "model"):
            return cls(text)
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
        if match is None:
            raise UsageError(f"size {text}: give video, model or WIDTHxHEIGHT such as 640x480")
        width, height = int(match[1]), int(match[2])
        if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
            raise UsageError(
                f"size {text}: at most {MAX_SIDE} pixels a side and {MAX_PIXELS} in all"
            )
        return cls("fixed", width, height)

    @classmethod
    def of(cls, size: Size) -> MapSize:
        """Take a size as a caller may write it: "model", "640x360", (640, 360).

        Raises:
            UsageError: see `parse`.
        """
        if isinstance(size, cls):
            return size
        if isinstance(size, tuple | list) and len(size) == 2:
            return cls.parse(f"{size[0]}x{size[1]}")
        if not isinstance(size, str):
            raise UsageError(f"size {size!r}: give text such as 640x360, or (width, height)")
        return cls.parse(size)

    def of_map(self, grid: tuple[int, ...], frame: FrameInfo) -> tuple[int, ...]:
        """(height, width) of a frame's map; `grid` is the shape of the network's."""
        if self.kind == "model":
            return grid
        shown = frame if self.kind == "video" else self
        return shown.height, shown.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height}" if self.kind == "fixed" else self.kind


Size = MapSize | str | tuple[int, int]  # a tuple is (width, height)


@dataclass(frozen=True)
class PredictSettings:
    """The settings that decide the maps of a video, apart from the network and its weights.

    Attributes:
        audio_context: frames of sound that a published network sees: 32 as in its inference, or
            16 as in its training.
        stride: the network runs on every n-th frame, counted from the video's first, and on the
            last one. Log-densities are interpolated in between. None is the network's own: 2 for
            avsal-small, 1 for published networks.
        batch: windows in one forward pass; None takes as many as fit into memory.
        start: start at this second; None is the beginning.
        end: stop before this second; None is the end.
        size: size of the maps.

    Raises:
        UsageError: a setting is out of its range.
    """

    audio_context: int = 32
    stride: int | None = None
    batch: int | None = None
    start: float | None = None
    end: float | None = None
    size: MapSize = MapSize()

    def __post_init__(self) -> None:
        if self.audio_context not in (16, 32):
            raise UsageError(f"audio-context {self.audio_context}: give 32 or 16")
        _check_count("stride", self.stride)
        _check_count("batch", self.batch)
        _check_seconds("start", self.start)
        _check_seconds("end", self.end)
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError(f"end {self.end}: give a time after start")


def with_changes(
    settings: PredictSettings | None,
    audio_context: int | None = None,
    stride: int | None = None,
    batch: int | None = None,
    start: float | None = None,
    end: float | None = None,
    size: Size | None = None,
) -> PredictSettings:
    """Settings, None for the defaults, with the fields replaced that are given.

    Raises:
        UsageError: a setting is out of its range.
    """
    if settings is not None and not isinstance(settings, PredictSettings):
        kind = type(settings).__name__
        raise UsageError(f"settings is a {kind}; give PredictSettings, or keywords like stride=2")
    given = {
        "audio_context": audio_context,
        "stride": stride,
        "batch": batch,
        "start": start,
        "end": end,
        "size": None if size is None else MapSize.of(size),
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(settings or PredictSettings(), **changes)


def is_number(value: Any) -> bool:
    """Whether a value is a real number; durations of NumPy, which have a unit, are none."""
    has_unit = getattr(getattr(value, "dtype", None), "kind", "") == "m"
    return isinstance(value, Real) and not has_unit


def is_finite(value: Any) -> bool:
    """Whether a value is a real number that a float can hold."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:  # a whole number or a fraction may be larger
        return False


def _check_count(name: str, count: int | None) -> None:
    if count is not None and not (isinstance(count, Integral) and count >= 1):
        raise UsageError(f"{name} {count!r}: give a whole number, 1 or more")


def _check_seconds(name: str, seconds: float | None) -> None:
    if seconds is None or (is_number(seconds) and 0 <= seconds <= MAX_SECONDS):
        return  # NaN is not between them
    raise UsageError(f"{name} {seconds!r}: give a number of seconds from 0 to {MAX_SECONDS:.0f}")


def check_crf(crf: int) -> None:
    """Refuse a quality that H.264 does not have.

    Raises:
        UsageError: it is not a whole number from 0 to 51.
    """
    if not (isinstance(crf, Integral) and 0 <= crf <= 51):
        raise UsageError(f"crf {crf!r}: give a whole number from 0 to 51")


def expected_maps(
    frames: int | None, rate: Fraction | None, start: float | None, end: float | None
) -> int | None:
    """Return how many maps a video gives, as far as its headers tell.

    Args:
        frames: of the whole video, None where unknown.
        rate: nominal frames per second, None where unknown, and for a still image.
        start, end: seconds, see `PredictSettings`.

    Returns:
        None if it is unknown. If the frame rate varies, it is an estimate.
    """
    if start is None and end is None:
        return frames
    if rate is None:
        return None if frames != 1 else int(not start)
    first = math.ceil(exact_seconds(start or 0) * rate)
    behind = None if end is None else math.ceil(exact_seconds(end) * rate)
    known = [count for count in (frames, behind) if count is not None]
    return max(0, min(known) - first) if known else None


def no_frame(settings: PredictSettings) -> str:
    """The reason why a part of a video has no maps."""
    until = "" if settings.end is None else f" and before {settings.end} s"
    return f"no frame at or after {settings.start or 0} s{until}"


def late_start(name: object, start: Seconds | None, first: Seconds) -> Iterator[str]:
    """A note if the picture that is on screen at `start` began earlier, so that the part begins
    visibly later.

    Args:
        name: of the video or the result.
        first: time of the first frame of the part, seconds.
    """
    if start is not None and first - start > _LATE:
        begins = f"the part begins with the next one, at {float(first):g} s"
        yield f"{name}: no picture begins at {float(start):g} s; {begins}"


@dataclass(frozen=True)
class OutputSettings:
    """How maps are written.

    Attributes:
        format: "png" (8 bit), "png16", "npy" (float32 densities), "video" (8-bit gray MP4), or
            "csv" or "parquet": a table of numbers, see `avsal.results.formats`.
        scale: what 0 and the highest level stand for, see `avsal.results.formats`.
    """

    format: str = "png"
    scale: str = "frame"

    def __post_init__(self) -> None:
        check_word("format", self.format, Format)
        check_word("scale", self.scale, Scale)
