"""The protocol: every frame is scored against its annotation, in one pass over each recording.

Frames without fixations are omitted. Frames are scored in threads while the network runs.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from avsal.datasets.recording import Recording
from avsal.errors import DataError
from avsal.evaluation.baselines import (
    MEAN_GRID,
    Baselines,
    SmallPictures,
    on_grid,
)
from avsal.evaluation.maps import ScoredMaps, tags_of
from avsal.evaluation.scoring import MODEL, Annotations, MethodScores, score_map
from avsal.media.frames import FrameInfo
from avsal.metrics import centre_prior
from avsal.prediction.threads import BoundedPool

_MOST_WORKERS = 8

OnFrames = Callable[[Recording, int], None]


@dataclass
class _Pending:
    """A recording whose frames are being scored."""

    recording: Recording
    frames: list[Future[MethodScores | None]]
    error: Exception | None = None

    def done(self) -> bool:
        return all(frame.done() for frame in self.frames)

    def scores(self) -> list[MethodScores] | Exception:
        """Scores of the frames with gaze, or the error that prevented them."""
        if self.error is not None:
            return self.error
        try:
            scores = [row for frame in self.frames if (row := frame.result()) is not None]
            reading = self.recording.reading
        except Exception as error:
            return error
        if scores:
            return scores
        read = f" ({reading})" if reading else ""
        return DataError(f"{self.recording.name}: no frame has fixations{read}; nothing to score")


def score_recordings(
    recordings: Iterable[Recording],
    source: ScoredMaps | None,
    baselines: Baselines,
    on_frames: OnFrames = lambda _recording, _done: None,
) -> Iterator[tuple[Recording, list[MethodScores] | Exception]]:
    """Score recordings one after the other; one that fails does not stop the others.

    Args:
        source: gives the maps; None scores the baselines alone.
        on_frames: called with a recording and how many of its frames have a map.

    Yields:
        Each recording with the scores of its frames, or with the error that stopped it.
    """
    pending: deque[_Pending] = deque()
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    # The bound keeps maps that wait to be scored from filling the memory.
    with BoundedPool(workers, 2 * workers, "avsal-scores") as pool:
        for recording in recordings:
            pending.append(_start(pool, Annotations(recording), source, baselines, on_frames))
            while pending and pending[0].done():
                yield pending[0].recording, pending.popleft().scores()
        for rest in pending:
            yield rest.recording, rest.scores()


def _start(
    pool: BoundedPool,
    annotations: Annotations,
    source: ScoredMaps | None,
    baselines: Baselines,
    on_frames: OnFrames,
) -> _Pending:
    recording = annotations.recording
    pending = _Pending(recording, [])
    try:
        frames = SmallPictures(recording.frames()) if recording.has_pictures else None
        _ = recording.reading  # an error in the gaze must come before the network runs
        for tag, saliency in _maps(recording, source, frames):
            picture = frames.take(tag.index) if frames else None
            pending.frames.append(
                pool.submit(score_frame, annotations, tag, saliency, baselines, picture)
            )
            on_frames(recording, len(pending.frames))
    except Exception as error:  # one recording never stops the others
        pending.error = error
    return pending


def _maps(
    recording: Recording, source: ScoredMaps | None, frames: SmallPictures | None
) -> Iterator[tuple[FrameInfo, np.ndarray | None]]:
    if source is None:
        return ((tag, None) for tag in tags_of(recording, frames))
    return iter(source.maps(recording, frames))


def score_frame(
    annotations: Annotations,
    tag: FrameInfo,
    saliency: np.ndarray | None,
    baselines: Baselines,
    picture: np.ndarray | None,
) -> MethodScores | None:
    """Scores of one frame by method; None if it has no gaze."""
    truth = annotations.truth(tag)
    if truth is None:
        return None
    rows: MethodScores = {}
    if saliency is not None:
        if not np.isfinite(saliency).all():
            raise DataError(
                f"{annotations.recording.name}: the map of frame {tag.index} (from 0) has values "
                "that are not finite; make it again, or use other weights or --precision fp32"
            )
        rows[MODEL] = score_map(saliency, truth, centre_prior(truth.size))
    rows |= baselines.score(annotations.recording.name, truth, picture)
    if not all(math.isfinite(value) for scores in rows.values() for value in scores.values()):
        raise DataError(
            f"{annotations.recording.name}: frame {tag.index} (from 0) has scores that are not "
            "finite; the numbers in its map or its gaze are too large or too small to compare"
        )
    return rows


def mean_map(recording: Recording) -> np.ndarray:
    """Mean ground-truth map of a recording on `MEAN_GRID`; raises DataError."""
    total = np.zeros(MEAN_GRID)
    for tag in recording.tags():
        gaze = recording.gaze(tag)
        if gaze is not None:
            total += on_grid(gaze.density)
    return total / max(total.sum(), np.finfo(np.float64).tiny)
