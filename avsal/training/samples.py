"""From recordings to the tensors of a batch: windows, augmentation, targets.

An item's key is (epoch, index): with the run's seed it decides everything that is random in it, so
that a resumed run sees the same samples in whatever process they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from avsal.datasets.recording import Clip, Recording
from avsal.errors import DataError
from avsal.preprocess.sound import MIN_SAMPLES, log_spectrogram
from avsal.preprocess.windows import CLIP_FRAMES, audio_span, seen_frames
from avsal.training.augment import Augmentation, draw_augmentation, no_augmentation
from avsal.training.config import AugmentSettings

AUDIO_CONTEXT = 16  # frames of sound that belong to a window in training
DRAWS = 100  # frames that are tried before a recording counts as one without gaze

Sample = dict[str, torch.Tensor]
Key = tuple[int, int]  # epoch and index


@dataclass(frozen=True)
class Inputs:
    """What a network is given.

    Attributes:
        size: (height, width) of frames and maps.
        frames: of a window's 16 those that the network sees, evenly spaced, the target the last.
        clip: frames and sound; otherwise the target frame alone.
        audio: the network hears.
    """

    size: tuple[int, int]
    frames: int = CLIP_FRAMES
    clip: bool = True
    audio: bool = True

    def sample(
        self, recording: Recording, clip: Clip, density: np.ndarray, augmentation: Augmentation
    ) -> Sample:
        """Make the tensors of one sample.

        Args:
            density: ground-truth map (h, w) of the clip's target.

        Returns:
            clip (3, T, H, W) uint8, or (3, 1, H, W); map (H, W) float32 with sum 1; with sound
            spectrogram (1, 257, 111) and heard, a bool scalar.
        """
        window = clip.window
        indices = seen_frames(window, self.frames) if self.clip else (window.target,)
        sample = {
            "clip": augmentation.clip([clip.frame(index).image for index in indices], self.size),
            "map": torch.from_numpy(normalised(augmentation.map(density, self.size))),
        }
        return {**sample, **_sound(recording, clip)} if self.clip and self.audio else sample


def _sound(recording: Recording, clip: Clip) -> Sample:
    samples = np.zeros(0, np.float32)
    if recording.has_sound:
        start, end = audio_span(clip.window, AUDIO_CONTEXT, clip.time)
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
        if not augmentation.map(density, self.inputs.size).any():
            augmentation = no_augmentation(
                self.inputs.frames
            )  # the crop lost all that people looked at
        return self.inputs.sample(recording, clip, density, augmentation)

    def _draw(self, recording: Recording, random: np.random.Generator) -> tuple[Clip, np.ndarray]:
        for _ in range(1 if recording.still else DRAWS):
            clip = recording.clip(float(random.random()), full_past=self.inputs.clip)
            gaze = recording.gaze(clip.target)
            density = None if gaze is None else gaze.ground_truth()
            if density is not None:
                return clip, density
        raise DataError(
            f"{recording.database}/{recording.name}: no frame that was tried has a map; leave the "
            "recording out with a list under data.train without"
        )


class ValidationSamples(Dataset[Sample]):
    """The same windows every time: `windows` of each video, in the middle of equal stretches.

    Its samples also have fixations (H, W) bool, empty where unknown, and the recording's number.
    The map of a frame without gaze is empty.
    """

    def __init__(self, recordings: Sequence[Recording], inputs: Inputs, windows: int) -> None:
        self._recordings, self._inputs = recordings, inputs
        self.places = [
            (number, (window + 0.5) / count)
            for number, recording in enumerate(recordings)
            for count in (1 if recording.still else windows,)
            for window in range(count)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        number, place = self.places[index]
        recording, size = self._recordings[number], self._inputs.size
        clip = recording.clip(place)
        gaze = recording.gaze(clip.target)
        density = None if gaze is None else gaze.ground_truth()
        if density is None:
            density = np.zeros(size, np.float32)
        marks = np.zeros(size, bool) if gaze is None else gaze.fixation_points.mask(size)
        sample = self._inputs.sample(recording, clip, density, no_augmentation(self._inputs.frames))
        return {**sample, "fixations": torch.from_numpy(marks), "source": torch.tensor(number)}
