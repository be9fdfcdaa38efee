"""The baselines: maps without a network, and the inter-observer ceiling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import cv2
import numpy as np

from avsal.evaluation.scoring import GroundTruth, MethodScores, mean_values, score_map
from avsal.media.frames import VideoFrame
from avsal.metrics import centre_prior

CENTRE = "centre Gaussian"
UNIFORM = "uniform"
FITTED = "centre prior (fitted)"
MEAN = "mean map of others"
SPECTRAL_RESIDUAL = "spectral residual"
OBSERVERS = "inter-observer"
BASELINES = (CENTRE, UNIFORM, FITTED, MEAN, SPECTRAL_RESIDUAL, OBSERVERS)

MEAN_GRID = (72, 96)  # (height, width) on which maps of different sizes are averaged

# Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007.
SMALL_WIDTH = 64  # pixels; width of the picture whose spectrum is taken (section 4)
NEIGHBOURS = 3  # side of the box over which the log-amplitude is averaged
BLUR = 2.5  # pixels at SMALL_WIDTH; standard deviation of the Gaussian over the result
FLOOR = 1e-6  # added to amplitudes, which are 0 at some frequencies of drawn pictures


def on_grid(density: np.ndarray) -> np.ndarray:
    """Resize a map to `MEAN_GRID`, float64 with sum 1 unless it is empty."""
    small = cv2.resize(density.astype(np.float64), MEAN_GRID[::-1], interpolation=cv2.INTER_AREA)
    total = small.sum()
    return small / total if total > 0 else small


class Baselines:
    """Scores the baselines on the recordings of one database."""

    def __init__(
        self, mean_maps: Mapping[str, np.ndarray], fitted: np.ndarray | None = None
    ) -> None:
        """Take maps on `MEAN_GRID`.

        Args:
            mean_maps: each recording's mean ground-truth map, by name.
            fitted: centre prior fitted to recordings that are not scored, if there is one.
        """
        self._mean_maps = mean_maps
        self._total = np.sum(list(mean_maps.values()), axis=0) if mean_maps else np.zeros(MEAN_GRID)
        self._fitted = fitted

    def score(self, name: str, truth: GroundTruth, picture: np.ndarray | None) -> MethodScores:
        """Score the baselines on a frame of the recording `name`, and its observers if known.

        Args:
            picture: the frame as `shrink` gives it, if it is available.
        """
        prior = centre_prior(truth.size)
        maps = {
            CENTRE: prior,
            UNIFORM: np.ones(truth.size),
            FITTED: self._fitted,
            MEAN: self._mean_of_others(name),
            SPECTRAL_RESIDUAL: None if picture is None else spectral_residual(picture),
        }
        scores = {
            baseline: score_map(saliency, truth, prior)
            for baseline, saliency in maps.items()
            if saliency is not None
        }
        if truth.halves:
            first, second = truth.halves
            both_ways = (
                score_map(first.density, second, prior),
                score_map(second.density, first, prior),
            )
            scores[OBSERVERS] = mean_values(both_ways)
        return scores

    def _mean_of_others(self, name: str) -> np.ndarray | None:
        """Mean map of the other recordings; None if there are none."""
        if len(self._mean_maps) - (name in self._mean_maps) < 1:
            return None
        others = self._total - self._mean_maps.get(name, 0.0)
        return np.maximum(others, 0)  # rounding may make it negative


def shrink(picture: np.ndarray) -> np.ndarray:
    """Intensity of a uint8 (H, W, 3) RGB picture, `SMALL_WIDTH` wide, float64 in [0, 1]."""
    height, width = picture.shape[:2]
    size = (SMALL_WIDTH, max(1, round(height * SMALL_WIDTH / width)))
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def spectral_residual(intensity: np.ndarray) -> np.ndarray:
    """Spectral residual of a small float64 (h, w) picture, of the same size and arbitrary scale.

    Where a picture's log-amplitude spectrum exceeds its own local mean, the picture differs from
    other pictures (Hou and Zhang 2007).
    """
    spectrum = np.fft.fft2(intensity)
    level = np.log(np.abs(spectrum) + FLOOR)
    mean = cv2.blur(level, (NEIGHBOURS, NEIGHBOURS), borderType=cv2.BORDER_REPLICATE)
    unusual = np.fft.ifft2(np.exp(level - mean + 1j * np.angle(spectrum)))
    power = np.abs(unusual) ** 2
    return cv2.GaussianBlur(power, (0, 0), BLUR, borderType=cv2.BORDER_CONSTANT)


class SmallPictures:
    """Passes frames on and keeps a small copy of each for the spectral residual.

    Frames are thus read only once. `take` removes the copy.
    """

    def __init__(self, frames: Iterable[VideoFrame]) -> None:
        self._frames = frames
        self._small: dict[int, np.ndarray] = {}

    def __iter__(self) -> Iterator[VideoFrame]:
        for frame in self._frames:
            self._small[frame.index] = shrink(frame.image)
            yield frame

    def take(self, index: int) -> np.ndarray | None:
        """Frame `index` as `shrink` gives it; None if it has not been read or was taken before."""
        return self._small.pop(index, None)
