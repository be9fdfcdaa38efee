"""From the network's log-densities to densities over the picture's pixels.

The published order: blur the log-density, exponentiate, resize; scaling to gray levels comes last
and belongs to `avsal.results.formats`.
"""

from __future__ import annotations

import cv2
import numpy as np

BLUR_SIZE = 11  # pixels of the network's grid; the deviation is OpenCV's default for it, 2 pixels


def to_density(log_density: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Density at the wanted size, which sums to 1.

    Args:
        log_density: float (h, w), as the network gives it.
        size: (height, width) of the result.

    Returns:
        float32 (height, width).
    """
    blurred = cv2.GaussianBlur(np.asarray(log_density, np.float32), (BLUR_SIZE, BLUR_SIZE), 0)
    density = cv2.resize(cv2.exp(blurred), size[::-1], interpolation=cv2.INTER_LINEAR)
    with np.errstate(invalid="ignore"):  # a network that gives NaN has NaN densities
        return np.asarray(density / density.sum(dtype=np.float64), np.float32)


def interpolate(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Log-density between two others, renormalised.

    Args:
        before, after: (h, w) log-densities.
        share: position between them, 0 (before) to 1 (after).
    """
    return renormalised(before + np.float32(share) * (after - before))


def renormalised(values: np.ndarray) -> np.ndarray:
    """A log-density (h, w) whose exponentials sum to 1."""
    peak = values.max()
    total = np.exp(values - peak).sum(dtype=np.float64)
    return values - np.float32(peak + np.log(total))
