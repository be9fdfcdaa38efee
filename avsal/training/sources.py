"""What samples are made of: a video or a still image with saliency maps for some of its frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from avsal import media
from avsal.errors import DataError, MediaError

NO_SOUND = np.zeros(0, np.float32)
MAPS = frozenset({".jpg", ".jpeg", ".png", ".npy"})
VIDEOS = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"})


class Source(Protocol):
    """A video or still image.

    Attributes:
        name: by which lists of names know it.
        frames: how many; 1 for a still image.
        rate: frames a second, 0 for a still image.
        targets: the frames that have a saliency map, rising.
    """

    @property
    def name(self) -> str: ...
    @property
    def rate(self) -> float: ...
    @property
    def frames(self) -> int: ...
    @property
    def targets(self) -> Sequence[int]: ...

    def images(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Frames at rising indices, uint8 (H, W, 3) RGB each."""
        ...

    def map(self, index: int) -> np.ndarray:
        """The saliency map of a target, (h, w), not negative, of any scale."""
        ...

    def fixations(self, index: int) -> np.ndarray | None:
        """Fixations on a target, (K, 2), x and y as shares of the picture; None if unknown."""
        ...

    def samples(self, start: int, end: int) -> np.ndarray:
        """Sound at 16 kHz from the first frame on, float32; fewer where it ends, none if silent."""
        ...


def read_map(path: Path) -> np.ndarray:
    """Read a saliency map, (h, w): a gray picture of 8 or 16 bits, or an .npy array.

    Raises:
        DataError: it is missing, damaged or no map.
    """
    try:
        stored = path.read_bytes()
        values = np.load(io.BytesIO(stored)) if path.suffix == ".npy" else _decoded(stored)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        values = None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not np.isfinite(values).all():
        raise DataError(f"{path}: damaged, or no map (height, width); make it again")
    return values


def _decoded(stored: bytes) -> np.ndarray | None:
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    return cv2.imdecode(np.frombuffer(stored, np.uint8), flags) if stored else None


def by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Files of a folder with one of the suffixes, by their names without it.

    Raises:
        DataError: the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the paths under [data]")
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes}
    if not found:
        raise DataError(f"{folder}: holds no file that ends in {', '.join(sorted(suffixes))}")
    return found


class VideoSource:
    """A video file and a folder of maps named by frame number, as `avsal predict` writes them."""

    def __init__(self, video: Path, maps: Path) -> None:
        self.name = video.stem
        self._video = video
        found = by_stem(maps, MAPS)
        self._maps = {int(stem): path for stem, path in found.items() if stem.isdecimal()}
        if not self._maps:
            raise DataError(f"{maps}: no map is named by its frame number, as 000123.png")
        self.targets = tuple(sorted(self._maps))

    @cached_property
    def info(self) -> media.VideoInfo:
        """What the video's headers tell."""
        return media.probe(self._video)

    @property
    def frames(self) -> int:
        """The known frames: up to the last one with a map, or what the header says if fewer."""
        last = self.targets[-1] + 1
        return min(last, self.info.frames) if self.info.frames else last

    @property
    def rate(self) -> float:
        """Nominal frames a second."""
        return float(self.info.rate or 0)

    def images(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Decode from near the first wanted frame; from the start if its time misleads."""
        wanted = set(indices)
        start = max(0.0, (indices[0] - 1) / self.rate) if self.rate else 0.0
        for begin in dict.fromkeys((round(start, 3), 0.0)):
            found = self._collect(wanted, begin)
            if len(found) == len(wanted):
                return [found[index] for index in indices]
        missing = min(wanted - found.keys())
        raise DataError(f"{self._video}: has no frame {missing}, but a map for it")

    def _collect(self, wanted: set[int], start: float) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        try:
            with media.VideoReader(self._video, start=start) as frames:
                for frame in frames:
                    if frame.index in wanted:
                        found[frame.index] = frame.image
                    if frame.index >= max(wanted):
                        break
        except MediaError:
            if start == 0:
                raise
        return found

    def map(self, index: int) -> np.ndarray:
        return read_map(self._maps[index])

    def fixations(self, index: int) -> np.ndarray | None:
        return None

    def samples(self, start: int, end: int) -> np.ndarray:
        if not self.info.has_audio:
            return NO_SOUND
        with media.VideoReader(self._video) as video:
            origin = video.origin
        return read_sound(self._video, start, end, origin)


def read_sound(path: Path, start: int, end: int, origin: Fraction | int = 0) -> np.ndarray:
    """Read a stretch of a file's sound at 16 kHz, sample 0 at container time `origin`."""
    with media.AudioReader(path, origin) as sound:
        return sound.read(start, end)
