"""What part of the picture a sample shows, and in which colours: augmentation (off by default).

It is drawn from a random generator that the sample's place in the run decides, so a run that
resumes after a kill sees the same samples whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image

from avsal.training.config import AugmentSettings

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

# Left, top, right and bottom as shares of the picture's sides.
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Augmentation:
    """How the frames of one window are shown.

    Attributes:
        boxes: part of the picture that each frame shows; the last frame's goes for the map too.
        mirrored: left and right are exchanged.
        brightness, contrast, saturation: factors, the same for all frames.
    """

    boxes: tuple[Box, ...]
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def clip(self, images: Sequence[np.ndarray], size: tuple[int, int]) -> torch.Tensor:
        """The frames of a window, each cut to its box; uint8 (3, T, height, width)."""
        keys = list(zip(map(id, images), self.boxes, strict=True))
        seen: dict[tuple[int, Box], np.ndarray] = {}  # a still's frames are often all the same
        for place, (image, key) in enumerate(zip(images, keys, strict=True)):
            if key not in seen:
                seen[key] = self.frame(image, place, size)
        return torch.from_numpy(np.stack([seen[key] for key in keys], axis=1))

    def frame(self, image: np.ndarray, place: int, size: tuple[int, int]) -> np.ndarray:
        """Cut out and resize the frame at a place in the window, as `resize_frame` does.

        Args:
            image: uint8 (H, W, 3).
            size: (height, width).

        Returns:
            uint8 (3, height, width).
        """
        seen = self._coloured(self._cut(Image.fromarray(image), self.boxes[place], size))
        return np.ascontiguousarray(self._turned(seen).transpose(2, 0, 1))

    def map(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Cut out and resize a saliency map (h, w) of the last frame to float32 (height, width)."""
        grey = Image.fromarray(np.asarray(values, np.float32))
        return np.ascontiguousarray(self._turned(self._cut(grey, self.boxes[-1], size)))

    def _cut(self, image: Image.Image, box: Box, size: tuple[int, int]) -> np.ndarray:
        height, width = size
        left, top, right, bottom = box
        wide, high = image.size
        pixels = (left * wide, top * high, right * wide, bottom * high)
        if box == WHOLE and image.size == (width, height):
            return np.asarray(image)
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, pixels))

    def _turned(self, array: np.ndarray) -> np.ndarray:
        return array[:, ::-1] if self.mirrored else array

    def _coloured(self, image: np.ndarray) -> np.ndarray:
        if self.brightness == self.contrast == self.saturation == 1.0:
            return image
        # Brightness scales, contrast scales around the mean grey, saturation around each pixel's.
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
        still: all frames are one picture, which may be panned.
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
    """Boxes that move evenly from one to the other."""
    steps = np.linspace(np.array(start), np.array(end), frames)
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in steps)
