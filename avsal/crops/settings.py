"""How a video is reframed, and the words that the command line accepts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from avsal.crops.geometry import Size, parse_aspect
from avsal.errors import UsageError
from avsal.prediction.settings import check_word

_CLOSEST = 4  # times; closer crops of usual videos are no pictures any more
_SIZE_TOLERANCE = Fraction(1, 50)  # by which the shape of a wanted size may miss the aspect


class Motion(StrEnum):
    """When the crop moves inside a shot."""

    STEADY = "steady"
    FOLLOW = "follow"
    STILL = "still"


class Fill(StrEnum):
    """What surrounds a picture of another shape."""

    BLUR = "blur"
    BLACK = "black"


@dataclass(frozen=True)
class Framing:
    """How to crop.

    Attributes:
        aspect: width to height of the result.
        motion: "steady" holds still unless moving pays, "follow" moves sooner, "still" has one
            place in every shot.
        zoom: factor by which a crop may be smaller than the largest one; constant within a shot.
        pad: where the largest crop misses too much gaze, show more and leave bars to fill.
    """

    aspect: Fraction
    motion: str = Motion.STEADY
    zoom: float = 1.0
    pad: bool = False

    def __post_init__(self) -> None:
        check_word("motion", self.motion, Motion)
        if not 1 <= self.zoom <= _CLOSEST:
            raise UsageError(f"zoom {self.zoom:g}: give 1 (none) to {_CLOSEST}")


@dataclass(frozen=True)
class ReframeSettings:
    """How a video is reframed; see `Framing`.

    Attributes:
        aspect: of the result, as "9:16".
        fill: bars where the gaze does not fit; None never shows bars.
        size: of the result; None takes the largest crop's own.
        crf: quality of H.264, 0 (lossless) to 51.
    """

    aspect: str = "9:16"
    motion: str = Motion.STEADY
    zoom: float = 1.0
    fill: str | None = None
    size: Size | None = None
    crf: int = 20

    def __post_init__(self) -> None:
        if self.fill is not None:
            check_word("pad", self.fill, Fill)
        if self.size and abs(Fraction(*self.size) / self.framing.aspect - 1) > _SIZE_TOLERANCE:
            wanted = "x".join(map(str, self.size))
            raise UsageError(f"size {wanted}: is not {self.aspect}; change --size or --aspect")

    @property
    def framing(self) -> Framing:
        """What planning needs to know."""
        return Framing(parse_aspect(self.aspect), self.motion, self.zoom, self.fill is not None)
