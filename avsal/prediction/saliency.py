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
        tag: which frame.
        log_density: (h, w) float32 at the network's own size, smoothed and interpolated over time
            where the network or `stride` asks for it; the exponentials sum to 1.
        density: (H, W) float32 at the wanted size, blurred as published; sums to 1.
        picture: uint8 (h, w, 3) RGB, the frame as the network saw it; None where it is not known.
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
        """Seconds that the frame is shown."""
        return float(self.tag.duration)

    @property
    def shot(self) -> int:
        """Number of its shot, from 0, counted from where the video was read."""
        return self.tag.shot

    @property
    def saliency(self) -> np.ndarray:
        """float32 (H, W): the density scaled so that this frame's least and largest are 0 and 1."""
        low, high = self.density.min(), self.density.max()
        if high <= low:
            return np.zeros_like(self.density)
        return (self.density - low) / (high - low)

    @property
    def peak(self) -> tuple[int, int]:
        """(x, y) of the most salient pixel, at the wanted size."""
        y, x = np.unravel_index(int(self.density.argmax()), self.density.shape)
        return int(x), int(y)

    @property
    def entropy(self) -> float:
        """Bits; log2 of the pixel count at the network's size where everything is equal."""
        share = np.exp(self.log_density) * self.log_density
        return float(-share.sum(dtype=np.float64) / np.log(2))
