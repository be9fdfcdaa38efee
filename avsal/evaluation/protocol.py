"""The protocol: every frame scored on its annotation, means by recording, one pass over each.

Frames on which nobody looked are left out. Scoring runs in threads beside the network. Pictures are
read a second time for the baseline that is made of them, so that maps may come from anywhere.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from avsal.datasets import Recording
from avsal.errors import AvsalError, DataError
from avsal.evaluation.baselines import MEAN_GRID, Known, centre_map, on_grid, score_baselines
from avsal.evaluation.scores import Scores, mean_scores, score
from avsal.evaluation.sources import MapSource
from avsal.evaluation.spectral_residual import SmallPictures
from avsal.evaluation.truth import Annotations
from avsal.media.frames import FrameTag

MODEL = "model"  # the method whose maps are scored, beside the baselines
_MOST_WORKERS = 8

FrameScores = dict[str, Scores]  # by method


@dataclass(frozen=True)
class Outcome:
    """A recording's scores by method, or why it has none."""

    recording: Recording
    frames: int = 0
    scores: dict[str, Scores] = field(default_factory=dict)
    error: AvsalError | None = None


@dataclass
class _Started:
    """A recording whose frames are being scored."""

    recording: Recording
    frames: list[Future[FrameScores | None]]
    error: AvsalError | None = None

    def done(self) -> bool:
        return all(frame.done() for frame in self.frames)

    def outcome(self) -> Outcome:
        try:
            if self.error is not None:
                raise self.error
            rows = [row for row in (frame.result() for frame in self.frames) if row is not None]
            if not rows:
                raise DataError(f"{self.recording.name}: no frame has fixations; nothing to score")
        except AvsalError as error:
            return Outcome(self.recording, error=error)
        methods = dict.fromkeys(method for row in rows for method in row)
        means = {
            method: mean_scores(row[method] for row in rows if method in row) for method in methods
        }
        return Outcome(self.recording, len(rows), means)


class _Pool:
    """Threads with a bounded queue: maps that wait to be scored must not fill the memory."""

    def __init__(self) -> None:
        workers = min(_MOST_WORKERS, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="avsal-scores")
        self._slots = threading.Semaphore(2 * workers)

    def submit(self, function: Callable[..., FrameScores | None], *args: object) -> Future:
        self._slots.acquire()
        future = self._threads.submit(function, *args)
        future.add_done_callback(lambda _done: self._slots.release())
        return future

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_error: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


def evaluate(
    recordings: Iterable[Recording],
    source: MapSource | None,
    known: Known,
) -> Iterator[Outcome]:
    """Score recordings one after the other; one that fails does not stop the rest.

    Args:
        source: gives the maps; None scores the baselines alone.
        known: what the baselines know of the group.
    """
    waiting: deque[_Started] = deque()
    with _Pool() as pool:
        for recording in recordings:
            waiting.append(_start(pool, Annotations(recording), source, known))
            while waiting and waiting[0].done():
                yield waiting.popleft().outcome()
        while waiting:
            yield waiting.popleft().outcome()


def _start(
    pool: _Pool,
    annotations: Annotations,
    source: MapSource | None,
    known: Known,
) -> _Started:
    recording = annotations.recording
    started = _Started(recording, [])
    try:
        pictures = SmallPictures(recording) if known.pictures else None
        for tag, saliency in _maps(recording, source):
            picture = pictures.at(tag.index) if pictures else None
            started.frames.append(
                pool.submit(score_frame, annotations, tag, saliency, known, picture)
            )
    except AvsalError as error:
        started.error = error
    return started


def _maps(
    recording: Recording, source: MapSource | None
) -> Iterator[tuple[FrameTag, np.ndarray | None]]:
    if source is None:
        return ((tag, None) for tag in recording.tags())
    return iter(source.maps(recording))


def score_frame(
    annotations: Annotations,
    tag: FrameTag,
    saliency: np.ndarray | None,
    known: Known,
    picture: np.ndarray | None,
) -> FrameScores | None:
    """Scores of one frame by method; None where nobody looked."""
    truth = annotations.truth(tag)
    if truth is None:
        return None
    rows = {}
    if saliency is not None:
        rows[MODEL] = score(saliency, truth, centre_map(truth.size))
    maps = known.maps(annotations.recording.name, truth.size, picture)
    return {**rows, **score_baselines(truth, maps)}


def mean_map(recording: Recording) -> np.ndarray:
    """Mean ground-truth map of a recording on the grid of `baselines`; raises DataError."""
    total = np.zeros(MEAN_GRID)
    for tag in recording.tags():
        gaze = recording.gaze(tag)
        if gaze is not None and gaze.density is not None:
            total += on_grid(gaze.density)
    return total / max(total.sum(), np.finfo(np.float64).tiny)
