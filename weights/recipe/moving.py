"""Synthetic clips: something that was looked at in one still moves over another still.

Things that move are looked at, and stills alone cannot teach that: about half of the gaze goes
with the moving cut-out, the rest stays where people looked in the background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from made import Made, normalised, pairs, read_still

from avsal.datasets import Recording
from avsal.preprocess.frames import resize_frame
from avsal.preprocess.windows import CLIP_FRAMES
from avsal.training.augment import Augmentation, draw_augmentation
from avsal.training.config import AugmentSettings

Size = tuple[int, int]  # (height, width)

WIDTHS = (0.15, 0.30)  # of the cut-out, shares of the frame's width
FORMS = (0.7, 1.3)  # its height by its width, pixels of the frame
FEATHER = 0.35  # share of its radius over which it fades out
STEPS = (0.08, 0.5)  # from the first frame's place to the last one's, shares of the width
BEND = 0.2  # of the way, sideways, share of its length
MASS = (0.4, 0.6)  # share of the gaze that goes with it
PAN = 0.12  # how much of a side the background's crop may leave out, and so how far it may move


@dataclass(frozen=True)
class CutOut:
    """A soft ellipse of a still, on a canvas of the frame's size.

    Attributes:
        image: float32 (H, W, 3).
        mask: float32 (H, W), how much of it shows.
        density: float32 (H, W), gaze on it.
        centre: (2,) x and y, pixels.
        radii: (2,) in x and y, pixels.
    """

    image: np.ndarray
    mask: np.ndarray
    density: np.ndarray
    centre: np.ndarray
    radii: np.ndarray

    def laid(
        self, image: np.ndarray, density: np.ndarray, place: np.ndarray, mass: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lay it over a frame with its centre at a place; `mass` is its share of the gaze."""
        shift = np.float32([[1, 0, 0], [0, 1, 0]])
        shift[:, 2] = place - self.centre
        height, width = self.mask.shape
        cut, mask, gaze = (
            cv2.warpAffine(array, shift, (width, height), flags=cv2.INTER_LINEAR)
            for array in (self.image, self.mask, self.density)
        )
        seen = image + mask[..., None] * (cut - image)
        behind = normalised(density * (1 - mask))
        joined = mass * normalised(gaze) + (1 - mass) * behind
        return np.clip(np.rint(seen), 0, 255).astype(np.uint8), joined


def moving_clips(stills: Sequence[Recording], count: int, size: Size, seed: int) -> Iterator[Made]:
    """Make clips of 16 frames from pairs of stills.

    Args:
        size: (height, width) of the frames and densities.
    """
    for name, behind, before, random in pairs(stills, count, seed):
        yield _clip(name, behind, cut_out(before, size, random), random)


def cut_out(still: Recording, size: Size, random: np.random.Generator) -> CutOut:
    """Cut the part out that was looked at most."""
    image, density = read_still(still)
    height, width = size
    canvas = resize_frame(image, size).permute(1, 2, 0).numpy().astype(np.float32)
    density = cv2.resize(density, (width, height), interpolation=cv2.INTER_AREA)
    across = random.uniform(*WIDTHS) * width / 2
    radii = np.array([across, across * random.uniform(*FORMS)])
    peak = np.unravel_index(density.argmax(), density.shape)[::-1]
    centre = np.clip(peak, radii, (width, height) - radii)  # all of it is in the still
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    distance = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
    inside = np.clip((1 - distance) / FEATHER, 0, 1)
    mask = (inside * inside * (3 - 2 * inside)).astype(np.float32)
    return CutOut(canvas, mask, density * mask, centre, radii)


def _clip(name: str, still: Recording, cut: CutOut, random: np.random.Generator) -> Made:
    size: Size = (cut.mask.shape[0], cut.mask.shape[1])
    image, density = read_still(still)
    pan = PAN if random.random() < 0.5 else 0.0
    view = draw_augmentation(AugmentSettings(flip=0.5, pan=pan), random, CLIP_FRAMES, still=True)
    mass = random.uniform(*MASS)
    images, densities = [], []
    for box, place in zip(view.boxes, _path(cut, random), strict=True):
        seen = replace(view, boxes=(box,))
        frame, gaze = cut.laid(*_background(image, density, seen, size), place, mass)
        images.append(frame)
        densities.append(gaze)
    return Made(name, "moving", images, densities)


def _background(
    image: np.ndarray, density: np.ndarray, view: Augmentation, size: Size
) -> tuple[np.ndarray, np.ndarray]:
    frame = view.frame(image, 0, size).transpose(1, 2, 0).astype(np.float32)
    return frame, view.map(density, size)


def _path(cut: CutOut, random: np.random.Generator) -> np.ndarray:
    """Places (16, 2) of its centre, along a curve with one bend; it may leave the frame by half."""
    height, width = cut.mask.shape
    low, high = cut.radii / 2, (width, height) - cut.radii / 2
    least, most = (share * width for share in STEPS)
    while True:
        start, end = random.uniform(low, high), random.uniform(low, high)
        if least <= np.hypot(*(end - start)) <= most:
            break
    way = end - start
    aside = np.array([-way[1], way[0]]) * random.normal(0, BEND)
    time = np.linspace(0, 1, CLIP_FRAMES)[:, None]
    return start + time * way + 4 * time * (1 - time) * aside
