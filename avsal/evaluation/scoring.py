"""Scores of single maps against recorded gaze, and the saved scores of recordings."""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avsal import atomic, metrics
from avsal.datasets.gaze import Gaze
from avsal.datasets.recording import Recording, recording_digest
from avsal.media.frames import FrameInfo

# Columns of the tables: name in files and heading.
METRICS = {
    "cc": "CC",
    "sim": "SIM",
    "nss": "NSS",
    "auc_judd": "AUC-Judd",
    "sauc": "sAUC",
    "kl": "KL",
    "ig": "IG",
}

# By name of the metric; metrics that have no value are omitted, such as sAUC of a single picture.
MetricValues = dict[str, float]
MethodScores = dict[str, MetricValues]  # by MODEL or name of the baseline

MODEL = "model"  # the key of the maps' own scores
CENTRE = "centre Gaussian"
UNIFORM = "uniform"
FITTED = "centre prior (fitted)"
MEAN = "mean map of others"
SPECTRAL_RESIDUAL = "spectral residual"
OBSERVERS = "inter-observer"
BASELINES = (CENTRE, UNIFORM, FITTED, MEAN, SPECTRAL_RESIDUAL, OBSERVERS)


@dataclass(frozen=True)
class GroundTruth:
    """The annotation of one frame; all arrays are (H, W).

    Attributes:
        density: ground-truth map, of any scale.
        fixations: bool; None if only the map is known.
        others: bool, fixations of other frames or pictures for sAUC; None if there are none.
        seed: seed of sAUC's draws.
        halves: the annotation by each half of the observers; empty if observers are unknown.
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
        prior: (H, W) map, the baseline of information gain.
    """
    if saliency.shape != truth.size:
        saliency = cv2.resize(saliency, truth.size[::-1], interpolation=cv2.INTER_LINEAR)
    values = saliency.astype(np.float64)
    scores = metrics.score(values, truth.density, truth.fixations)
    if truth.fixations is not None:
        scores["ig"] = metrics.information_gain(values, truth.fixations, prior)
        if truth.others is not None:
            random = np.random.default_rng(truth.seed)
            scores["sauc"] = metrics.sauc(values, truth.fixations, truth.others, random)
    return scores


def mean_values(rows: Iterable[MetricValues]) -> MetricValues:
    """Mean of every metric over the rows that have a value for it."""
    gathered: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            gathered.setdefault(key, []).append(value)
    return {key: float(np.mean(gathered[key])) for key in METRICS if key in gathered}


def mean_scores(rows: Iterable[MethodScores]) -> MethodScores:
    """Mean of every method's metrics; methods in the order of their first appearance."""
    by_method: dict[str, list[MetricValues]] = {}
    for row in rows:
        for method, values in row.items():
            by_method.setdefault(method, []).append(values)
    return {method: mean_values(values) for method, values in by_method.items()}


class Annotations:
    """A recording's annotations, frame by frame; `truth` may be called from several threads."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._seed = zlib.crc32(recording.name.encode())  # independent of the recordings' order
        self._lock = threading.Lock()
        self._union: tuple[tuple[int, int], np.ndarray | None] | None = None

    def truth(self, tag: FrameInfo) -> GroundTruth | None:
        """Annotation of a frame; None if it has no gaze.

        Raises:
            DataError: a file of the annotation is missing or damaged.
        """
        gaze = self.recording.gaze(tag)
        if gaze is None:
            return None
        others = None
        if gaze.fixations is not None:
            others = self._others(gaze.size)
            if others is not None:
                others = others & ~gaze.fixations
                others = others if others.any() else None
        seed = self._seed + tag.index
        halves = self._halves(gaze, others, seed)
        return GroundTruth(gaze.density, gaze.fixations, others, seed, halves)

    def _others(self, size: tuple[int, int]) -> np.ndarray | None:
        """Fixations of the whole recording or of other pictures, kept because they take long."""
        with self._lock:
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
        """Mark the points of half of the observers, who are ranked alike in every frame."""
        known = np.unique(observers[observers >= 0])
        ranks = [np.random.default_rng([self._seed, int(who)]).random() for who in known]
        return np.isin(observers, known[np.argsort(ranks)[: (known.size + 1) // 2]])


@dataclass(frozen=True)
class RecordingScores:
    """Scores of one video or picture.

    Attributes:
        database: database, image set or table of gaze.
        fold: "1", "2" or "3"; empty if there are no folds.
        frames: number of scored frames.
        scores: means over the frames, by method and metric.
    """

    database: str
    fold: str
    name: str
    frames: int
    scores: MethodScores


def load_scores(
    folder: Path, database: str, fold: str, name: str, made_with: dict[str, Any]
) -> RecordingScores | None:
    """Read a recording's scores from `folder`; None if there are none with these `made_with`."""
    try:
        saved = json.loads(_path(folder, database, fold, name).read_text(encoding="utf-8"))
        if saved["made_with"] == json.loads(json.dumps(made_with)):
            return RecordingScores(**saved["result"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def save_scores(folder: Path, result: RecordingScores, made_with: dict[str, Any]) -> None:
    """Write a recording's scores into `folder`; raises OutputError."""
    content = {"made_with": made_with, "result": asdict(result)}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path = _path(folder, result.database, result.fold, result.name)
    atomic.check_replaceable(path.parent, lambda _folder: _written(path), (path.name,))
    atomic.write_bytes(path, text.encode())


def _written(path: Path) -> set[str]:
    """The name of a file if it holds a recording's scores."""
    try:
        saved = json.loads(path.read_bytes())
        return {path.name} if {"made_with", "result"} <= set(saved) else set()
    except (OSError, ValueError, TypeError, RecursionError):
        return set()


def _path(folder: Path, database: str, fold: str, name: str) -> Path:
    return folder / "results" / (f"fold{fold}" if fold else "") / relative_path(database, name)


def relative_path(database: str, name: str) -> Path:
    """Path of a recording's scores in the folder of its fold.

    Raises:
        UsageError: a name leads out of that folder, or cannot name a file.
    """
    parts = [part for text in (database, f"{name}.json") for part in text.split("/")]
    return Path(*map(atomic.path_part, parts))


def digest(values: Any) -> str:
    """sha256 of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def file_identities(paths: Iterable[Path]) -> str:
    """Digest of files by path, size and time of change."""
    texts = "\0".join(map(_path_text, paths))
    return hashlib.sha256(texts.encode("utf-8", "surrogateescape")).hexdigest()


def recording_identity(recording: Recording) -> str:
    """Digest of a recording and of its files by path, size and time of change."""
    return recording_digest(recording, _path_text)


def _path_text(path: Path) -> str:
    name = str(path.absolute())
    if path.is_dir():  # the time of a folder says nothing about the files in it
        return name
    try:
        status = path.stat()
    except OSError:  # reported by whoever reads it
        return name
    return f"{name} {status.st_size} {status.st_mtime_ns}"
