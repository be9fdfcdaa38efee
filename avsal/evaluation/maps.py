"""Where the scored maps come from: the network, or files.

Both sources have a `label` for the tables, `record()`, the JSON values that decide their maps, and
`maps()`, which gives a recording's maps in order. `maps` raises DataError or MediaError; its
`frames` are the recording's, or None if only the gaze is available.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avsal.datasets.pictures import read_density
from avsal.datasets.recording import Recording
from avsal.errors import DataError
from avsal.evaluation.scoring import file_identities
from avsal.media.frames import FrameInfo, VideoFrame, info_of
from avsal.media.suffixes import PLAIN_STILLS
from avsal.prediction.settings import PROCESSING, MapSize
from avsal.results.description import DESCRIPTION, is_result
from avsal.results.folder import read_result
from avsal.results.formats import VIDEO_NAME

if TYPE_CHECKING:
    from avsal.prediction.predictor import Predictor
    from avsal.prediction.settings import PredictSettings

SUFFIXES = PLAIN_STILLS | {".npy"}

Prediction = tuple[FrameInfo, np.ndarray]  # a frame and its saliency map (h, w) of any scale
_END = (sys.maxsize, None)  # follows the last map


def tags_of(recording: Recording, frames: Iterable[VideoFrame] | None) -> Iterator[FrameInfo]:
    """Frames without their pixels."""
    if frames is None:
        return recording.tags()
    return (info_of(frame, recording.origin) for frame in frames)


class NetworkMaps:
    """Maps of a network, at its own size."""

    def __init__(self, predictor: Predictor, settings: PredictSettings) -> None:
        self._predictor = predictor
        self._settings = replace(settings, size=MapSize("model"))
        self.label = predictor.variant.name

    def record(self) -> dict[str, Any]:
        description = self._predictor.description
        half = description.precision != "fp32"  # engines round it differently
        return {
            "processing": PROCESSING,
            "model": description.model,
            "weights": description.weights_sha256,
            "precision": description.precision,
            **({"engine": description.engine} if half else {}),
            "stride": self._settings.stride,
            "audio_context": self._settings.audio_context,
        }

    def maps(
        self, recording: Recording, frames: Iterable[VideoFrame] | None
    ) -> Iterator[Prediction]:
        assert frames is not None, "a network needs the pictures"
        with recording.sound() as sound:
            audio = sound if self._predictor.uses_audio else None
            aspect = recording.sample_aspect
            for frame in self._predictor.predict_frames(
                frames, audio, self._settings, sample_aspect=aspect
            ):
                yield frame.info, frame.density


class SavedMaps:
    """Maps in files: `<recording>/<frame>.png|npy`, `<picture>.png|npy`, or results of avsal.

    They may be in a folder that is named after the database. Frames are numbered from 1, or from 0
    if there is a number 0. Of avsal's own results the densities are scored, whatever the format.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give the folder of predictions")
        self._folder = folder
        self.label = folder.resolve().name
        files = sorted(folder.rglob("*"))
        self._maps = [path for path in files if path.suffix.lower() in SUFFIXES]
        self._results = [path for path in files if path.name in (DESCRIPTION, VIDEO_NAME)]
        self._by_stem = {path.with_suffix(""): path for path in reversed(self._maps)}

    def record(self) -> dict[str, Any]:
        identities = file_identities([*self._maps, *self._results])
        return {"predictions": str(self._folder.resolve()), "files": identities}

    def maps(
        self, recording: Recording, frames: Iterable[VideoFrame] | None
    ) -> Iterator[Prediction]:
        tags = tags_of(recording, frames)
        single = self._single(recording) if recording.still else None
        if single is not None:
            for tag in tags:
                yield tag, read_density(single)
            return
        folder = self._folder_of(recording)
        maps = _maps_in(folder)
        index, saliency = next(maps, _END)
        for tag in tags:
            while index < tag.index:
                index, saliency = next(maps, _END)
            if saliency is not None and index == tag.index:
                yield tag, saliency
            elif recording.gaze(tag) is not None:  # other frames need no map
                raise DataError(
                    f"{folder}: no map of frame {tag.index} (from 0); every frame with fixations "
                    "needs one"
                )

    def _candidates(self, recording: Recording) -> Iterator[Path]:
        """Paths at which a recording's map (without its suffix) or folder of maps may be."""
        name = Path(recording.name)
        names = dict.fromkeys([name, name.with_suffix(""), Path(name.with_suffix("").name)])
        for folder in (self._folder / recording.database, self._folder):
            for path in names:
                yield folder / path

    def _single(self, recording: Recording) -> Path | None:
        paths = self._candidates(recording)
        return next((self._by_stem[path] for path in paths if path in self._by_stem), None)

    def _folder_of(self, recording: Recording) -> Path:
        for path in self._candidates(recording):
            if path.is_dir():
                return path
        if not recording.still and (is_result(self._folder) or _numbered(self._folder)):
            return self._folder
        path = self._folder / recording.name
        raise DataError(f"{path}: missing; the maps of {recording.name} should be there")


ScoredMaps = NetworkMaps | SavedMaps


def _maps_in(folder: Path) -> Iterator[tuple[int, np.ndarray | None]]:
    """The maps of a folder with their frames' indices, in ascending order."""
    if is_result(folder):
        return ((record.index, density) for record, density in read_result(folder).densities())
    paths = _numbered(folder)
    first = 0 if 0 in paths else 1
    return ((number - first, read_density(paths[number])) for number in sorted(paths))


def _numbered(folder: Path) -> dict[int, Path]:
    """A folder's maps by the last number in their names."""
    maps = {}
    for path in sorted(folder.iterdir()):
        number = re.search(r"(\d+)$", path.stem)
        if number and path.suffix.lower() in SUFFIXES:
            maps[int(number[1])] = path
    return maps
