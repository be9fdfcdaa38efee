"""The protocol: every frame scored on its annotation, means by stimulus, one pass over each.

Frames on which nobody looked are left out. Scoring runs in threads beside the network.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from avsal.errors import AvsalError, DataError
from avsal.evaluation.baselines import MEAN_GRID, MeanMaps, centre_map, on_grid, score_baselines
from avsal.evaluation.scores import Scores, mean_scores, score
from avsal.evaluation.sources import MapSource
from avsal.evaluation.stimulus import Stimulus
from avsal.evaluation.truth import Moment

MODEL = "model"  # the method whose maps are scored, beside the baselines
_MOST_WORKERS = 8

FrameScores = dict[str, Scores]  # by method


@dataclass(frozen=True)
class Outcome:
    """A stimulus's scores by method, or why it has none."""

    stimulus: Stimulus
    frames: int = 0
    scores: dict[str, Scores] = field(default_factory=dict)
    error: AvsalError | None = None


@dataclass
class _Started:
    """A stimulus whose frames are being scored."""

    stimulus: Stimulus
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
                raise DataError(f"{self.stimulus.name}: no frame has fixations; nothing to score")
        except AvsalError as error:
            return Outcome(self.stimulus, error=error)
        methods = dict.fromkeys(method for row in rows for method in row)
        means = {
            method: mean_scores(row[method] for row in rows if method in row) for method in methods
        }
        return Outcome(self.stimulus, len(rows), means)


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
    stimuli: Iterable[Stimulus],
    source: MapSource | None,
    means: MeanMaps,
    on_frame: Callable[[Stimulus], None] = lambda _stimulus: None,
) -> Iterator[Outcome]:
    """Score stimuli one after the other; one that fails does not stop the rest.

    Args:
        source: gives the maps; None scores the baselines alone.
        means: the mean maps of all stimuli of the group.
        on_frame: called after every frame that the source has given.
    """
    waiting: deque[_Started] = deque()
    with _Pool() as pool:
        for stimulus in stimuli:
            waiting.append(_start(pool, stimulus, source, means, on_frame))
            while waiting and waiting[0].done():
                yield waiting.popleft().outcome()
        while waiting:
            yield waiting.popleft().outcome()


def _start(
    pool: _Pool,
    stimulus: Stimulus,
    source: MapSource | None,
    means: MeanMaps,
    on_frame: Callable[[Stimulus], None],
) -> _Started:
    started = _Started(stimulus, [])
    try:
        for moment, saliency in _maps(stimulus, source):
            future = pool.submit(score_frame, stimulus, moment, saliency, means)
            started.frames.append(future)
            on_frame(stimulus)
    except AvsalError as error:
        started.error = error
    return started


def _maps(
    stimulus: Stimulus, source: MapSource | None
) -> Iterator[tuple[Moment, np.ndarray | None]]:
    if source is None:
        return ((moment, None) for moment in stimulus.moments())
    return iter(source.maps(stimulus))


def score_frame(
    stimulus: Stimulus, moment: Moment, saliency: np.ndarray | None, means: MeanMaps
) -> FrameScores | None:
    """Scores of one frame by method; None where nobody looked."""
    truth = stimulus.truth(moment)
    if truth is None:
        return None
    rows = {}
    if saliency is not None:
        rows[MODEL] = score(saliency, truth, centre_map(truth.size))
    return {**rows, **score_baselines(truth, means.without(stimulus.name, truth.size))}


def mean_map(stimulus: Stimulus) -> np.ndarray:
    """Mean ground-truth map of a stimulus on the grid of `baselines`; raises DataError."""
    total = np.zeros(MEAN_GRID)
    for moment in stimulus.moments():
        truth = stimulus.truth(moment)
        if truth is not None:
            total += on_grid(truth.density)
    return total / max(total.sum(), np.finfo(np.float64).tiny)
