"""Training samples: augmented windows of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, default_collate

from avsal.datasets.recording import Clip, Recording
from avsal.errors import DataError
from avsal.models.variants import Variant
from avsal.prediction.inputs import MIN_SAMPLES, Size, input_size, log_spectrogram
from avsal.prediction.windows import Rule, rule_for

if TYPE_CHECKING:
    from avsal.training.config import AugmentSettings

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

# Left, top, right and bottom as fractions of the picture's sides.
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

AUDIO_CONTEXT = 16  # frames of sound of a window of 16 frames; the published inference uses 32
DRAWS = 100  # frames that are tried before a recording counts as one without gaze
Sample = dict[str, torch.Tensor]
Key = tuple[int, int]  # epoch and index


@dataclass(frozen=True)
class Augmentation:
    """How the frames of one window are changed.

    Attributes:
        boxes: the part of the picture that is cut out of each frame; the last one is also cut out
            of the map.
        mirrored: left and right are exchanged.
        brightness, contrast, saturation: factors, the same for all frames.
    """

    boxes: tuple[Box, ...]
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def clip(self, images: Sequence[np.ndarray], size: tuple[int, int]) -> torch.Tensor:
        """Change the frames of a window; uint8 (3, T, height, width)."""
        keys = list(zip(map(id, images), self.boxes, strict=True))
        frames: dict[tuple[int, Box], np.ndarray] = {}  # those of a picture are often all the same
        for index, (image, key) in enumerate(zip(images, keys, strict=True)):
            if key not in frames:
                frames[key] = self.frame(image, index, size)
        return torch.from_numpy(np.stack([frames[key] for key in keys], axis=1))

    def frame(self, image: np.ndarray, index: int, size: tuple[int, int]) -> np.ndarray:
        """Change one frame and resize it as `resize_frame` does.

        Args:
            image: uint8 (H, W, 3).
            index: position in the window.
            size: (height, width).

        Returns:
            uint8 (3, height, width).
        """
        cut = self._cut(Image.fromarray(image), self.boxes[index], size)
        return np.ascontiguousarray(self._mirror(self._change_colours(cut)).transpose(2, 0, 1))

    def map(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Change a saliency map (h, w) as the last frame, to float32 (height, width)."""
        image = Image.fromarray(np.asarray(values, np.float32))
        return np.ascontiguousarray(self._mirror(self._cut(image, self.boxes[-1], size)))

    def _cut(self, image: Image.Image, box: Box, size: tuple[int, int]) -> np.ndarray:
        if box == WHOLE and image.size == size[::-1]:
            return np.asarray(image)
        left, top, right, bottom = box
        width, height = image.size
        pixels = (left * width, top * height, right * width, bottom * height)
        return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, pixels))

    def _mirror(self, array: np.ndarray) -> np.ndarray:
        return array[:, ::-1] if self.mirrored else array

    def _change_colours(self, image: np.ndarray) -> np.ndarray:
        if self.brightness == self.contrast == self.saturation == 1.0:
            return image
        # Brightness scales colours, contrast their distance from the picture's mean grey, and
        # saturation their distance from the pixel's own grey.
        mean = self.brightness * float(LUMA @ cv2.mean(image)[:3])
        mixing = self.saturation * np.eye(3) + (1 - self.saturation) * LUMA
        scaled = self.brightness * self.contrast * mixing
        offset = np.full((3, 1), (1 - self.contrast) * mean)
        return np.asarray(cv2.transform(image, np.hstack((scaled, offset))))


def no_augmentation(frames: int) -> Augmentation:
    """The whole picture, unchanged."""
    return Augmentation((WHOLE,) * frames)


def draw_augmentation(
    settings: AugmentSettings, random: np.random.Generator, frames: int, still: bool
) -> Augmentation:
    """Draw the augmentation of a training window.

    Args:
        still: all frames show one picture, which may be panned.
    """
    box = _crop(settings.crop, random)
    boxes = (box,) * frames
    pans = still and frames > 1 and settings.pan > 0
    if pans and not (settings.still and random.random() < settings.still):
        boxes = _pan(_crop(settings.pan, random), _crop(settings.pan, random), frames)
    mirrored = bool(random.random() < settings.flip)
    low, high = 1 - settings.colour, 1 + settings.colour
    return Augmentation(boxes, mirrored, *(float(f) for f in random.uniform(low, high, 3)))


def _crop(most: float, random: np.random.Generator) -> Box:
    cut_x, cut_y = random.uniform(0, most, 2)
    left, top = random.uniform(0, cut_x), random.uniform(0, cut_y)
    return left, top, left + 1 - cut_x, top + 1 - cut_y


def _pan(start: Box, end: Box, frames: int) -> tuple[Box, ...]:
    """Boxes that move from one to the other at constant speed."""
    steps = np.linspace(np.array(start), np.array(end), frames)
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in steps)


@dataclass(frozen=True)
class Inputs:
    """How inputs of a network are made: with the same frames, sizes and sound as in prediction.

    Attributes:
        variant: the network.
        alone: its only input is the target frame, without sound.
    """

    variant: Variant
    alone: bool = False

    @property
    def rule(self) -> Rule | None:
        """The window scheme; None if the target frame is alone."""
        return None if self.alone else rule_for(self.variant)

    @property
    def frames(self) -> int:
        """Number of frames of a window."""
        return 1 if self.alone else self.variant.frames

    @property
    def audio(self) -> bool:
        """Whether sound is an input."""
        return self.variant.audio and not self.alone

    def size(self, recording: Recording, image: np.ndarray) -> Size:
        """(height, width) to which a picture (H, W, 3) of a recording is resized."""
        height, width = image.shape[:2]
        return input_size(self.variant, height, width, recording.sample_aspect)

    def sample(
        self, recording: Recording, clip: Clip, density: np.ndarray, augmentation: Augmentation
    ) -> Sample:
        """Make the tensors of one sample.

        Args:
            density: ground-truth map (h, w) of the clip's target.

        Returns:
            clip (3, T, H, W) uint8 and map (H, W) float32 with sum 1; if sound is an input, also
            spectrogram (1, 257, 111) and heard, a bool scalar that is false in silence.
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
                sound.release(start)  # earlier sound need not be kept, which may be long
                samples = sound.read(start, end)
        heard = samples.size >= MIN_SAMPLES and bool(samples.any())
        spectrogram = torch.from_numpy(log_spectrogram(samples, clip.window.reverse))
        return {"spectrogram": spectrogram, "heard": torch.tensor(heard)}


def normalised(values: np.ndarray) -> np.ndarray:
    """Scale a map to sum 1, float32; an empty map stays empty."""
    values = np.maximum(values, 0)
    total = float(values.sum(dtype=np.float64))
    return (values / total if total > 0 else values).astype(np.float32)


class TrainingSamples(Dataset[Sample]):
    """One random window per recording and epoch (section 4.3); the key is (epoch, index)."""

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
            f"{recording.database}/{recording.name}: none of the frames tried has a map; omit the "
            "recording with a list in data.train.without"
        )


def collated(samples: Sequence[Sample]) -> list[Sample]:
    """Stack samples to a batch, in one part for each size of picture."""
    parts: dict[torch.Size, list[Sample]] = {}
    for sample in samples:
        parts.setdefault(sample["clip"].shape, []).append(sample)
    return [default_collate(part) for part in parts.values()]
