"""Changes of colour so coarse that they may be cuts.

Maps of skipped frames are not interpolated across the cuts of `avsal.shots`, nor across these:
besides every cut between scenes of different colours they hold fast changes, where a cut too many
does maps no harm. The benchmarks compare both.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

GRID = (8, 12)  # rows and columns of a thumbnail

# A cut changes a thumbnail by so many levels of 255 on average. In trial clips cuts gave 22 and
# more, handheld cameras and fast sports up to 17.
CUT_LEVELS = 20.0


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Mean colours of a coarse grid, uint8 (h, w, 3) -> float32 (8, 12, 3) in 0..255."""
    return cv2.resize(pixels.astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA)


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference of two thumbnails, in levels of 255."""
    return float(np.abs(after - before).mean())


class Differences:
    """How much every frame differs from the one before, in levels of 255; the first one by 0."""

    def __init__(self) -> None:
        self._latest: np.ndarray | None = None

    def next(self, pixels: np.ndarray) -> float:
        """Take the next frame, uint8 (h, w, 3)."""
        before, self._latest = self._latest, thumbnail(pixels)
        return 0.0 if before is None else difference(before, self._latest)


def find_cut(differences: Mapping[int, float]) -> int | None:
    """Return the first frame of a new scene, None where there is no cut.

    Args:
        differences: by the index of a frame, how much it differs from the one before.
    """
    sharpest = max(differences, key=lambda index: differences[index], default=None)
    return sharpest if sharpest is not None and differences[sharpest] > CUT_LEVELS else None
