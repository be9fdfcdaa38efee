"""Annotated images as stimuli."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avsal.datasets.images import AnnotatedImage, ImageSet, read_image_set
from avsal.datasets.points import Blur, GazePoints
from avsal.evaluation.stimulus import Group, Prediction, Stimulus
from avsal.evaluation.truth import Moment, Truth, observer_halves, truth_of_points
from avsal.settings import MapSize

if TYPE_CHECKING:
    from avsal.pipeline import Predictor
    from avsal.settings import PredictSettings

SHUFFLE_IMAGES = 10  # other images whose fixations make up sAUC's shuffle map (MIT benchmark)


class ShufflePool:
    """Fixations of all images of a set, read once each.

    Attributes:
        blur: Gaussian of the maps that are made of them.
    """

    def __init__(self, images: tuple[AnnotatedImage, ...], blur: Blur) -> None:
        self._images = images
        self.blur = blur
        self.points = functools.cache(self._points)

    def _points(self, index: int) -> GazePoints | None:
        return self._images[index].gaze()

    def others(self, index: int, size: tuple[int, int], seed: int) -> np.ndarray:
        """Flat pixel indices of the fixations on some random other images."""
        rest = np.delete(np.arange(len(self._images)), index)
        count = min(SHUFFLE_IMAGES, rest.size)
        chosen = np.random.default_rng(seed).choice(rest, count, replace=False)
        found = [self.points(int(other)) for other in chosen]
        places = [points.pixels(size) for points in found if points is not None]
        return np.unique(np.concatenate(places)) if places else np.zeros(0, int)


class StillImage(Stimulus):
    """An image, shown to the network as a still clip without sound."""

    def __init__(self, group: str, images: ImageSet, index: int, pool: ShufflePool) -> None:
        self.group = group
        self._image = images.images[index]
        self.name = self._image.name
        self._index = index
        self._pool = pool
        self._blur = pool.blur

    def identity(self) -> dict[str, Any]:
        paths = (self._image.path, self._image.map_path, self._image.fixation_path)
        files = {str(path.resolve()): _stamp(path) for path in paths if path and path.exists()}
        points = self._image.points
        table = None if points is None else [points.x.size, float(points.x.sum())]
        return {"files": files, "table": table, "blur": dataclasses.asdict(self._blur)}

    def moments(self) -> Iterator[Moment]:
        return iter([Moment(0)])

    def truth(self, moment: Moment) -> Truth | None:
        points = self._pool.points(self._index)
        if points is None:
            return Truth(self._image.density(self._blur), None, None, self.seed)
        stored = self._image.density(self._blur) if self._image.map_path else None
        size = self._image.size() if stored is None else (stored.shape[0], stored.shape[1])
        others = self._pool.others(self._index, size, self.seed)
        halves = observer_halves(points.observers, self.seed)
        return truth_of_points(points, size, self._blur, others, halves, self.seed, stored)

    def predict(self, predictor: Predictor, settings: PredictSettings) -> Iterator[Prediction]:
        height, width = self._image.size()
        size = MapSize("fixed", width, height)
        for frame in predictor.predict(self._image.path, settings, size=size):
            yield Moment(0), frame.density


def image_group(root: Path, split: Path | None, blur: Blur, pictures: bool = True) -> Group:
    """An image set, whole or the names of a split.

    Args:
        pictures: False where only annotations are at hand.

    Raises:
        DataError: the layout is incomplete.
    """
    images = read_image_set(root, split, pictures)
    pool = ShufflePool(images.images, blur)
    group = root.resolve().name
    stimuli = (StillImage(group, images, index, pool) for index in range(len(images.images)))
    return Group(group, tuple(stimuli))


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
