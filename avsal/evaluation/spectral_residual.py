"""Spectral residual, a map made of the picture alone without any learning.

Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007: what a picture's
log-amplitude spectrum has above its own local mean is what the picture has that others have not.
"""

from __future__ import annotations

import cv2
import numpy as np

from avsal.datasets import Recording

WIDTH = 64  # pixels of the picture that the spectrum is of (section 4)
NEIGHBOURS = 3  # side of the box over which the log-amplitude is averaged
BLUR = 2.5  # pixels at WIDTH, sigma of the Gaussian over the result
FLOOR = 1e-6  # added to amplitudes of a picture in [0, 1]: drawn pictures have frequencies of none


def shrink(picture: np.ndarray) -> np.ndarray:
    """Intensity of a uint8 (H, W, 3) RGB picture, 64 pixels wide, float64 in [0, 1]."""
    height, width = picture.shape[:2]
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def spectral_residual(intensity: np.ndarray) -> np.ndarray:
    """Saliency map of a small float64 (h, w) picture, of the same size and no certain scale."""
    spectrum = np.fft.fft2(intensity)
    level = np.log(np.abs(spectrum) + FLOOR)
    mean = cv2.blur(level, (NEIGHBOURS, NEIGHBOURS), borderType=cv2.BORDER_REPLICATE)
    unusual = np.fft.ifft2(np.exp(level - mean + 1j * np.angle(spectrum)))
    power = np.abs(unusual) ** 2
    return cv2.GaussianBlur(power, (0, 0), BLUR, borderType=cv2.BORDER_CONSTANT)


class SmallPictures:
    """A recording's frames, one after the other, each small before the next one is read."""

    def __init__(self, recording: Recording) -> None:
        self._frames = recording.frames()

    def at(self, index: int) -> np.ndarray | None:
        """Frame `index` as `shrink` gives it, None past the end; indices must go up.

        Raises:
            DataError: a picture is missing or damaged.
            MediaError: the video cannot be read.
        """
        found = next((frame for frame in self._frames if frame.index >= index), None)
        return None if found is None or found.index > index else shrink(found.image)
