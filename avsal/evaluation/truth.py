"""What is known about the gaze on one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avsal.datasets.points import UNKNOWN_OBSERVER, Blur, GazePoints


@dataclass(frozen=True)
class Moment:
    """A frame of a stimulus.

    Attributes:
        index: place in the video, from 0; 0 for an image.
        time, duration: seconds since the first frame, and how long the frame is shown.
    """

    index: int
    time: float = 0.0
    duration: float = 0.0


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


def shuffle_mask(places: np.ndarray, own: np.ndarray) -> np.ndarray | None:
    """Mask of other places minus the frame's own.

    Args:
        places: flat pixel indices.
        own: bool (H, W).
    """
    mask = np.zeros(own.shape, bool)
    mask.flat[places] = True
    mask &= ~own
    return mask if mask.any() else None


def observer_halves(observers: np.ndarray, seed: int) -> tuple[set[int], ...]:
    """Two random halves of the known observers; the first is larger if their number is odd.

    Returns:
        Nothing for fewer than two observers.
    """
    known = np.unique(observers[observers != UNKNOWN_OBSERVER])
    if known.size < 2:
        return ()
    mixed = np.random.default_rng(seed).permutation(known)
    middle = (known.size + 1) // 2
    return set(mixed[:middle].tolist()), set(mixed[middle:].tolist())


def truth_of_points(
    points: GazePoints,
    size: tuple[int, int],
    blur: Blur,
    others: np.ndarray,
    halves: tuple[set[int], ...],
    seed: int,
    stored: np.ndarray | None = None,
) -> Truth | None:
    """Annotation made of gaze points; None where nobody looked at the frame.

    Args:
        others: flat pixel indices of other frames' or images' fixations.
        halves: from `observer_halves`; left out where one of them did not look.
        stored: ground-truth map that comes with the data set; None blurs the points.
    """
    fixations = points.fixations(size)
    if not fixations.any():
        return None
    density = points.density(size, blur) if stored is None else stored
    mask = shuffle_mask(others, fixations)
    parts = []
    for half in halves:
        mine = points.of(half)
        where = mine.fixations(size)
        if where.any():
            parts.append(Truth(mine.density(size, blur), where, mask, seed))
    both = tuple(parts) if len(parts) == 2 else ()
    return Truth(density, fixations, mask, seed, both)
