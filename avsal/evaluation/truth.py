"""What is known about the gaze on one frame, as the metrics need it."""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass

import numpy as np

from avsal.datasets import Gaze, Recording
from avsal.media.frames import FrameTag


@dataclass(frozen=True)
class Truth:
    """The annotation of one frame; all arrays are (H, W).

    Attributes:
        density: ground-truth map, of any scale.
        fixations: bool; None where only the map is known.
        others: bool, fixations of other frames or images for sAUC; None where there are none.
        seed: decides sAUC's draws.
        halves: the same frame by one half of the observers and by the other; empty where
            observers are not known.
    """

    density: np.ndarray
    fixations: np.ndarray | None
    others: np.ndarray | None
    seed: int
    halves: tuple[Truth, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.density.shape[0], self.density.shape[1]


class Annotations:
    """A recording's annotations, frame by frame; `truth` may be called from several threads."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._seed = zlib.crc32(recording.name.encode())  # of the name alone: no order matters
        self._reading = threading.Lock()
        self._union: tuple[tuple[int, int], np.ndarray | None] | None = None

    def truth(self, tag: FrameTag) -> Truth | None:
        """Annotation of a frame; None where nobody looked.

        Raises:
            DataError: a file of the annotation is missing or damaged.
        """
        gaze = self.recording.gaze(tag)
        if gaze is None or gaze.density is None:
            return None
        others = None
        if gaze.fixations is not None:
            others = self._others(gaze.size)
            others = None if others is None else others & ~gaze.fixations
            others = others if others is not None and others.any() else None
        seed = self._seed + tag.index
        halves = self._halves(gaze, others, seed)
        return Truth(gaze.density, gaze.fixations, others, seed, halves)

    def _others(self, size: tuple[int, int]) -> np.ndarray | None:
        """Where people looked at other times; asked for once, as it takes reading everything."""
        with self._reading:
            if self._union is None or self._union[0] != size:
                self._union = size, self.recording.others(size)
            return self._union[1]

    def _halves(self, gaze: Gaze, others: np.ndarray | None, seed: int) -> tuple[Truth, ...]:
        if gaze.points is None or gaze.points.observers is None:
            return ()
        first = self._half(gaze.points.observers)
        truths = []
        for mine in (first, ~first & (gaze.points.observers >= 0)):
            points = gaze.points.where(mine)
            if not len(points):
                return ()
            density = points.density(gaze.size, gaze.sigma)
            truths.append(Truth(density, points.mask(gaze.size), others, seed))
        return tuple(truths)

    def _half(self, observers: np.ndarray) -> np.ndarray:
        """Mark the points of half of the observers; each has the same rank in every frame."""
        known = np.unique(observers[observers >= 0])
        ranks = [np.random.default_rng([self._seed, int(who)]).random() for who in known]
        return np.isin(observers, known[np.argsort(ranks)[: (known.size + 1) // 2]])
