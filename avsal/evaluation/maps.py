"""Where the scored maps come from: the network, or files that somebody wrote."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from avsal.datasets import Recording, tag_of
from avsal.datasets.pictures import read_gray
from avsal.errors import DataError
from avsal.evaluation.saved_scores import file_identities
from avsal.media import VideoFrame
from avsal.media.frames import FrameTag
from avsal.prediction.settings import MapSize

if TYPE_CHECKING:
    from avsal.prediction.predictor import Predictor
    from avsal.prediction.settings import PredictSettings

DESCRIPTION = "saliency.json"  # in folders that `avsal predict` wrote, which count frames from 0
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
            frames: the recording's, read once for all; None where the gaze alone is at hand.
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
    """Maps in files: `<recording>/<frame>.png|npy`, or `<picture>.png|npy`.

    The folders may lie in one that is called like the database. Frames are numbered from 1, or
    from 0 in folders of `avsal predict` and where a number 0 exists.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give the folder of predictions")
        self._folder = folder
        self.label = folder.resolve().name
        everything = sorted(folder.rglob("*"))
        self._descriptions = [path for path in everything if path.name == DESCRIPTION]
        self._files = [path for path in everything if path.suffix.lower() in SUFFIXES]
        self._by_stem = {path.with_suffix(""): path for path in reversed(self._files)}

    def record(self) -> dict[str, Any]:
        identities = file_identities([*self._files, *self._descriptions])
        return {"predictions": str(self._folder.resolve()), "files": identities}

    def maps(
        self, recording: Recording, frames: Iterable[VideoFrame] | None
    ) -> Iterator[Prediction]:
        tags = tags_of(recording, frames)
        single = self._single(recording) if recording.still else None
        if single is not None:
            for tag in tags:
                yield tag, read_gray(single)
            return
        folder = self._folder_of(recording)
        numbers = _numbered(folder)
        shift = 0 if (folder / DESCRIPTION).is_file() or 0 in numbers else 1
        for tag in tags:
            path = numbers.get(tag.index + shift)
            if path is not None:
                yield tag, read_gray(path)
            elif recording.gaze(tag) is not None:  # where nobody looked no map is needed
                raise DataError(
                    f"{folder / f'{tag.index + shift:06d}.png'}: missing; every frame with "
                    "fixations needs a map"
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
        if _numbered(self._folder) and not recording.still:
            return self._folder
        wanted = self._folder / recording.name
        raise DataError(f"{wanted}: missing; the maps of {recording.name} should be there")


def _numbered(folder: Path) -> dict[int, Path]:
    """A folder's maps by the last number in their names."""
    if _as_video(folder):
        raise DataError(f"{folder}: maps in a video cannot be scored; predict with --format png")
    found = {}
    for path in sorted(folder.iterdir()):
        number = re.search(r"(\d+)$", path.stem)
        if number and path.suffix.lower() in SUFFIXES:
            found[int(number[1])] = path
    return found


def _as_video(folder: Path) -> bool:
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return bool(description["settings"]["format"] == "video")
    except (OSError, ValueError, KeyError, TypeError):
        return False
