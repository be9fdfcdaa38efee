"""The [[data.train]] and [[data.validation]] tables to recordings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avsal.datasets import DatasetSpec, Gaze, Recording, open_dataset
from avsal.datasets.pictures import read_gray
from avsal.datasets.videos import GazeRows, VideoRecording
from avsal.errors import DataError
from avsal.media import VideoReader
from avsal.media.frames import FrameTag
from avsal.training.config import SetSettings

VIDEOS = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"})
MAP_NAMES = ("{:06d}.png", "{:06d}.npy")  # as `avsal predict` numbers frames
NO_ROWS = GazeRows(np.zeros(0), np.zeros(0), np.zeros((0, 2), np.float32), None)


def expand(text: str) -> Path:
    """A path as a person writes it, with ~ and environment variables."""
    return Path(os.path.expandvars(text)).expanduser()


def open_sets(sets: tuple[SetSettings, ...], split: str) -> list[Recording]:
    """List the recordings of sets, those of repeated sets several times.

    Args:
        split: the STAViS list of sets that name none, "train" or "test".

    Raises:
        DataError: a folder, a list or a file is missing or malformed.
    """
    return [recording for each in sets for recording in open_set(each, split) * each.repeat]


def open_set(settings: SetSettings, split: str) -> list[Recording]:
    """List the recordings of one set once; see `open_sets`."""
    root = expand(settings.root)
    if settings.maps:
        recordings = open_mapped(root, expand(settings.maps))
    else:
        recordings = open_dataset(
            DatasetSpec(
                root,
                settings.databases,
                settings.split or split,
                settings.fold,
                _path(settings.names),
                _path(settings.without),
                _path(settings.fixations),
                settings.units,
                settings.degree or None,
            )
        )
    if not recordings:
        raise DataError(f"{root}: the lists leave nothing of this set; check names and without")
    return recordings


def _path(text: str) -> Path | None:
    return expand(text) if text else None


@dataclass(frozen=True)
class MappedVideo(VideoRecording):
    """A video with a folder of maps, recorded or made by a teacher, one file a frame.

    Attributes:
        maps: folder of 000000.png, 000001.png, ..., or .npy; frames may lack a map.
    """

    maps: Path = Path()

    def gaze(self, tag: FrameTag) -> Gaze | None:
        names = (self.maps / name.format(tag.index) for name in MAP_NAMES)
        path = next((path for path in names if path.is_file()), None)
        density = None if path is None else read_gray(path).astype(np.float32)
        return None if density is None or not density.any() else Gaze(density, None)

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        return None


def open_mapped(videos: Path, maps: Path) -> list[Recording]:
    """Find videos and their folders of maps, which are called like the videos' stems.

    Raises:
        DataError: a folder is missing, or there is no video.
        MediaError: a video cannot be read.
    """
    if not videos.is_dir():
        raise DataError(f"{videos}: no such folder; the videos belong there")
    paths = [path for path in sorted(videos.iterdir()) if path.suffix.lower() in VIDEOS]
    if not paths:
        raise DataError(f"{videos}: holds no video")
    return [_mapped(path, maps / path.stem) for path in paths]


def _mapped(path: Path, maps: Path) -> MappedVideo:
    if not maps.is_dir():
        raise DataError(f"{maps}: missing; it should hold the maps of {path}")
    with VideoReader(path) as video:
        info, origin = video.info, video.origin
    return MappedVideo(path.stem, path.parent.name, info, NO_ROWS, origin, maps=maps)
