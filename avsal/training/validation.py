"""Scores of a network during training, on a few frames of every video, at the network's size.

The maps are those of `avsal predict`, including smoothing. `avsal evaluate` follows the protocol of
the literature instead.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from avsal import metrics
from avsal.datasets.recording import Part, Recording
from avsal.errors import WeightsError
from avsal.media.frames import FrameInfo
from avsal.prediction.maps import SaliencyFrame, to_density
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import MapSize, PredictSettings
from avsal.prediction.torch_engine import TorchEngine
from avsal.training.objectives import AudioVisual, Objective
from avsal.training.samples import collated, no_augmentation, normalised

if TYPE_CHECKING:
    from avsal.training.engine import Engine

SCORES = ("cc", "kl", "sim", "nss", "auc_judd")
Scores = dict[str, float]

# Returns the frame at a position in a recording, from 0 to 1, and its density (H, W).
Maps = Callable[[Recording, float], tuple[FrameInfo, np.ndarray]]


def validate(
    objective: Objective,
    recordings: Sequence[Recording],
    windows: int,
    engine: Engine,
    between: Callable[[], None] = lambda: None,
) -> Scores:
    """Score a network: means over the frames of each recording, then over recordings.

    Args:
        objective: is left in evaluation mode.
        recordings: of all processes, which share the work.
        windows: number of frames of each video, in the middle of equally long parts.
        between: called after each frame, equally often in all processes.

    Returns:
        One value for each of SCORES; NaN if no frame has the gaze that it needs.
    """
    objective.eval()
    positions = [
        (number, (window + 0.5) / count)
        for number, recording in enumerate(recordings)
        for count in (1 if recording.still else windows,)
        for window in range(count)
    ]
    if isinstance(objective, AudioVisual):
        maps = network_maps(objective, engine)
    else:
        maps = image_maps(objective, engine)
    scores: list[tuple[int, Scores]] = []
    for first in range(0, len(positions), engine.world):
        for number, position in positions[first : first + engine.world][engine.rank :][:1]:
            scores.append((number, _score(recordings[number], position, maps)))
        between()
    return _mean([each for process in engine.gather(scores) for each in process])


def _score(recording: Recording, position: float, maps: Maps) -> Scores:
    """Scores of one frame's map; NaN if the network gives no finite map."""
    try:
        tag, density = maps(recording, position)
    except WeightsError:
        return dict.fromkeys(SCORES, math.nan)
    if not np.isfinite(density).all():
        return dict.fromkeys(SCORES, math.nan)
    gaze = recording.gaze(tag)
    if gaze is None:
        return {}
    size = (density.shape[0], density.shape[1])
    truth, fixations = gaze.ground_truth(), gaze.fixation_points.mask(size)
    if truth is not None:
        truth = normalised(no_augmentation(1).map(truth, size))
    return metrics.score(density, truth, fixations if fixations.any() else None)


def network_maps(objective: AudioVisual, engine: Engine) -> Maps:
    """The maps of the network in prediction."""
    network = copy.deepcopy(objective.network)
    predictor = Predictor(objective.variant, TorchEngine(network, engine.device, engine.precision))
    settings = predictor.with_defaults(PredictSettings(batch=1, size=MapSize("model")))
    rule = predictor.rule(settings)

    def predicted(recording: Recording, part: Part) -> Generator[SaliencyFrame, None, None]:
        with recording.sound() as sound:
            audio = sound if predictor.uses_audio else None
            changed, aspect = replace(settings, start=float(part.time)), recording.sample_aspect
            maps = predictor.predict_from(part.frames, audio, recording.origin, changed, aspect)
            with closing(maps):
                yield from maps

    def map_at(recording: Recording, position: float) -> tuple[FrameInfo, np.ndarray]:
        with closing(predicted(recording, recording.part(position, rule))) as maps:
            frame = next(maps, None)
        if frame is None:  # the video is shorter than its header says; use the last frame
            whole = predicted(recording, Part(Fraction(0), recording.frames()))
            (frame,) = deque(whole, maxlen=1)
        return frame.info, frame.density

    return map_at


def image_maps(objective: Objective, engine: Engine) -> Maps:
    """The maps of a network for single frames."""
    inputs = objective.inputs

    def map_at(recording: Recording, position: float) -> tuple[FrameInfo, np.ndarray]:
        clip = recording.clip(position, inputs.rule)
        empty = np.zeros((1, 1), np.float32)
        sample = inputs.sample(recording, clip, empty, no_augmentation(inputs.frames))
        (batch,) = collated([sample])
        with torch.inference_mode(), engine.autocast():
            log_density = objective.predict(engine.put(batch))
        array = log_density[0].float().cpu().numpy()
        return clip.target, to_density(array, (array.shape[0], array.shape[1]))

    return map_at


def _mean(scores: list[tuple[int, Scores]]) -> Scores:
    """Means of frames' scores, given with the number of their recording."""
    means = {}
    for key in SCORES:
        by_recording: dict[int, list[float]] = defaultdict(list)
        for number, values in scores:
            if key in values:
                by_recording[number].append(values[key])
        of_recordings = [math.fsum(each) / len(each) for each in by_recording.values()]
        means[key] = math.fsum(of_recordings) / len(of_recordings) if of_recordings else math.nan
    return means
