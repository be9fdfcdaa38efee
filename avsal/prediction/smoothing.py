"""Maps that move as steadily as gaze does: each the mean of itself and those shortly before it."""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction

import torch

from avsal.preprocess.rules import MEMORY


class Smoothing:
    """Takes a video's maps in order and smooths them over time.

    The weight of a map falls with its age to 1/e in `seconds`, at any frame rate, and ends after
    `MEMORY` of them, so that the maps of a part are those of the whole. None reaches across a cut.
    """

    def __init__(self, seconds: Fraction) -> None:
        """Take the time constant; 0 leaves maps as they are."""
        self._seconds = seconds
        self._maps: deque[tuple[Fraction, torch.Tensor]] = deque()

    def add(self, time: Fraction, log_density: torch.Tensor, cut: bool) -> torch.Tensor:
        """Smooth the next map.

        Args:
            time: of its frame, seconds.
            log_density: (h, w).
            cut: a cut lies between its frame and that of the map before.

        Returns:
            (h, w) log-density.
        """
        if cut or not self._seconds:
            self._maps.clear()
        self._maps.append((time, log_density))
        while time - self._maps[0][0] > MEMORY * self._seconds:
            self._maps.popleft()
        if len(self._maps) == 1:
            return log_density
        weights = [math.exp((earlier - time) / self._seconds) for earlier, _ in self._maps]
        total = sum(weights)
        mixed = torch.zeros_like(log_density)
        for weight, (_, each) in zip(weights, self._maps, strict=True):
            mixed.add_(each, alpha=weight / total)
        return mixed - mixed.logsumexp(dim=(0, 1))
