"""How an overlay looks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from avsal.errors import UsageError
from avsal.prediction.settings import check_word


class Colormap(StrEnum):
    """OpenCV's colour maps that grow from dark or cold to bright or warm."""

    INFERNO = "inferno"
    JET = "jet"
    TURBO = "turbo"
    VIRIDIS = "viridis"
    MAGMA = "magma"
    PLASMA = "plasma"
    HOT = "hot"
    CIVIDIS = "cividis"
    BONE = "bone"


@dataclass(frozen=True)
class OverlayStyle:
    """How an overlay looks.

    Attributes:
        colormap: one of `Colormap`.
        alpha: opacity of the heatmap where the map is 1; it fades to 0 with the map, so that the
            picture stays visible where no one looks.
        contours: draw the lines that enclose 25, 50 and 75 % of the predicted gaze instead of
            colouring the picture.
        side_by_side: the untouched frame to the left of the overlay.

    Raises:
        UsageError: a setting is out of its range.
    """

    colormap: str = Colormap.INFERNO
    alpha: float = 0.7
    contours: bool = False
    side_by_side: bool = False

    def __post_init__(self) -> None:
        check_word("colormap", self.colormap, Colormap)
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha {self.alpha}: give a number from 0 to 1")
