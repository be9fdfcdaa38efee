"""Gaze points and the maps made of them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avsal.errors import UsageError

BLUR_SHARE = 0.035  # sigma of a ground-truth map's Gaussian as a share of the longer side
UNKNOWN_OBSERVER = -1


@dataclass(frozen=True)
class Blur:
    """Width of the Gaussian that turns fixations into a ground-truth map.

    Attributes:
        share: sigma as a share of the picture's longer side.
        pixels_per_degree: where given, sigma is one degree of visual angle instead.
    """

    share: float = BLUR_SHARE
    pixels_per_degree: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"blur {self.share:g}: give a share of the longer side, 0 to 1")
        if self.pixels_per_degree is not None and self.pixels_per_degree <= 0:
            raise UsageError(f"pixels-per-degree {self.pixels_per_degree:g}: give more than 0")

    def sigma(self, size: tuple[int, int]) -> float:
        """Pixels, for a map of (height, width)."""
        return self.pixels_per_degree or self.share * max(size)


@dataclass(frozen=True)
class GazePoints:
    """Places that people looked at.

    Attributes:
        x, y: float (n,), shares of width and height; outside 0..1 is off the picture.
        observers: int (n,), `UNKNOWN_OBSERVER` where nobody knows.
    """

    x: np.ndarray
    y: np.ndarray
    observers: np.ndarray

    def take(self, chosen: np.ndarray) -> GazePoints:
        """The points under a mask or under indices."""
        return GazePoints(self.x[chosen], self.y[chosen], self.observers[chosen])

    def of(self, observers: set[int]) -> GazePoints:
        """The points of some observers."""
        return self.take(np.isin(self.observers, list(observers)))

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """Flat pixel indices on a map of (height, width); points off the picture are dropped."""
        height, width = size
        columns = np.floor(self.x * width).astype(int)
        rows = np.floor(self.y * height).astype(int)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        return rows[inside] * width + columns[inside]

    def fixations(self, size: tuple[int, int]) -> np.ndarray:
        """Where anybody looked, bool (height, width)."""
        looked = np.zeros(size, bool)
        looked.flat[self.pixels(size)] = True
        return looked

    def density(self, size: tuple[int, int], blur: Blur) -> np.ndarray:
        """Ground-truth map, float32 (height, width): one Gaussian a point, summed."""
        counts = np.bincount(self.pixels(size), minlength=size[0] * size[1]).reshape(size)
        return blurred(counts, blur.sigma(size))


def points_of(fixations: np.ndarray) -> GazePoints:
    """The centres of the fixated pixels of a bool (H, W) matrix."""
    rows, columns = np.nonzero(fixations)
    height, width = fixations.shape
    unknown = np.full(rows.size, UNKNOWN_OBSERVER)
    return GazePoints((columns + 0.5) / width, (rows + 0.5) / height, unknown)


def blurred(counts: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur with nothing beyond the borders, (H, W) -> float32."""
    return cv2.GaussianBlur(
        counts.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT
    )
