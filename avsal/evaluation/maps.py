"""Where the scored maps come from: the network, or files that somebody wrote."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from avsal.datasets.pictures import read_density
from avsal.datasets.recording import Recording
from avsal.errors import DataError
from avsal.evaluation.scoring import file_identities
from avsal.media.frames import FrameTag, VideoFrame, tag_of
from avsal.prediction.settings import PROCESSING, MapSize
from avsal.results.description import DESCRIPTION, is_result
from avsal.results.folder import read_result
from avsal.results.formats import VIDEO_NAME

if TYPE_CHECKING:
    from avsal.prediction.predictor import Predictor
    from avsal.prediction.settings import PredictSettings

SUFFIXES = (".npy", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

Prediction = tuple[FrameTag, np.ndarray]  # a frame and its saliency map (h, w) of any scale


class MapSource(Protocol):
    """Gives a recording's maps.

    Attributes:
        label: what a person calls it.
    """

    label: str

    def record(self) -> dict[str, Any]:
        """What decides the maps, for resuming; JSON values."""
        ...

    def maps(
        self, recording: Recording, frames: Iterable[VideoFrame] | None
    ) -> Iterator[Prediction]:
        """The maps in order; raises DataError or MediaError.

        Args:
            frames: the recording's, read once for all; None if only the gaze is available.
        """
        ...


def tags_of(recording: Recording, frames: Iterable[VideoFrame] | None) -> Iterator[FrameTag]:
    """The frames without their pixels."""
    if frames is None:
        return recording.tags()
    return (tag_of(frame, recording.origin) for frame in frames)


class NetworkMaps:
    """Maps from the network, in one pass over each video, at the network's own size."""

    def __init__(self, predictor: Predictor, settings: PredictSettings) -> None:
        self._predictor = predictor
        self._settings = replace(settings, size=MapSize("model"))
        self.label = predictor.variant.name

    def record(self) -> dict[str, Any]:
        made_by = self._predictor.description
        return {
            "processing": PROCESSING,
            "model": made_by.model,
            "weights": made_by.weights_sha256,
            "precision": made_by.precision,
            "stride": self._settings.stride,
            "audio_context": self._settings.audio_context,
        }

    def maps(
        self, recording: Recording, frames: Iterable[VideoFrame] | None
    ) -> Iterator[Prediction]:
        assert frames is not None, "only maps made elsewhere are scored without pictures"
        with recording.sound() as sound:
            audio = sound if self._predictor.uses_audio else None
            for frame in self._predictor.predict_frames(frames, audio, self._settings):
                yield frame.tag, frame.density


class SavedMaps:
    """Maps in files: `<recording>/<frame>.png|npy`, `<picture>.png|npy`, results of avsal.

    The folders may be in one that is called like the database. Frames are numbered from 1, or
    from 0 where a number 0 exists. Of avsal's own results of any format the densities are scored.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give the folder of predictions")
        self._folder = folder
        self.label = folder.resolve().name
        everything = sorted(folder.rglob("*"))
        self._maps = [path for path in everything if path.suffix.lower() in SUFFIXES]
        self._results = [path for path in everything if path.name in (DESCRIPTION, VIDEO_NAME)]
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
        map_of = _result_maps(folder) if is_result(folder) else _numbered_maps(folder)
        for tag in tags:
            saliency = map_of(tag.index)
            if saliency is not None:
                yield tag, saliency
            elif recording.gaze(tag) is not None:  # where nobody looked no map is needed
                raise DataError(
                    f"{folder}: no map of frame {tag.index} (from 0); every frame with fixations "
                    "needs one"
                )

    def _places(self, recording: Recording) -> Iterator[Path]:
        """Where a recording's maps may be, without suffix or as a folder."""
        name = Path(recording.name)
        names = dict.fromkeys([name, name.with_suffix(""), Path(name.with_suffix("").name)])
        for folder, place in itertools.product(
            (self._folder / recording.database, self._folder), names
        ):
            yield folder / place

    def _single(self, recording: Recording) -> Path | None:
        """The file of a picture's map."""
        places = self._places(recording)
        return next((self._by_stem[place] for place in places if place in self._by_stem), None)

    def _folder_of(self, recording: Recording) -> Path:
        for place in self._places(recording):
            if place.is_dir():
                return place
        if not recording.still and (is_result(self._folder) or _numbered(self._folder)):
            return self._folder
        wanted = self._folder / recording.name
        raise DataError(f"{wanted}: missing; the maps of {recording.name} should be there")


def _result_maps(folder: Path) -> Callable[[int], np.ndarray | None]:
    """Gives the densities of a folder that avsal wrote, by frame; indices must go up."""
    maps = ((record.index, density) for record, density in read_result(folder).densities())
    latest: tuple[int, np.ndarray] | None = None

    def map_of(index: int) -> np.ndarray | None:
        nonlocal latest
        while latest is None or latest[0] < index:
            latest = next(maps, None)
            if latest is None:
                return None
        return latest[1] if latest[0] == index else None

    return map_of


def _numbered_maps(folder: Path) -> Callable[[int], np.ndarray | None]:
    """Gives the maps of a folder by frame; files count from 1 unless there is a number 0."""
    paths = _numbered(folder)
    first = 0 if 0 in paths else 1

    def map_of(index: int) -> np.ndarray | None:
        path = paths.get(index + first)
        return None if path is None else read_density(path)

    return map_of


def _numbered(folder: Path) -> dict[int, Path]:
    """A folder's maps by the last number in their names."""
    found = {}
    for path in sorted(folder.iterdir()):
        number = re.search(r"(\d+)$", path.stem)
        if number and path.suffix.lower() in SUFFIXES:
            found[int(number[1])] = path
    return found
