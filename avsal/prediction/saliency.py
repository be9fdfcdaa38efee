"""The result for one frame, and the frame's place in the video."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from avsal.media.frames import FrameTag


@dataclass(frozen=True)
class SaliencyFrame:
    """Where people will look while one frame is shown.

    Attributes:
        tag: which frame.
        log_density: (h, w) float32 at the network's own size, as the network gave it; the
            exponentials sum to 1.
        density: (H, W) float32 at the wanted size, blurred as published; sums to 1.
    """

    tag: FrameTag
    log_density: np.ndarray
    density: np.ndarray

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
