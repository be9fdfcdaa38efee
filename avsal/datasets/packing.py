"""Write recordings, with their own gaze or a teacher's maps, into one packed file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from avsal.atomic import new_file
from avsal.datasets.gaze import Gaze
from avsal.datasets.packed import ARRAYS, FULL_SCALE, UNKNOWN
from avsal.datasets.recording import Recording, tag_of
from avsal.errors import DataError
from avsal.media.frames import FrameTag
from avsal.preprocess.frames import resize_frame

JPEG_QUALITY = 92
_LEVELS = 255

# Gives (frame, density) for the frames of a recording, as predictors and teachers do.
Maps = Callable[[Recording], Iterator[tuple[FrameTag, np.ndarray]]]


@dataclass
class Packing:
    """A packed file in the making.

    Attributes:
        size: (height, width) of the stored frames.
        map_size: (height, width) of the stored maps.
        quality: of the JPEG frames.
    """

    size: tuple[int, int]
    map_size: tuple[int, int]
    quality: int = JPEG_QUALITY
    _lists: dict[str, list] = field(default_factory=lambda: {name: [] for name in ARRAYS})

    def add(self, recording: Recording, maps: Maps | None = None) -> None:
        """Take a recording.

        Args:
            maps: gives the densities to store; None takes those of the recorded gaze. Fixations,
                where there are any, are stored in both cases.

        Raises:
            DataError, MediaError: something cannot be read.
        """
        first = len(self._lists["pictures"])
        given = {tag.index: density for tag, density in maps(recording)} if maps else None
        durations = []
        for frame in recording.frames():
            tag = tag_of(frame, recording.origin)
            gaze = recording.gaze(tag)
            density = gaze.density if gaze else None
            if given is not None:
                density = given.get(tag.index)
            self._add_frame(frame.image, density, gaze)
            durations.append(frame.duration)
        count = len(self._lists["pictures"]) - first
        rate = count / sum(durations) if durations else 0
        named = (("names", recording.name), ("databases", recording.database))
        for name, value in (*named, ("counts", count), ("rates", str(rate))):
            self._lists[name].append(value)
        self._lists["samples"].append(_sound(recording))

    def _add_frame(self, image: np.ndarray, density: np.ndarray | None, gaze: Gaze | None) -> None:
        lists = self._lists
        for observer, x, y in _rows(gaze):
            lists["points"].append((len(lists["pictures"]), observer, x, y))
        lists["map_of"].append(UNKNOWN if density is None else len(lists["maps"]))
        if density is not None:
            lists["maps"].append(_gray(density, self.map_size))
        small = resize_frame(image, self.size).permute(1, 2, 0).numpy()
        data = io.BytesIO()
        Image.fromarray(small).save(data, "JPEG", quality=self.quality)
        lists["pictures"].append(np.frombuffer(data.getvalue(), np.uint8))

    def write(self, path: Path) -> None:
        """Write the file; it appears only when whole.

        Raises:
            DataError: nothing to write.
            OutputError: the place cannot be written.
        """
        if not self._lists["names"]:
            raise DataError(f"{path}: no recording to pack")
        with new_file(path) as aside, aside.open("wb") as file:
            np.savez(file, **self._arrays())  # type: ignore[arg-type]

    def _arrays(self) -> dict[str, np.ndarray]:
        lists = self._lists
        arrays = {name: np.array(lists[name]) for name in ("names", "databases", "rates")}
        arrays |= {name: np.array(lists[name], np.int64) for name in ("counts", "map_of")}
        arrays["maps"] = np.array(lists["maps"], np.uint8).reshape(-1, *self.map_size)
        arrays["points"] = np.array(lists["points"], np.float32).reshape(-1, 4)
        for name, ends in (("pictures", "picture_ends"), ("samples", "sample_ends")):
            arrays[name] = np.concatenate(lists[name])
            arrays[ends] = np.cumsum([len(part) for part in lists[name]])
        return arrays


def pack(
    recordings: Iterable[Recording],
    path: Path,
    size: tuple[int, int],
    map_size: tuple[int, int],
    maps: Maps | None = None,
) -> None:
    """Pack recordings into one file; see `Packing`."""
    packing = Packing(size, map_size)
    for recording in recordings:
        packing.add(recording, maps)
    packing.write(path)


def _rows(gaze: Gaze | None) -> Iterator[tuple[int, float, float]]:
    """Observer, x and y of the fixations on a frame."""
    if gaze is None or gaze.fixations is None:
        return
    points = gaze.fixation_points
    observers = points.observers if points.observers is not None else [UNKNOWN] * len(points)
    for observer, (x, y) in zip(observers, points.places, strict=True):
        yield int(observer), float(x), float(y)


def _gray(density: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Square root of a map at the stored size, scaled to 0..255: small values keep their detail."""
    height, width = size
    resized = cv2.resize(
        np.asarray(density, np.float32), (width, height), interpolation=cv2.INTER_AREA
    )
    top = resized.max()
    if not top > 0:
        return np.zeros(size, np.uint8)
    return np.round(_LEVELS * np.sqrt(np.clip(resized / top, 0, 1))).astype(np.uint8)


def _sound(recording: Recording) -> np.ndarray:
    """All sound of a recording, int16."""
    blocks = [np.zeros(0, np.float32), *recording.seconds_of_sound()]
    limit = FULL_SCALE - 1
    return np.clip(np.round(np.concatenate(blocks) * FULL_SCALE), -limit, limit).astype(np.int16)
