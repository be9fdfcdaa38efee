"""Recordings that are made, not found: frames and densities in memory, ready to be packed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from avsal.datasets import Gaze, Recording, tag_of
from avsal.datasets.recording import IndexedRecording
from avsal.media.frames import FrameTag


@dataclass(frozen=True)
class Made(IndexedRecording):
    """A clip, or a still where there is one frame, with a density of every frame.

    Attributes:
        images: uint8 (H, W, 3) RGB each.
        densities: float32 (h, w) each, in any scale.
    """

    name: str
    database: str
    images: list[np.ndarray]
    densities: list[np.ndarray]
    rate: Fraction = Fraction(25)

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def gaze(self, tag: FrameTag) -> Gaze | None:
        return Gaze(self.densities[tag.index], None)

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        return None


def pairs(
    stills: Sequence[Recording], count: int, seed: int
) -> Iterator[tuple[str, Recording, Recording, np.random.Generator]]:
    """Names of clips, two different stills for each, and the generator for what else is random."""
    for number in range(count):
        random = np.random.default_rng((seed, number))
        first, second = random.choice(len(stills), 2, replace=False)
        yield f"{number:04d}", stills[first], stills[second], random


def read_still(still: Recording) -> tuple[np.ndarray, np.ndarray]:
    """A still's picture, uint8 (H, W, 3), and its gaze density, float32 (H, W), of sum 1.

    Raises:
        DataError: it cannot be read.
        ValueError: nobody looked at it.
    """
    frame = next(still.frames())
    gaze = still.gaze(tag_of(frame, still.origin))
    if gaze is None or gaze.density is None:
        raise ValueError(f"{still.database}/{still.name}: no gaze")
    return frame.image, normalised(gaze.density)


def normalised(density: np.ndarray) -> np.ndarray:
    """A density of sum 1, float32; one without any mass becomes uniform."""
    total = density.sum(dtype=np.float64)
    if not total > 0:
        return np.full(density.shape, 1 / density.size, np.float32)
    return (density / total).astype(np.float32)
