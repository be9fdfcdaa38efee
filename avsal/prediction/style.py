"""How an overlay looks, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from numbers import Integral, Real
from pathlib import PurePath

from avsal.errors import UsageError
from avsal.prediction.settings import check_word

MAX_FPS = 50  # of an animation; browsers show faster ones slowly


class Colormap(StrEnum):
    """OpenCV's colour maps that run from dark or cold to bright or warm."""

    TURBO = "turbo"
    INFERNO = "inferno"
    JET = "jet"
    VIRIDIS = "viridis"
    MAGMA = "magma"
    PLASMA = "plasma"
    HOT = "hot"
    CIVIDIS = "cividis"
    BONE = "bone"


class ColorBy(StrEnum):
    """What the colours of a heatmap stand for."""

    SHARE = "share"
    DENSITY = "density"


@dataclass(frozen=True)
class OverlayStyle:
    """How an overlay looks.

    Attributes:
        colormap: one of `Colormap`.
        alpha: opacity of the heatmap where it is strongest.
        color_by: "share" colours each pixel by the share of gaze inside the smallest area that
            reaches it, so that a colour means the same in every frame. "density" colours it by the
            density between the frame's least and largest, and fades with it.
        threshold: nothing is drawn outside the smallest area that holds this share of the gaze.
            None is 0.85 with "share" and 1 with "density".
        contours: draw the lines that enclose 25, 50 and 75 % of the predicted gaze instead of
            colouring the picture.
        legend: explain the colours in a corner; None does so if the picture is large enough.
        side_by_side: show the original frame to the left of the overlay.

    Raises:
        UsageError: a setting is out of its range.
    """

    colormap: str = Colormap.TURBO
    alpha: float = 0.5
    color_by: str = ColorBy.SHARE
    threshold: float | None = None
    contours: bool = False
    legend: bool | None = None
    side_by_side: bool = False

    def __post_init__(self) -> None:
        check_word("colormap", self.colormap, Colormap)
        check_word("color-by", self.color_by, ColorBy)
        if not (isinstance(self.alpha, Real) and 0 <= self.alpha <= 1):
            raise UsageError(f"alpha {self.alpha!r}: give a number from 0 to 1")
        share = self.threshold
        if share is not None and not (isinstance(share, Real) and 0 < share <= 1):
            raise UsageError(f"threshold {share!r}: give a number above 0, at most 1")


@dataclass(frozen=True)
class OverlayForm:
    """What an overlay is, where it is not a video like its source.

    Attributes:
        still: one picture with the mean gaze.
        contact_sheet: one picture of several frames.
        per_shot: one still of each shot, or a sheet with one frame of each.
        fps, width: at most, of an animation; None for what is usual.

    Raises:
        UsageError: they do not go together, or a number is out of its range.
    """

    still: bool = False
    contact_sheet: bool = False
    per_shot: bool = False
    fps: float | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        if self.still and self.contact_sheet:
            raise UsageError("still and contact-sheet: give only one of them")
        if self.per_shot and not self.pictures:
            raise UsageError("per-shot needs still or contact-sheet")
        fps, width = self.fps, self.width
        if fps is not None and not (isinstance(fps, Real) and 0 < fps <= MAX_FPS):
            raise UsageError(f"fps {fps!r}: give a number above 0, at most {MAX_FPS}")
        if width is not None and not (isinstance(width, Integral) and width >= 1):
            raise UsageError(f"width {width!r}: give whole pixels, at least 1")
        if self.pictures:
            self.check(None, False)

    @property
    def pictures(self) -> bool:
        """It is a picture or several ones."""
        return self.still or self.contact_sheet

    @property
    def folder(self) -> bool:
        """It is a folder of pictures."""
        return self.still and self.per_shot

    def check(self, out: PurePath | None, animated: bool) -> None:
        """Refuse the settings of an animation where there is none.

        Raises:
            UsageError: there is none.
        """
        if not animated and (self.fps is not None or self.width is not None):
            place = "a picture" if out is None else f"{out}"
            raise UsageError(f"{place}: is not an animation; fps and width are for .gif and .webp")
