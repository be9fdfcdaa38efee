"""Scores of maps against recorded gaze, frame by frame, and how they are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avsal import atomic, metrics
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


@dataclass(frozen=True)
class RecordingScores:
    """Scores of one video or picture.

    Attributes:
        database: or image set, or table of gaze.
        fold: "1", "2" or "3"; empty where there are no folds.
        frames: how many were scored; those without fixations are omitted.
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
    """The scores of a recording that are in `folder`; None if there are none with `made_with`."""
    try:
        found = json.loads(_path(folder, database, fold, name).read_text(encoding="utf-8"))
        if found["made_with"] == json.loads(json.dumps(made_with)):
            return RecordingScores(**found["result"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def save_scores(folder: Path, result: RecordingScores, made_with: dict[str, Any]) -> None:
    """Write the scores of a recording into `folder`; raises OutputError."""
    content = {"made_with": made_with, "result": asdict(result)}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path = _path(folder, result.database, result.fold, result.name)
    atomic.check_replaceable(path.parent, lambda _folder: _written(path), (path.name,))
    atomic.write_bytes(path, text.encode())


def _written(path: Path) -> set[str]:
    """The name of a file if it holds the scores of a recording."""
    try:
        found = json.loads(path.read_bytes())
        return {path.name} if {"made_with", "result"} <= set(found) else set()
    except (OSError, ValueError, TypeError, RecursionError):
        return set()


def _path(folder: Path, database: str, fold: str, name: str) -> Path:
    return folder / "results" / (f"fold{fold}" if fold else "") / relative_path(database, name)


def relative_path(database: str, name: str) -> Path:
    """Where the scores of a recording are below those of its fold.

    Raises:
        UsageError: a name leads out of there, or cannot name a file.
    """
    parts = [part for text in (database, f"{name}.json") for part in text.split("/")]
    return Path(*map(atomic.path_part, parts))


def digest(values: Any) -> str:
    """sha256 of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def file_identities(paths: Iterable[Path]) -> str:
    """Digest of files by path, size and time of change; none of them is read."""
    found = hashlib.sha256()
    for path in paths:
        found.update(_identity(path) + b"\0")
    return found.hexdigest()


def recording_identity(recording: Recording) -> str:
    """Digest of a recording's fields and of the identities of all files that it is read from."""
    found = hashlib.sha256()
    for part in _parts(recording):
        found.update(part + b"\0")
    for path in recording.source_files():
        found.update(_identity(path) + b"\0")
    return found.hexdigest()


def _identity(path: Path) -> bytes:
    name = str(path.absolute()).encode("utf-8", "surrogateescape")
    try:
        status = path.stat()
    except OSError:
        return name  # a missing file is told by whoever reads it
    return name + f" {status.st_size} {status.st_mtime_ns}".encode()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Path):
        # The time of a folder says nothing about what is in it.
        yield str(value.absolute()).encode() if value.is_dir() else _identity(value)
    elif isinstance(value, np.ndarray):
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield field.name.encode()
            yield from _parts(getattr(value, field.name))
    else:
        yield repr(value).encode()
