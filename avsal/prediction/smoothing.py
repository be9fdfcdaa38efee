"""Maps that move as steadily as gaze does: each the mean of itself and those shortly before it."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from avsal.prediction.cache import CachedFrame, PredictedBatch
from avsal.prediction.postprocess import interpolate, renormalised
from avsal.preprocess.rules import MEMORY

FrameMap = tuple[CachedFrame, np.ndarray]  # a frame and its (h, w) log-density


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
