"""Videos in the STAViS layout as stimuli."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avsal.datasets.folders import FOLDS, AnnotationFolder, StavisVideo, read_videos
from avsal.errors import DataError, UsageError
from avsal.evaluation.stimulus import Group, Prediction, Stimulus
from avsal.evaluation.truth import Moment, Truth, shuffle_mask
from avsal.settings import MapSize

if TYPE_CHECKING:
    from avsal.pipeline import Predictor
    from avsal.settings import PredictSettings


class AnnotatedVideo(Stimulus):
    """A folder of maps and fixations, with the video's frames and sound where they are at hand."""

    def __init__(
        self,
        group: str,
        name: str,
        annotations: AnnotationFolder,
        frames: int,
        video: StavisVideo | None = None,
    ) -> None:
        self.group = group
        self.name = name
        self._annotations = annotations
        self._frames = frames
        self._video = video

    def identity(self) -> dict[str, Any]:
        folder = str(self._annotations.folder.resolve())
        rate = str(self._video.fps) if self._video else None
        return {"annotations": folder, "frames": self._frames, "fps": rate}

    def moments(self) -> Iterator[Moment]:
        self._read_all()
        return map(Moment, range(self._frames))

    @cached_property
    def _size(self) -> tuple[int, int]:
        height, width = self._annotations.density(0).shape
        return height, width

    @cached_property
    def _places(self) -> list[np.ndarray]:
        """Flat pixel indices of each frame's fixations."""
        return [self._read_places(index) for index in range(self._frames)]

    @cached_property
    def _all_places(self) -> np.ndarray:
        return np.unique(np.concatenate(self._places))

    def _read_places(self, index: int) -> np.ndarray:
        fixations = self._annotations.fixations(index)
        if fixations.shape != self._size:
            raise DataError(
                f"{self._annotations.fixation_path(index)}: is {_text(fixations.shape)} pixels, "
                f"{self._annotations.map_path(0)} {_text(self._size)}; they must agree"
            )
        return np.flatnonzero(fixations)

    def _read_all(self) -> None:
        """Read all fixations, once and before several threads ask for them."""
        _ = self._all_places

    def truth(self, moment: Moment) -> Truth | None:
        own = self._places[moment.index]
        if own.size == 0:
            return None
        fixations = np.zeros(self._size, bool)
        fixations.flat[own] = True
        density = self._annotations.density(moment.index)
        if density.shape != self._size:
            path = self._annotations.map_path(moment.index)
            raise DataError(
                f"{path}: is {_text(density.shape)} pixels, the first map {_text(self._size)}; "
                "all maps of a video must agree"
            )
        others = shuffle_mask(self._all_places, fixations)
        return Truth(density, fixations, others, moment.index)

    def predict(self, predictor: Predictor, settings: PredictSettings) -> Iterator[Prediction]:
        from avsal.media import AudioReader

        video = self._video
        if video is None:
            raise UsageError(f"{self._annotations.folder}: annotations alone; give --predictions")
        self._read_all()
        height, width = self._size
        settings = dataclasses.replace(settings, size=MapSize("fixed", width, height))
        with ExitStack() as files:
            audio = None
            if predictor.uses_audio and video.audio_path.is_file():
                audio = files.enter_context(AudioReader(video.audio_path))
            for frame in predictor.predict_frames(video.read_frames(), audio, settings):
                yield Moment(frame.index), frame.density


def stavis_groups(root: Path, databases: tuple[str, ...], folds: tuple[int, ...]) -> list[Group]:
    """The test parts of databases in folds.

    Raises:
        DataError: the layout is incomplete.
    """
    groups = []
    for fold in folds:
        for database in databases:
            videos = read_videos(root, database, "test", fold)
            groups.append(Group(database, tuple(map(_stimulus, videos)), str(fold)))
    return groups


def annotation_group(root: Path) -> Group:
    """Videos of which only annotations are at hand: `root` is one video's folder or holds many.

    Raises:
        DataError: no such folder.
    """
    folders = [root] if any(root.glob("fixMap_*.mat")) else sorted(filter(Path.is_dir, _in(root)))
    stimuli = []
    for folder in folders:
        annotations = AnnotationFolder(folder)
        count = annotations.count()
        if count == 0:
            raise DataError(f"{annotations.fixation_path(0)}: missing; see the STAViS layout")
        stimuli.append(AnnotatedVideo(root.name, folder.name, annotations, count))
    if not stimuli:
        raise DataError(f"{root}: holds no annotations; see avsal evaluate --help for the layout")
    return Group(root.name, tuple(stimuli))


def parse_folds(text: str) -> tuple[int, ...]:
    """Read "1", "2", "3" or "all".

    Raises:
        UsageError: something else.
    """
    if text == "all":
        return FOLDS
    if text not in map(str, FOLDS):
        raise UsageError(f"fold {text}: give {', '.join(map(str, FOLDS))} or all")
    return (int(text),)


def _stimulus(video: StavisVideo) -> AnnotatedVideo:
    return AnnotatedVideo(video.database, video.name, video.annotations, video.frames, video)


def _in(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder of annotations")
    return root.iterdir()


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in reversed(shape))
