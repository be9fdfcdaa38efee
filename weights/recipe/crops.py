"""Random parts of stills with the teacher's maps.

The recorded gaze on a still says nothing about a part of it shown alone, and a student that sees
the teacher's maps of many views keeps what it learnt from data that we do not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePath

import numpy as np
from made import Made
from teacher import Teacher

from avsal.datasets import Recording

PER_STILL = 2
SIDES = (0.45, 0.75)  # shares of the still's width and height


def crops(stills: Iterable[Recording], teacher: Teacher, seed: int) -> Iterator[Made]:
    """Cut parts out of stills; each is a still with the teacher's density."""
    for number, still in enumerate(stills):
        image = next(still.frames()).image
        random = np.random.default_rng((seed, number))
        for part in range(PER_STILL):
            cut = _cut(image, random)
            name = f"{PurePath(still.name).stem}-{part}"
            yield Made(name, f"{still.database}-crops", [cut], [teacher.static(cut)])


def _cut(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    size = np.array(image.shape[:2])
    sides = np.round(size * random.uniform(*SIDES, 2)).astype(int)
    top, left = random.integers(0, size - sides, endpoint=True)
    return image[top : top + sides[0], left : left + sides[1]]
