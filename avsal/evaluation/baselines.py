"""Maps that know nothing of the video, and what its observers know of each other."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import cv2
import numpy as np

from avsal.evaluation.scores import Scores, mean_scores, score
from avsal.evaluation.truth import Truth

CENTRE = "centre Gaussian"
UNIFORM = "uniform"
MEAN = "mean map of others"
OBSERVERS = "inter-observer"
BASELINES = (CENTRE, UNIFORM, MEAN, OBSERVERS)

# Sigma as shares of width and height: the spread of all fixations in free viewing of photographs
# (OSIE: 0.21 and 0.20, EyeCrowd: 0.23 and 0.18).
CENTRE_SIGMA = (0.22, 0.19)

MEAN_GRID = (72, 96)  # (height, width) on which maps of different sizes are averaged


@functools.lru_cache(maxsize=8)
def centre_map(size: tuple[int, int]) -> np.ndarray:
    """Gaussian in the middle of a (height, width) picture, float64."""
    sides = [(np.arange(side) + 0.5) / side - 0.5 for side in size]
    rows, columns = (
        np.exp(-((offset / sigma) ** 2) / 2)
        for offset, sigma in zip(sides, reversed(CENTRE_SIGMA), strict=True)
    )
    return np.outer(rows, columns)


def on_grid(density: np.ndarray) -> np.ndarray:
    """A map's share of the gaze on the cells of `MEAN_GRID`, float64; sums to 1 unless empty."""
    small = cv2.resize(density.astype(np.float64), MEAN_GRID[::-1], interpolation=cv2.INTER_AREA)
    total = small.sum()
    return small / total if total > 0 else small


class MeanMaps:
    """Mean ground-truth maps of a group's recordings, of which each is left out in turn."""

    def __init__(self, maps: Mapping[str, np.ndarray]) -> None:
        """Take each recording's mean map on the grid, by name."""
        self._maps = maps
        self._total = np.sum(list(maps.values()), axis=0) if maps else np.zeros(MEAN_GRID)

    def without(self, name: str, size: tuple[int, int]) -> np.ndarray | None:
        """Mean map of the other recordings at (height, width); None if there are none."""
        if len(self._maps) - (name in self._maps) < 1:
            return None
        rest = self._total - self._maps.get(name, 0.0)
        rest = np.maximum(rest, 0)  # rounding may leave less than nothing
        return cv2.resize(rest, size[::-1], interpolation=cv2.INTER_LINEAR)


def score_baselines(truth: Truth, mean: np.ndarray | None) -> dict[str, Scores]:
    """Score every baseline that is known on a frame, by its name."""
    prior = centre_map(truth.size)
    rows = {CENTRE: score(prior, truth, prior), UNIFORM: score(np.ones(truth.size), truth, prior)}
    if mean is not None:
        rows[MEAN] = score(mean, truth, prior)
    if truth.halves:
        first, second = truth.halves
        each = score(first.density, second, prior), score(second.density, first, prior)
        rows[OBSERVERS] = mean_scores(each)
    return rows
