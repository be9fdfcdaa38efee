"""Synthetic clips with a cut: one still, then another, whose recorded gaze counts from the cut on.

A window of a real video often holds the scene before; its map must be that of the scene now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from made import Made, pairs, read_still

from avsal.datasets import Recording
from avsal.preprocess.windows import CLIP_FRAMES
from avsal.training.augment import draw_augmentation
from avsal.training.config import AugmentSettings

Size = tuple[int, int]  # (height, width)

FIRST_CUT = 4  # frames at least before the cut
PAN = AugmentSettings(flip=0.5, pan=0.12, still=0.5)


def cut_clips(stills: Sequence[Recording], count: int, size: Size, seed: int) -> Iterator[Made]:
    """Make clips of 16 frames from pairs of stills.

    Args:
        size: (height, width) of the frames and densities.
    """
    for name, before, after, random in pairs(stills, count, seed):
        cut = int(random.integers(FIRST_CUT, CLIP_FRAMES))
        first, second = (_scene(still, size, random) for still in (before, after))
        images, densities = zip(*first[:cut], *second[cut:], strict=True)
        yield Made(name, "cuts", list(images), list(densities))


def _scene(
    still: Recording, size: Size, random: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames (H, W, 3) and densities (H, W) of a still, panned or not, for a whole window."""
    image, density = read_still(still)
    view = draw_augmentation(PAN, random, CLIP_FRAMES, still=True)
    frames = view.clip([image] * CLIP_FRAMES, size).numpy().transpose(1, 2, 3, 0)
    gaze = view.map(density, size)  # of the last frame, which is the one that is predicted
    return [(np.ascontiguousarray(frame), gaze) for frame in frames]
