"""The result for one frame, and the frame's place in the video."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import cv2
import numpy as np

from avsal.media.frames import FrameTag
from avsal.prediction.drawing import overlay
from avsal.prediction.style import OverlayStyle

_TO_BGR = cv2.COLOR_RGB2BGR

_CELLS = (108, 192)  # (height, width) of the grid that spread is measured on, at most


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

    @cached_property
    def peak(self) -> tuple[int, int]:
        """(x, y) of the most salient pixel of `density`."""
        return peak_of(self.density)

    @cached_property
    def centroid(self) -> tuple[float, float]:
        """(x, y) of the mean of `density`, in pixels."""
        return centroid_of(self.density)

    @cached_property
    def spread(self) -> float:
        """Fraction of the picture, 0 to 1, that the smallest area with half of the gaze covers."""
        return spread_of(self.density)

    @cached_property
    def entropy(self) -> float:
        """Entropy in bits; a uniform map has log2 of the number of the grid's cells."""
        share = np.exp(self.log_density) * self.log_density
        return float(-share.sum(dtype=np.float64) / np.log(2))


def peak_of(density: np.ndarray) -> tuple[int, int]:
    """(x, y) of the largest value of a map (h, w)."""
    y, x = np.unravel_index(int(density.argmax()), density.shape)
    return int(x), int(y)


def centroid_of(density: np.ndarray) -> tuple[float, float]:
    """(x, y) of the mean of a map (h, w) in pixels, whole numbers at the pixels' centres.

    A map of zeros has its mean in the middle.
    """
    mean = []
    for axis, side in ((0, density.shape[1]), (1, density.shape[0])):
        sums = density.sum(axis=axis, dtype=np.float64)
        total = sums.sum()
        mean.append(float(sums @ np.arange(side) / total) if total > 0 else (side - 1) / 2)
    return mean[0], mean[1]


def spread_of(density: np.ndarray) -> float:
    """Fraction of the picture that the smallest area with half of a map's sum covers.

    Large maps are measured on a coarser grid, so that sorting costs little. 0.5 is an even map.
    """
    height, width = (min(pair) for pair in zip(density.shape, _CELLS, strict=True))
    cells = cv2.resize(density, (width, height), interpolation=cv2.INTER_AREA)
    largest_first = np.sort(cells, axis=None)[::-1].astype(np.float64)
    held = np.cumsum(largest_first)
    half = held[-1] / 2
    if not half > 0:
        return 0.5
    whole = int(np.searchsorted(held, half))  # cells that hold less than half
    before = held[whole - 1] if whole else 0.0
    return float((whole + (half - before) / largest_first[whole]) / held.size)
