"""The result for one frame, and the frame's place in the video."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from avsal.media.frames import FrameTag
from avsal.prediction.drawing import overlay
from avsal.prediction.style import OverlayStyle

_TO_BGR = cv2.COLOR_RGB2BGR


@dataclass(frozen=True)
class SaliencyFrame:
    """Where people will look while one frame is shown.

    Attributes:
        tag: the frame's index, times and size.
        log_density: (h, w) float32 on the network's grid, smoothed over time as the network asks
            for, and interpolated for frames that `stride` skips. Its exponentials sum to 1.
        density: (H, W) float32 at the requested size, blurred as published; it sums to 1.
        picture: uint8 (h, w, 3) RGB, the frame as the network saw it; None if it is unknown.
    """

    tag: FrameTag
    log_density: np.ndarray
    density: np.ndarray
    picture: np.ndarray | None = None

    def __repr__(self) -> str:
        height, width = self.density.shape
        x, y = self.peak
        return (
            f"<SaliencyFrame {self.index} at {self.time:.3f} s: {width}x{height}, peak ({x}, {y})>"
        )

    def _repr_png_(self) -> bytes:
        """The overlay, or without a picture the map, as notebooks show it."""
        if self.picture is None:
            drawn = np.rint(self.saliency * 255).astype(np.uint8)
        else:
            drawn = cv2.cvtColor(overlay(self.picture, self.density, OverlayStyle()), _TO_BGR)
            height, width = self.tag.height, self.tag.width
            scale = (drawn.shape[0] * drawn.shape[1] / (height * width)) ** 0.5
            drawn = cv2.resize(drawn, (round(width * scale), round(height * scale)))
        return bytes(cv2.imencode(".png", drawn)[1])

    @property
    def index(self) -> int:
        """Frame number from 0."""
        return self.tag.index

    @property
    def pts(self) -> Fraction:
        """Presentation time on the container's clock, seconds, exact."""
        return self.tag.pts

    @property
    def time(self) -> float:
        """Seconds since the video's first frame."""
        return float(self.tag.time)

    @property
    def duration(self) -> float:
        """Seconds for which the frame is shown."""
        return float(self.tag.duration)

    @property
    def shot(self) -> int:
        """Number of the frame's shot, from 0 at the first frame that was predicted."""
        return self.tag.shot

    @property
    def saliency(self) -> np.ndarray:
        """(H, W) float32: the density scaled to 0..1, this frame's minimum and maximum."""
        low, high = self.density.min(), self.density.max()
        if high <= low:
            return np.zeros_like(self.density)
        return (self.density - low) / (high - low)

    @property
    def peak(self) -> tuple[int, int]:
        """(x, y) of the most salient pixel of `density`."""
        y, x = np.unravel_index(int(self.density.argmax()), self.density.shape)
        return int(x), int(y)

    @property
    def entropy(self) -> float:
        """Entropy in bits; a uniform map has log2 of the number of the grid's cells."""
        share = np.exp(self.log_density) * self.log_density
        return float(-share.sum(dtype=np.float64) / np.log(2))
