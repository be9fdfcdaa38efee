"""From sources to the tensors of a batch: windows, views, targets.

An item's key is (epoch, index): with the run's seed it decides everything that is random in it, so
that a resumed run sees the same samples in whatever process they are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch.utils.data import Dataset

from avsal.errors import DataError
from avsal.spectrogram import MIN_SAMPLES, log_spectrogram
from avsal.training.config import AugmentSettings
from avsal.training.sources import NO_SOUND, Source
from avsal.training.view import View, draw_view, plain_view
from avsal.windows import CLIP_FRAMES, PAST_FRAMES, Window, audio_span, window_for

AUDIO_CONTEXT = 16  # frames of sound that belong to a window in training
DRAWS = 10  # windows that are tried before a video counts as one without maps

Sample = dict[str, torch.Tensor]
Key = tuple[int, int]  # epoch and index


@dataclass(frozen=True)
class Inputs:
    """What a network is given.

    Attributes:
        size: (height, width) of frames and maps.
        clip: 16 frames and sound; otherwise the target frame alone.
        audio: the network hears.
    """

    size: tuple[int, int]
    clip: bool = True
    audio: bool = True

    @property
    def frames(self) -> int:
        """Frames of a sample."""
        return CLIP_FRAMES if self.clip else 1

    def sample(self, source: Source, target: int, view: View, values: np.ndarray) -> Sample:
        """Make the tensors of one sample.

        Args:
            target: the frame to predict.
            values: its saliency map (h, w), not empty.

        Returns:
            clip (3, 16, H, W) uint8, or (3, 1, H, W); map (H, W) float32 with sum 1; with sound
            spectrogram (1, 257, 111) and heard, a bool scalar.
        """
        window = window_for(target, source.frames - 1)
        frames = window.frames if self.clip else (target,)
        unique = sorted(set(frames))
        images = dict(zip(unique, source.images(unique), strict=True))
        clip = [view.frame(images[index], i, self.size) for i, index in enumerate(frames)]
        sample = {
            "clip": torch.from_numpy(np.stack(clip, axis=1)),
            "map": torch.from_numpy(_density(view.map(values, self.size))),
        }
        return {**sample, **self._sound(source, window)} if self.clip and self.audio else sample

    def _sound(self, source: Source, window: Window) -> Sample:
        samples = NO_SOUND
        if source.rate:
            rate = Fraction(source.rate).limit_denominator(100_000)
            start, end = audio_span(window, AUDIO_CONTEXT, lambda index: index / rate)
            samples = source.samples(start, end)
        heard = samples.size >= MIN_SAMPLES and bool(samples.any())
        spectrogram = log_spectrogram(samples, window.reverse)
        return {"spectrogram": spectrogram, "heard": torch.tensor(heard)}


def _density(values: np.ndarray) -> np.ndarray:
    values = np.maximum(values, 0)
    total = float(values.sum())
    return (values / total).astype(np.float32) if total > 0 else values.astype(np.float32)


class TrainingSamples(Dataset[Sample]):
    """One random window of every source an epoch (section 4.3); the key is (epoch, index)."""

    def __init__(
        self, sources: Sequence[Source], inputs: Inputs, augment: AugmentSettings, seed: int
    ) -> None:
        self.sources, self.inputs = sources, inputs
        self._augment, self._seed = augment, seed

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        source = self.sources[index]
        random = np.random.default_rng((self._seed, epoch, index))
        for target in self._targets(source, random):
            values = source.map(target)
            if not values.any():
                continue
            still = source.frames == 1
            view = draw_view(self._augment, random, self.inputs.frames, still)
            if not view.map(values, self.inputs.size).any():
                view = plain_view(self.inputs.frames)  # the crop lost all that people looked at
            return self.inputs.sample(source, target, view, values)
        raise DataError(f"{source.name}: no frame that was tried has a map that is not empty")

    def _targets(self, source: Source, random: np.random.Generator) -> Iterator[int]:
        """Random targets with a full past where there are such, then all in order."""
        late = [target for target in source.targets if target >= PAST_FRAMES]
        targets = late if late and self.inputs.clip else list(source.targets)
        if not targets:
            return
        for _ in range(DRAWS):
            yield targets[int(random.integers(len(targets)))]
        yield from targets


class ValidationSamples(Dataset[Sample]):
    """The same windows every time: up to `windows` of each source, evenly spaced.

    Its samples also have fixations (H, W) bool, empty where unknown, and the source's number.
    """

    def __init__(self, sources: Sequence[Source], inputs: Inputs, windows: int) -> None:
        self.sources, self._inputs = sources, inputs
        self.places = [
            (number, target)
            for number, source in enumerate(sources)
            for target in _spread(_predictable(source.targets), windows)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        number, target = self.places[index]
        source = self.sources[number]
        view = plain_view(self._inputs.frames)
        sample = self._inputs.sample(source, target, view, source.map(target))
        points = source.fixations(target)
        marks = view.fixations(np.zeros((0, 2)) if points is None else points, self._inputs.size)
        return {**sample, "fixations": torch.from_numpy(marks), "source": torch.tensor(number)}


def _predictable(targets: Sequence[int]) -> Sequence[int]:
    """Targets whose window lies in the past, where there are any."""
    return [target for target in targets if target >= PAST_FRAMES] or targets


def _spread(targets: Sequence[int], count: int) -> list[int]:
    """Up to `count` of the targets, in the middle of equal stretches."""
    count = min(count, len(targets))
    return [targets[int((place + 0.5) * len(targets) / count)] for place in range(count)]
