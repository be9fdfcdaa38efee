"""The protocol and its baselines: every frame is scored against its annotation, in one pass.

Each recording is read once. Frames without fixations are omitted. Frames are scored in threads
while the network runs.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import cv2
import numpy as np

from avsal.datasets.recording import Recording
from avsal.errors import DataError
from avsal.evaluation.maps import ScoredMaps, tags_of
from avsal.evaluation.scoring import (
    CENTRE,
    FITTED,
    MEAN,
    MODEL,
    OBSERVERS,
    SPECTRAL_RESIDUAL,
    UNIFORM,
    Annotations,
    GroundTruth,
    MethodScores,
    mean_values,
    score_map,
)
from avsal.media.frames import FrameInfo, VideoFrame
from avsal.metrics import centre_prior
from avsal.prediction.threads import BoundedPool

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
