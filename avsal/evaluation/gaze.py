"""Any video with a table of gaze as a stimulus."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avsal.datasets.fixations import GazeTable, read_gaze_table
from avsal.datasets.points import Blur
from avsal.errors import DataError
from avsal.evaluation.stimulus import Group, Prediction, Stimulus
from avsal.evaluation.truth import Moment, Truth, observer_halves, truth_of_points

if TYPE_CHECKING:
    from avsal.pipeline import Predictor
    from avsal.settings import PredictSettings


class WatchedVideo(Stimulus):
    """A video file whose gaze lies in a table."""

    def __init__(self, video: Path, table: Path, blur: Blur) -> None:
        self.group = table.stem
        self.name = video.stem
        self._video = video
        self._path = table
        self._blur = blur

    def identity(self) -> dict[str, Any]:
        from avsal.jobs import source_identity

        files = [source_identity(path) for path in (self._video, self._path)]
        return {"files": files, "blur": dataclasses.asdict(self._blur)}

    @cached_property
    def _size(self) -> tuple[int, int]:
        from avsal.media import probe

        info = probe(self._video)
        return info.height, info.width

    @cached_property
    def _table(self) -> GazeTable:
        return read_gaze_table(self._path, self._size)

    @cached_property
    def _all_places(self) -> np.ndarray:
        return np.unique(self._table.points.pixels(self._size))

    @cached_property
    def _halves(self) -> tuple[set[int], ...]:
        return observer_halves(self._table.points.observers, self.seed)

    def check(self) -> None:
        """Read the table and the video's headers.

        Raises:
            DataError: the table is malformed, or none of its places is on the picture.
            MediaError: the video cannot be read.
        """
        _ = self._halves
        if self._all_places.size == 0:
            raise DataError(
                f"{self._path}: no place lies on the {self._size[1]}x{self._size[0]} picture; "
                "give x and y in pixels of it or as fractions"
            )

    def moments(self) -> Iterator[Moment]:
        from avsal.media import VideoReader

        with VideoReader(self._video) as video:
            for frame in video:
                time = float(frame.pts - video.origin)
                yield Moment(frame.index, time, float(frame.duration))

    def truth(self, moment: Moment) -> Truth | None:
        points = self._table.during(moment.time, moment.duration)
        return truth_of_points(
            points, self._size, self._blur, self._all_places, self._halves, moment.index
        )

    def predict(self, predictor: Predictor, settings: PredictSettings) -> Iterator[Prediction]:
        for frame in predictor.predict(self._video, settings):
            yield Moment(frame.index, frame.time, float(frame.tag.duration)), frame.density


def gaze_group(video: Path, table: Path, blur: Blur) -> Group:
    """One video with its table of gaze.

    Raises:
        DataError, MediaError: one of the two cannot be read.
    """
    stimulus = WatchedVideo(video, table, blur)
    stimulus.check()
    return Group(stimulus.group, (stimulus,))
