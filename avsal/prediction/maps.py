"""Maps: log-densities smoothed and interpolated over time, blurred and resized."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np

from avsal.media.frames import FrameTag
from avsal.prediction.drawing import overlay
from avsal.prediction.frames import CachedFrame, PredictedBatch
from avsal.prediction.style import OverlayStyle
from avsal.prediction.windows import MEMORY

_TO_BGR = cv2.COLOR_RGB2BGR
_CELLS = (108, 192)  # (height, width) of the grid that spread is measured on, at most
BLUR_SIZE = 11  # pixels of the network's grid; the deviation is OpenCV's default for it, 2 pixels
FrameMap = tuple[CachedFrame, np.ndarray]  # a frame and its (h, w) log-density


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


class Smoothing:
    """Takes a video's maps in order and smooths them over time.

    What has weight is the course of the maps, linear from one to the next, so that the delay is the
    same at every frame rate and stride. It ends after `MEMORY` time constants, so that the maps of
    a part are those of the whole. None reaches across a cut.
    """

    def __init__(self, seconds: Fraction) -> None:
        """Take the time in which weights fall to 1/e; 0 leaves maps as they are."""
        self._seconds = float(seconds)
        self._memory = MEMORY * seconds
        self._maps: deque[tuple[Fraction, np.ndarray]] = deque()

    def add(self, time: Fraction, log_density: np.ndarray, cut: bool) -> np.ndarray:
        """Smooth the next map.

        Args:
            time: of its frame, seconds.
            log_density: (h, w).
            cut: whether a cut is between its frame and that of the map before.

        Returns:
            (h, w) log-density.
        """
        if cut or not self._memory:
            self._maps.clear()
        self._maps.appendleft((time, log_density))
        while time - self._maps[-1][0] > self._memory:
            self._maps.pop()
        if len(self._maps) == 1:
            return log_density
        ages = [float(time - earlier) / self._seconds for earlier, _ in self._maps]
        mixed = np.zeros_like(log_density)
        for weight, (_, each) in zip(weights(ages), self._maps, strict=True):
            mixed += np.float32(weight) * each
        return renormalised(mixed)


def weights(ages: Sequence[float]) -> list[float]:
    """Weights of maps, which sum to 1.

    Args:
        ages: at least two different ones, from the newest map's on, in time constants.

    Returns:
        The integrals of exp(-age) times each map's part in the linear course between them.
    """
    found = [0.0] * len(ages)
    for place, (newer, older) in enumerate(pairwise(ages)):
        whole = math.exp(-newer) - math.exp(-older)
        second = whole / (older - newer) - math.exp(-older)
        found[place] += whole - second
        found[place + 1] += second
    total = sum(found)
    return [each / total for each in found]


def filled(batches: Iterable[PredictedBatch], smoothing: Smoothing) -> Iterator[FrameMap]:
    """The predicted maps, and between them those of skipped frames: interpolated by time, or where
    there is a cut between, the map of their own shot."""
    before: FrameMap | None = None
    for inputs, log_density in itertools.chain.from_iterable(batches):
        predicted = inputs.frames[-1]
        later = smoothing.add(inputs.tag.time, log_density, inputs.cut is not None)
        first, earlier = before or (predicted, later)
        span = inputs.tag.time - first.tag.time
        for frame in inputs.skipped:
            share = float((frame.tag.time - first.tag.time) / span) if span else 1.0
            if inputs.cut is not None:
                share = float(frame.tag.index >= inputs.cut)
            yield frame, interpolate(earlier, later, share)
        before = (predicted, later)
        if inputs.wanted:
            yield before
