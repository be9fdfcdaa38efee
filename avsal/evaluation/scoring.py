"""One frame: what was recorded about it, and the scores of a map against that."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from avsal import metrics
from avsal.datasets.gaze import Gaze
from avsal.datasets.recording import Recording
from avsal.media.frames import FrameTag

# Columns of the tables: name in files, heading.
METRICS = {
    "cc": "CC",
    "sim": "SIM",
    "nss": "NSS",
    "auc_judd": "AUC-Judd",
    "sauc": "sAUC",
    "kl": "KL",
    "ig": "IG",
}

# By name of the metric; one without a value, such as sAUC without other fixations, is omitted.
MetricValues = dict[str, float]
MethodScores = dict[str, MetricValues]  # by what made the maps

MODEL = "model"  # the method whose maps are scored, next to the baselines


@dataclass(frozen=True)
class GroundTruth:
    """The annotation of one frame; all arrays are (H, W).

    Attributes:
        density: ground-truth map, of any scale.
        fixations: bool; None where only the map is known.
        others: bool, fixations of other frames or images for sAUC; None where there are none.
        seed: decides sAUC's draws.
        halves: the same frame by one half of the observers and by the other; empty where
            observers are not known.
    """

    density: np.ndarray
    fixations: np.ndarray | None
    others: np.ndarray | None
    seed: int
    halves: tuple[GroundTruth, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.density.shape[0], self.density.shape[1]


def score_map(saliency: np.ndarray, truth: GroundTruth, prior: np.ndarray) -> MetricValues:
    """Score a map against an annotation.

    Args:
        saliency: (h, w) of any size and scale; it is resized bilinearly to the annotation's size.
        prior: (H, W) map over which information gain counts.
    """
    values = _resized(saliency, truth.size).astype(np.float64)
    scores = metrics.score(values, truth.density, truth.fixations)
    if truth.fixations is not None:
        scores["ig"] = metrics.information_gain(values, truth.fixations, prior)
        if truth.others is not None:
            random = np.random.default_rng(truth.seed)
            scores["sauc"] = metrics.sauc(values, truth.fixations, truth.others, random)
    return scores


def _resized(saliency: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if saliency.shape == size:
        return saliency
    return cv2.resize(saliency, size[::-1], interpolation=cv2.INTER_LINEAR)


def mean_values(rows: Iterable[MetricValues]) -> MetricValues:
    """Mean of every metric over those rows that have a value for it."""
    gathered: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            gathered.setdefault(key, []).append(value)
    return {key: float(np.mean(gathered[key])) for key in METRICS if key in gathered}


def mean_scores(rows: Iterable[MethodScores]) -> MethodScores:
    """Mean of every method's metrics; methods in the order of their first appearance."""
    everything = list(rows)
    methods = dict.fromkeys(method for row in everything for method in row)
    return {
        method: mean_values(row[method] for row in everything if method in row)
        for method in methods
    }


class Annotations:
    """A recording's annotations, frame by frame; `truth` may be called from several threads."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._seed = zlib.crc32(recording.name.encode())  # of the name alone: no order matters
        self._reading = threading.Lock()
        self._union: tuple[tuple[int, int], np.ndarray | None] | None = None

    def truth(self, tag: FrameTag) -> GroundTruth | None:
        """Annotation of a frame; None where nobody looked.

        Raises:
            DataError: a file of the annotation is missing or damaged.
        """
        gaze = self.recording.gaze(tag)
        if gaze is None:
            return None
        others = None
        if gaze.fixations is not None:
            others = self._others(gaze.size)
            others = None if others is None else others & ~gaze.fixations
            others = others if others is not None and others.any() else None
        seed = self._seed + tag.index
        halves = self._halves(gaze, others, seed)
        return GroundTruth(gaze.density, gaze.fixations, others, seed, halves)

    def _others(self, size: tuple[int, int]) -> np.ndarray | None:
        """Where people looked at other times; asked for once, as it takes reading everything."""
        with self._reading:
            if self._union is None or self._union[0] != size:
                self._union = size, self.recording.others(size)
            return self._union[1]

    def _halves(self, gaze: Gaze, others: np.ndarray | None, seed: int) -> tuple[GroundTruth, ...]:
        if gaze.points is None or gaze.points.observers is None:
            return ()
        first = self._half(gaze.points.observers)
        halves = []
        for chosen in (first, ~first & (gaze.points.observers >= 0)):
            points = gaze.points.where(chosen)
            if not len(points):
                return ()
            density = points.density(gaze.size, gaze.sigma)
            halves.append(GroundTruth(density, points.mask(gaze.size), others, seed))
        return tuple(halves)

    def _half(self, observers: np.ndarray) -> np.ndarray:
        """Mark the points of half of the observers; each has the same rank in every frame."""
        known = np.unique(observers[observers >= 0])
        ranks = [np.random.default_rng([self._seed, int(who)]).random() for who in known]
        return np.isin(observers, known[np.argsort(ranks)[: (known.size + 1) // 2]])
