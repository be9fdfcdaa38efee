"""Sources made of eye-tracking data as `avsal.datasets` reads it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avsal.datasets.gaze import Blur, GazePoints, points_of
from avsal.datasets.images import AnnotatedImage
from avsal.datasets.stavis import StavisVideo
from avsal.training.sources import NO_SOUND, read_sound


class ImageSource:
    """A still image; its map is the stored one, or else its blurred fixations."""

    frames = 1
    rate = 0.0
    targets = (0,)

    def __init__(self, image: AnnotatedImage, blur: Blur) -> None:
        self.name = image.name
        self._image, self._blur = image, blur

    def images(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self._image.image()] * len(indices)

    def map(self, index: int) -> np.ndarray:
        return self._image.density(self._blur)

    def fixations(self, index: int) -> np.ndarray | None:
        gaze = self._image.gaze()
        return None if gaze is None else places(gaze)

    def samples(self, start: int, end: int) -> np.ndarray:
        return NO_SOUND


class StavisSource:
    """A video of the STAViS layout; every frame is a target."""

    def __init__(self, video: StavisVideo) -> None:
        self._video = video
        self.name = video.name
        self.frames = video.frames
        self.rate = float(video.fps)
        self.targets = range(video.frames)

    def images(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self._video.image(index) for index in indices]

    def map(self, index: int) -> np.ndarray:
        return self._video.annotations.density(index)

    def fixations(self, index: int) -> np.ndarray | None:
        return places(points_of(self._video.annotations.fixations(index)))

    def samples(self, start: int, end: int) -> np.ndarray:
        path = self._video.audio_path
        return read_sound(path, start, end) if path.is_file() else NO_SOUND


def places(gaze: GazePoints) -> np.ndarray:
    """Gaze points as (K, 2), x and y as shares of the picture."""
    return np.stack([gaze.x, gaze.y], axis=1)
