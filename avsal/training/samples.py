"""From recordings to the tensors of a batch: windows, augmentation, targets.

An item's key is (epoch, index): with the run's seed it decides everything that is random in it, so
that a resumed run sees the same samples in whatever process they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from avsal.datasets.recording import Clip, Recording
from avsal.errors import DataError
from avsal.models.variants import Variant
from avsal.preprocess.rules import Rule, rule_for
from avsal.preprocess.shape import Size, input_size
from avsal.preprocess.sound import MIN_SAMPLES, log_spectrogram
from avsal.training.augment import Augmentation, draw_augmentation, no_augmentation
from avsal.training.config import AugmentSettings

# Frames of sound that belong to a window of 16 frames; the published inference has 32.
AUDIO_CONTEXT = 16
DRAWS = 100  # frames that are tried before a recording counts as one without gaze

Sample = dict[str, torch.Tensor]
Key = tuple[int, int]  # epoch and index


@dataclass(frozen=True)
class Inputs:
    """What a network is given: the same frames, sizes and sound as in prediction.

    Attributes:
        variant: the network.
        alone: the target frame is all that it sees, without sound.
    """

    variant: Variant
    alone: bool = False

    @property
    def rule(self) -> Rule | None:
        """How windows are laid; None where the target frame is alone."""
        return None if self.alone else rule_for(self.variant)

    @property
    def frames(self) -> int:
        """Number of frames that the network sees."""
        return 1 if self.alone else self.variant.frames

    @property
    def audio(self) -> bool:
        """Whether the network hears."""
        return self.variant.audio and not self.alone

    def size(self, recording: Recording, image: np.ndarray) -> Size:
        """(height, width) that a picture (H, W, 3) of a recording has in the network."""
        height, width = image.shape[:2]
        return input_size(self.variant, height, width, recording.sample_aspect)

    def sample(
        self, recording: Recording, clip: Clip, density: np.ndarray, augmentation: Augmentation
    ) -> Sample:
        """Make the tensors of one sample.

        Args:
            density: ground-truth map (h, w) of the clip's target.

        Returns:
            clip (3, T, H, W) uint8; map (H, W) float32 with sum 1; with sound spectrogram
            (1, 257, 111) and heard, a bool scalar.
        """
        images = [clip.frame(index).image for index in clip.window.frames]
        size = self.size(recording, images[-1])
        sample = {
            "clip": augmentation.clip(images, size),
            "map": torch.from_numpy(normalised(augmentation.map(density, size))),
        }
        return {**sample, **self._sound(recording, clip)} if self.audio else sample

    def _sound(self, recording: Recording, clip: Clip) -> Sample:
        samples = np.zeros(0, np.float32)
        rule = self.rule
        if recording.has_sound and rule is not None:
            start, end = rule.sound(clip.window, AUDIO_CONTEXT, clip.time)
            with recording.sound() as sound:
                sound.release(start)  # a window may lie far inside: what comes before is not kept
                samples = sound.read(start, end)
        heard = samples.size >= MIN_SAMPLES and bool(samples.any())
        spectrogram = torch.from_numpy(log_spectrogram(samples, clip.window.reverse))
        return {"spectrogram": spectrogram, "heard": torch.tensor(heard)}


def normalised(values: np.ndarray) -> np.ndarray:
    """Scale a map to sum 1, float32; an empty one stays empty."""
    values = np.maximum(values, 0)
    total = float(values.sum(dtype=np.float64))
    return (values / total if total > 0 else values).astype(np.float32)


class TrainingSamples(Dataset[Sample]):
    """One random window of every recording an epoch (section 4.3); the key is (epoch, index)."""

    def __init__(
        self, recordings: Sequence[Recording], inputs: Inputs, augment: AugmentSettings, seed: int
    ) -> None:
        self.recordings, self.inputs = recordings, inputs
        self._augment, self._seed = augment, seed

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        recording = self.recordings[index]
        random = np.random.default_rng((self._seed, epoch, index))
        clip, density = self._draw(recording, random)
        augmentation = draw_augmentation(self._augment, random, self.inputs.frames, recording.still)
        if not augmentation.map(density, density.shape).any():  # the crop lost all gaze
            augmentation = no_augmentation(self.inputs.frames)
        return self.inputs.sample(recording, clip, density, augmentation)

    def _draw(self, recording: Recording, random: np.random.Generator) -> tuple[Clip, np.ndarray]:
        for _ in range(1 if recording.still else DRAWS):
            clip = recording.clip(float(random.random()), self.inputs.rule)
            gaze = recording.gaze(clip.target)
            density = None if gaze is None else gaze.ground_truth()
            if density is not None:
                return clip, density
        raise DataError(
            f"{recording.database}/{recording.name}: no frame that was tried has a map; leave the "
            "recording out with a list under data.train without"
        )


def collated(samples: Sequence[Sample]) -> list[Sample]:
    """Stack samples to a batch, in several parts where the pictures have several sizes."""
    parts: dict[torch.Size, list[Sample]] = {}
    for sample in samples:
        parts.setdefault(sample["clip"].shape, []).append(sample)
    return [default_collate(part) for part in parts.values()]
