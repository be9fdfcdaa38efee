"""Shapes, sizes and settings of crops."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from numbers import Rational, Real
from typing import NamedTuple

from avsal.errors import UsageError, nearest
from avsal.prediction.settings import check_crf, check_word, is_finite

Size = tuple[int, int]  # (width, height), pixels
Share = tuple[float, float]  # width and height as fractions of the picture's
_WIDEST = 20  # times as wide as high, or as high as wide
_SMALLEST, _LARGEST = 16, 8192  # pixels of a side

_CLOSEST = 4  # times; closer crops of usual videos are too blurred
_SIZE_TOLERANCE = Fraction(1, 50)  # by which the shape of a wanted size may miss the aspect


def aspect_of(aspect: str | float | Fraction) -> Fraction:
    """Width over height from "W:H" or from a number.

    Raises:
        UsageError: see `parse_aspect`.
    """
    if not isinstance(aspect, str) and is_finite(aspect) and aspect > 0:
        exact = aspect if isinstance(aspect, Rational) else float(aspect)
        return _checked_aspect(Fraction(exact), str(aspect))
    return parse_aspect(str(aspect))


def parse_aspect(text: str) -> Fraction:
    """Read "W:H" as width over height.

    Raises:
        UsageError: it is not a ratio, or is too extreme.
    """
    text = str(text).strip()  # from Python it may be a number
    match = re.fullmatch(r"(\d{1,5}(?:\.\d{1,4})?):(\d{1,5}(?:\.\d{1,4})?)", text, re.ASCII)
    if match is None or not float(match[1]) or not float(match[2]):
        raise UsageError(f"aspect {text[:40]}: give width:height such as 9:16 or 1:1")
    return _checked_aspect(Fraction(match[1]) / Fraction(match[2]), text)


def _checked_aspect(aspect: Fraction, text: str) -> Fraction:
    if not Fraction(1, _WIDEST) <= aspect <= _WIDEST:
        raise UsageError(f"aspect {text[:40]}: give a ratio from 1:{_WIDEST} to {_WIDEST}:1")
    return aspect


def parse_size(size: str | tuple[int, int]) -> Size:
    """The size of a result from "WIDTHxHEIGHT" or (width, height), even sides.

    Raises:
        UsageError: it is something else.
    """
    text = "x".join(map(str, size)) if isinstance(size, tuple | list) else str(size)
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text.strip(), re.ASCII)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if any(side % 2 or not _SMALLEST <= side <= _LARGEST for side in sides):
        raise UsageError(f"size {text}: give WIDTHxHEIGHT with even sides, such as 1080x1920")
    return sides


class Box(NamedTuple):
    """A part of a picture in pixels as displayed: left upper corner and size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """The picture that is cropped.

    Attributes:
        width, height: pixels as displayed, upright.
        sample_aspect: width to height of a displayed pixel.
    """

    width: int
    height: int
    sample_aspect: Fraction = Fraction(1)

    @property
    def aspect(self) -> Fraction:
        """Width to height as people see it."""
        return self.width * self.sample_aspect / self.height

    def part(self, box: Box) -> Picture:
        """A part of the picture with whole pixels, as a picture."""
        return Picture(int(box.width), int(box.height), self.sample_aspect)

    def output_size(self, aspect: Fraction) -> Size:
        """Even size, in square pixels, of the largest crop as it is."""
        if aspect < self.aspect:
            height = Fraction(self.height)
            return _even(height * aspect), _even(height)
        width = self.width * self.sample_aspect
        return _even(width), _even(width / aspect)

    def largest_crop(self, aspect: Fraction) -> Share:
        """The largest crop of an aspect, with whole and even sides as in `output_size`."""
        width, height = self.output_size(aspect)
        across = width / (self.width * self.sample_aspect)
        return min(1.0, float(across)), min(1.0, height / self.height)


def _even(side: Fraction) -> int:
    return max(2, 2 * round(side / 2))


def scaled(share: Share, scale: float) -> Share:
    """A crop `scale` times as large, but no larger than the picture."""
    return min(1.0, share[0] * scale), min(1.0, share[1] * scale)


class Motion(StrEnum):
    """When the crop moves inside a shot."""

    STEADY = "steady"
    FOLLOW = "follow"
    STILL = "still"


class Fill(StrEnum):
    """What surrounds a picture of another shape."""

    BLUR = "blur"
    BLACK = "black"


class Fit(StrEnum):
    """How to show a shot whose gaze does not fit into one crop."""

    CROP = "crop"  # the largest crop all the same
    PAD = "pad"  # a wider crop between bars
    SPLIT = "split"  # two panels
    AUTO = "auto"  # whichever of them gains most


PRESETS = {  # the shape and size of videos for one platform
    "shorts": ("9:16", (1080, 1920)),
    "reels": ("9:16", (1080, 1920)),
    "square": ("1:1", (1080, 1080)),
    "portrait": ("4:5", (1080, 1350)),
}


def find_preset(name: str) -> tuple[str, Size]:
    """The aspect and size of a name.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in PRESETS:
        hint = nearest(name, PRESETS) or f"; give one of {', '.join(PRESETS)}"
        raise UsageError(f"preset {name[:40]}: is unknown{hint}")
    return PRESETS[name]


@dataclass(frozen=True)
class Framing:
    """How to crop.

    Attributes:
        aspect: width to height of the result.
        motion: "steady" stays still unless moving keeps clearly more of the gaze, "follow" moves
            sooner, "still" never moves within a shot.
        zoom: factor by which a crop may be smaller than the largest one; constant within a shot.
        fit: how to show a shot whose gaze does not fit into the largest crop: a wider crop between
            bars ("pad"), two panels ("split"), whichever gains most ("auto"), or the largest crop
            nevertheless ("crop").
    """

    aspect: Fraction
    motion: str = Motion.STEADY
    zoom: float = 1.0
    fit: str = Fit.CROP

    def __post_init__(self) -> None:
        check_word("motion", self.motion, Motion)
        check_word("fit", self.fit, Fit)
        if not (isinstance(self.zoom, Real) and 1 <= self.zoom <= _CLOSEST):
            raise UsageError(f"zoom {self.zoom!r}: give a number from 1 (none) to {_CLOSEST}")


@dataclass(frozen=True)
class ReframeSettings:
    """How a video is reframed; see `Framing`.

    Attributes:
        aspect: of the result, as "9:16".
        fit: see `Framing`.
        fill: what the bars show, see `Fill`; None if `fit` makes no bars.
        size: of the result; None takes the largest crop's own.
        crf: quality of H.264, 0 (lossless) to 51.
    """

    aspect: str = "9:16"
    motion: str = Motion.STEADY
    zoom: float = 1.0
    fit: str = Fit.CROP
    fill: str | None = None
    size: Size | None = None
    crf: int = 20

    def __post_init__(self) -> None:
        check_crf(self.crf)
        framing = self.framing  # which checks its part
        if self.fill is not None:
            check_word("pad", self.fill, Fill)
        if self.fill is not None and self.fit not in (Fit.PAD, Fit.AUTO):
            raise UsageError(f"pad {self.fill}: fit {self.fit} shows no bars; omit one of them")
        if self.size and abs(Fraction(*self.size) / framing.aspect - 1) > _SIZE_TOLERANCE:
            wanted = "x".join(map(str, self.size))
            raise UsageError(f"size {wanted}: is not {self.aspect}; change size or aspect")

    @property
    def framing(self) -> Framing:
        """What planning needs to know."""
        return Framing(parse_aspect(self.aspect), self.motion, self.zoom, self.fit)
