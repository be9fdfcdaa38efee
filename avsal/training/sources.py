"""What samples are made of: a video or a still image with saliency maps for some of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from avsal import media
from avsal.datasets.files import read_fixations, read_image, read_map
from avsal.datasets.stavis import StavisVideo
from avsal.errors import DataError, MediaError

NO_SOUND = np.zeros(0, np.float32)
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MAPS = PICTURES | {".npy"}
FIXATIONS = MAPS | {".mat"}
VIDEOS = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"})


class Source(Protocol):
    """A video or still image.

    Attributes:
        name: by which lists of names know it.
        frames: how many; 1 for a still image.
        rate: frames a second, 0 for a still image.
        targets: the frames that have a saliency map, rising.
    """

    name: str
    rate: float

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


def mask_points(mask: np.ndarray) -> np.ndarray:
    """Fixated pixels of a mask (h, w) as (K, 2), x and y as shares of the picture."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1)


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


class ImageSource:
    """A still image with its map and, if `fixations` is given, its gray fixation picture."""

    frames = 1
    rate = 0.0
    targets = (0,)

    def __init__(self, image: Path, saliency: Path, fixations: Path | None = None) -> None:
        self.name = image.stem
        self._image, self._map, self._fixations = image, saliency, fixations

    def images(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [read_image(self._image)] * len(indices)

    def map(self, index: int) -> np.ndarray:
        return read_map(self._map)

    def fixations(self, index: int) -> np.ndarray | None:
        return None if self._fixations is None else mask_points(read_fixations(self._fixations))

    def samples(self, start: int, end: int) -> np.ndarray:
        return NO_SOUND


class VideoSource:
    """A video file with a folder of maps named by frame number from 0, as `avsal predict` writes."""

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
        return mask_points(self._video.annotations.fixations(index))

    def samples(self, start: int, end: int) -> np.ndarray:
        path = self._video.audio_path
        return read_sound(path, start, end) if path.is_file() else NO_SOUND


def read_sound(path: Path, start: int, end: int, origin: Fraction | int = 0) -> np.ndarray:
    """Read a stretch of a file's sound at 16 kHz, sample 0 at container time `origin`."""
    with media.AudioReader(path, origin) as sound:
        return sound.read(start, end)
