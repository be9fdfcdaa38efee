"""Where the scored maps come from: the network, or files that somebody wrote."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from avsal.datasets.arrays import read_map
from avsal.errors import DataError
from avsal.evaluation.stimulus import Prediction, Stimulus

if TYPE_CHECKING:
    from avsal.pipeline import Predictor
    from avsal.settings import PredictSettings

DESCRIPTION = "saliency.json"  # in folders that `avsal predict` wrote, which count frames from 0
SUFFIXES = (".npy", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


class MapSource(Protocol):
    """Gives a stimulus's maps.

    Attributes:
        label: what a person calls it.
    """

    label: str

    def record(self) -> dict[str, Any]:
        """What decides the maps, for resuming; JSON values."""
        ...

    def maps(self, stimulus: Stimulus) -> Iterator[Prediction]:
        """The maps in order; raises DataError or MediaError."""
        ...


class NetworkSource:
    """Maps from the network, in one pass over each video."""

    def __init__(self, predictor: Predictor, settings: PredictSettings) -> None:
        self._predictor = predictor
        self._settings = settings
        self.label = predictor.variant.name

    def record(self) -> dict[str, Any]:
        made_by = self._predictor.description
        settings = dataclasses.asdict(self._settings)
        return {
            "model": made_by.model,
            "weights": made_by.weights_sha256,
            "precision": made_by.precision,
            "stride": settings["stride"],
            "audio_context": settings["audio_context"],
        }

    def maps(self, stimulus: Stimulus) -> Iterator[Prediction]:
        return stimulus.predict(self._predictor, self._settings)


class SavedSource:
    """Maps in files: `<stimulus>/<frame>.png|npy`, also under the group's name, or `<image>.png`.

    Frames are numbered from 1, or from 0 in folders of `avsal predict` and where a number 0 exists.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give the folder of predictions")
        self._folder = folder
        self.label = folder.resolve().name

    def record(self) -> dict[str, Any]:
        files = [path.stat() for path in self._folder.rglob("*") if path.suffix in SUFFIXES]
        latest = max((status.st_mtime_ns for status in files), default=0)
        return {"predictions": str(self._folder.resolve()), "files": len(files), "latest": latest}

    def maps(self, stimulus: Stimulus) -> Iterator[Prediction]:
        moments = stimulus.moments()
        single = self._single(stimulus)
        if single is not None:
            for moment in moments:
                yield moment, read_map(single)
            return
        folder = self._folder_of(stimulus)
        numbers = _numbered(folder)
        shift = 0 if (folder / DESCRIPTION).is_file() or 0 in numbers else 1
        for moment in moments:
            path = numbers.get(moment.index + shift)
            if path is None:
                if stimulus.truth(moment) is None:
                    continue  # nobody looked: no map is needed
                raise DataError(
                    f"{folder / f'{moment.index + shift:06d}.png'}: missing; every frame with "
                    "fixations needs a map"
                )
            yield moment, read_map(path)

    def _single(self, stimulus: Stimulus) -> Path | None:
        """The file of an image's map."""
        places = (self._folder / stimulus.group, self._folder)
        files = (place / f"{stimulus.name}{suffix}" for place in places for suffix in SUFFIXES)
        return next(filter(Path.is_file, files), None)

    def _folder_of(self, stimulus: Stimulus) -> Path:
        inside = (f"{stimulus.group}/{stimulus.name}", stimulus.name, Path(stimulus.name).name)
        for name in inside:
            if (self._folder / name).is_dir():
                return self._folder / name
        if _numbered(self._folder):
            return self._folder
        raise DataError(
            f"{self._folder / stimulus.name}: missing; it should hold the maps of {stimulus.name}"
        )


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
