"""Maps that need no learning, and what the observers know of each other."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from avsal.evaluation.scores import Scores, mean_scores, score
from avsal.evaluation.spectral_residual import spectral_residual
from avsal.evaluation.truth import Truth

CENTRE = "centre Gaussian"
UNIFORM = "uniform"
FITTED = "centre prior (fitted)"
MEAN = "mean map of others"
RESIDUAL = "spectral residual"
OBSERVERS = "inter-observer"
BASELINES = (CENTRE, UNIFORM, FITTED, MEAN, RESIDUAL, OBSERVERS)

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


def off_grid(mean: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map on `MEAN_GRID` at (height, width)."""
    return cv2.resize(mean, size[::-1], interpolation=cv2.INTER_LINEAR)


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
        return off_grid(rest, size)


@dataclass(frozen=True)
class Known:
    """What the baselines know of a group.

    Attributes:
        means: the mean maps of all its recordings.
        fitted: prior on `MEAN_GRID`, fitted to recordings outside the group; None without.
        pictures: whether the frames can be read, which the spectral residual is of.
    """

    means: MeanMaps
    fitted: np.ndarray | None = None
    pictures: bool = True

    def maps(
        self, name: str, size: tuple[int, int], picture: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """The baselines' maps of a frame of the recording `name`, at (height, width) or smaller.

        Args:
            picture: the frame as `residual.shrink` gives it, if it is at hand.
        """
        maps = {CENTRE: centre_map(size), UNIFORM: np.ones(size)}
        if self.fitted is not None:
            maps[FITTED] = off_grid(self.fitted, size)
        others = self.means.without(name, size)
        if others is not None:
            maps[MEAN] = others
        if picture is not None:
            maps[RESIDUAL] = spectral_residual(picture)
        return maps


def score_baselines(truth: Truth, maps: Mapping[str, np.ndarray]) -> dict[str, Scores]:
    """Score the baselines' maps of a frame and, if known, its observers, by name."""
    prior = centre_map(truth.size)
    rows = {name: score(saliency, truth, prior) for name, saliency in maps.items()}
    if truth.halves:
        first, second = truth.halves
        each = score(first.density, second, prior), score(second.density, first, prior)
        rows[OBSERVERS] = mean_scores(each)
    return rows
