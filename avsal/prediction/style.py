"""How an overlay looks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from avsal.errors import UsageError
from avsal.prediction.settings import check_word


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
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha {self.alpha}: give a number from 0 to 1")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(f"threshold {self.threshold}: give a number above 0, at most 1")
