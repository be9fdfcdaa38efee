"""Scores of a network while it is trained.

They watch a run: a few frames of every video, at the network's size. The maps are those that
`avsal predict` gives, smoothing included. `avsal evaluate` follows the protocol of the literature.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch

from avsal import metrics
from avsal.datasets.recording import Part, Recording
from avsal.errors import WeightsError
from avsal.media.frames import FrameTag
from avsal.prediction.maps import SaliencyFrame, to_density
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import MapSize, PredictSettings
from avsal.prediction.torch_engine import TorchEngine
from avsal.training.engine import Engine
from avsal.training.objectives import AudioVisual, Objective
from avsal.training.samples import Inputs, collated, no_augmentation, normalised

SCORES = ("cc", "kl", "sim", "nss", "auc_judd")
Scores = dict[str, float]

# Gives the frame at a place of a recording, from 0 to 1, and its density (H, W).
Maps = Callable[[Recording, float], tuple[FrameTag, np.ndarray]]


def validate(
    objective: Objective,
    recordings: Sequence[Recording],
    windows: int,
    engine: Engine,
    between: Callable[[], None] = lambda: None,
) -> Scores:
    """Score a network: the mean over every recording's frames, then over recordings.

    Args:
        objective: left in evaluation mode, and otherwise as it was.
        recordings: of all processes; each scores a share.
        windows: frames of every video, in the middle of equal stretches.
        between: called after each frame, by all processes equally often.

    Returns:
        One value for each of SCORES, NaN where no frame has what it needs.
    """
    objective.eval()
    places = [
        (number, (window + 0.5) / count)
        for number, recording in enumerate(recordings)
        for count in (1 if recording.still else windows,)
        for window in range(count)
    ]
    maps = network_maps(objective, engine) if isinstance(objective, AudioVisual) else None
    maps = maps or image_maps(objective, engine)
    found: list[tuple[int, Scores]] = []
    for first in range(0, len(places), engine.world):
        for number, place in places[first : first + engine.world][engine.rank :][:1]:
            found.append((number, _score(recordings[number], place, maps)))
        between()
    return _mean([scored for share in engine.gather(found) for scored in share])


def _score(recording: Recording, place: float, maps: Maps) -> Scores:
    """Scores of one frame's map; not a number where the network, as it is, gives none."""
    nothing = dict.fromkeys(SCORES, math.nan)
    try:
        tag, density = maps(recording, place)
    except WeightsError:
        return nothing
    if not np.isfinite(density).all():
        return nothing
    gaze = recording.gaze(tag)
    if gaze is None:
        return {}
    size = (density.shape[0], density.shape[1])
    truth, mark = gaze.ground_truth(), gaze.fixation_points.mask(size)
    if truth is not None:
        truth = normalised(no_augmentation(1).map(truth, size))
    return metrics.score(density, truth, mark if mark.any() else None)


def network_maps(objective: AudioVisual, engine: Engine) -> Maps:
    """The maps that the network would give in prediction."""
    network = copy.deepcopy(objective.network)
    computed = TorchEngine(network, engine.device, engine.precision)
    predictor = Predictor(objective.variant, computed)
    settings = predictor.complete(PredictSettings(batch=1, size=MapSize("model")))
    rule = predictor.rule(settings)

    def predicted(recording: Recording, part: Part) -> Generator[SaliencyFrame, None, None]:
        with recording.sound() as sound:
            audio = sound if predictor.uses_audio else None
            here, aspect = replace(settings, start=float(part.time)), recording.sample_aspect
            maps = predictor.predict_from(part.frames, audio, recording.origin, here, aspect)
            with closing(maps):
                yield from maps

    def map_at(recording: Recording, place: float) -> tuple[FrameTag, np.ndarray]:
        with closing(predicted(recording, recording.part(place, rule))) as maps:
            frame = next(maps, None)
        if frame is None:  # the headers promise more than there is: the last frame that is there
            whole = predicted(recording, Part(Fraction(0), recording.frames()))
            (frame,) = deque(whole, maxlen=1)
        return frame.tag, frame.density

    return map_at


def image_maps(objective: Objective, engine: Engine) -> Maps:
    """The maps of a network that sees single frames."""
    inputs: Inputs = objective.inputs

    def map_at(recording: Recording, place: float) -> tuple[FrameTag, np.ndarray]:
        clip = recording.clip(place, inputs.rule)
        empty = np.zeros((1, 1), np.float32)
        sample = inputs.sample(recording, clip, empty, no_augmentation(inputs.frames))
        (batch,) = collated([sample])
        with torch.inference_mode(), engine.autocast():
            log_density = objective.predict(engine.put(batch))
        found = log_density[0].float().cpu().numpy()
        return clip.target, to_density(found, (found.shape[0], found.shape[1]))

    return map_at


def _mean(found: list[tuple[int, Scores]]) -> Scores:
    by_source: dict[str, dict[int, list[float]]] = {key: defaultdict(list) for key in SCORES}
    for number, scores in sorted(found, key=lambda scored: scored[0]):
        for key, value in scores.items():
            by_source[key][number].append(value)
    return {
        key: math.fsum(math.fsum(values) / len(values) for values in lists.values()) / len(lists)
        if lists
        else math.nan
        for key, lists in by_source.items()
    }
