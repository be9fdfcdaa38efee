"""The protocol: every frame scored on its annotation, means by recording, one pass over each.

Frames without fixations are omitted. Scoring runs in threads next to the network.
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
    BaselineMaps,
    SmallPictures,
    centre_map,
    on_grid,
    score_baselines,
)
from avsal.evaluation.maps import MapSource, tags_of
from avsal.evaluation.scoring import MODEL, Annotations, MethodScores, score_map
from avsal.media.frames import FrameTag
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

    def scored_frames(self) -> list[MethodScores] | Exception:
        """Scores of the frames on which somebody looked, or why there are none."""
        try:
            if self.error is not None:
                raise self.error
            rows = [row for row in (frame.result() for frame in self.frames) if row is not None]
            if not rows:
                read = f" ({self.recording.reading})" if self.recording.reading else ""
                raise DataError(
                    f"{self.recording.name}: no frame has fixations{read}; nothing to score"
                )
        except Exception as error:
            return error
        return rows


def score_recordings(
    recordings: Iterable[Recording],
    source: MapSource | None,
    baselines: BaselineMaps,
    on_frames: OnFrames = lambda _recording, _done: None,
) -> Iterator[tuple[Recording, list[MethodScores] | Exception]]:
    """Score recordings one after the other; one that fails does not stop the rest.

    Args:
        source: gives the maps; None scores the baselines alone.
        on_frames: called with a recording and how many of its frames have a map.

    Yields:
        Each recording with the scores of its frames, or with the error that stopped it.
    """
    pending: deque[_Pending] = deque()
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    # Maps that wait to be scored must not fill the memory.
    with BoundedPool(workers, 2 * workers, "avsal-scores") as pool:
        for recording in recordings:
            pending.append(_start(pool, Annotations(recording), source, baselines, on_frames))
            while pending and pending[0].done():
                first = pending.popleft()
                yield first.recording, first.scored_frames()
        while pending:
            first = pending.popleft()
            yield first.recording, first.scored_frames()


def _start(
    pool: BoundedPool,
    annotations: Annotations,
    source: MapSource | None,
    baselines: BaselineMaps,
    on_frames: OnFrames,
) -> _Pending:
    recording = annotations.recording
    pending = _Pending(recording, [])
    try:
        shown = SmallPictures(recording.frames()) if recording.has_pictures else None
        _ = recording.reading  # raises before the network runs for nothing
        for tag, saliency in _maps(recording, source, shown):
            picture = shown.take(tag.index) if shown else None
            pending.frames.append(
                pool.submit(score_frame, annotations, tag, saliency, baselines, picture)
            )
            on_frames(recording, len(pending.frames))
    except Exception as error:  # one recording never stops the others
        pending.error = error
    return pending


def _maps(
    recording: Recording, source: MapSource | None, shown: SmallPictures | None
) -> Iterator[tuple[FrameTag, np.ndarray | None]]:
    if source is None:
        return ((tag, None) for tag in tags_of(recording, shown))
    return iter(source.maps(recording, shown))


def score_frame(
    annotations: Annotations,
    tag: FrameTag,
    saliency: np.ndarray | None,
    baselines: BaselineMaps,
    picture: np.ndarray | None,
) -> MethodScores | None:
    """Scores of one frame by method; None where nobody looked."""
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
        rows[MODEL] = score_map(saliency, truth, centre_map(truth.size))
    maps = baselines.maps(annotations.recording.name, truth.size, picture)
    rows |= score_baselines(truth, maps)
    if not all(math.isfinite(value) for scores in rows.values() for value in scores.values()):
        raise DataError(
            f"{annotations.recording.name}: frame {tag.index} (from 0) has scores that are not "
            "finite; its map or its gaze has numbers too large or too small to be compared"
        )
    return rows


def mean_map(recording: Recording) -> np.ndarray:
    """Mean ground-truth map of a recording on the grid of `baselines`; raises DataError."""
    total = np.zeros(MEAN_GRID)
    for tag in recording.tags():
        gaze = recording.gaze(tag)
        if gaze is not None:
            total += on_grid(gaze.density)
    return total / max(total.sum(), np.finfo(np.float64).tiny)
