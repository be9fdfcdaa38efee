"""The folders that STAViS distributes: six audio-visual eye-tracking databases in one layout.

    video_frames/<database>/<video>/img_00001.jpg
    video_audio/<database>/<video>/<video>.wav
    annotations/<database>/<video>/maps/eyeMap_00001.jpg
    annotations/<database>/<video>/fixMap_00001.mat
    fold_lists/<database>_list_<part>_<fold>_fps.txt      one line a video: name frames fps

Frames count from 1 in file names and from 0 everywhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from avsal.datasets.arrays import read_fixations, read_image, read_lines, read_map
from avsal.errors import DataError

logger = logging.getLogger("avsal")

DATABASES = ("DIEM", "Coutrot_db1", "Coutrot_db2", "AVAD", "ETMD_av", "SumMe")
ONE_SPLIT = frozenset({"DIEM"})  # has its own split, the same in every fold
FOLDS = (1, 2, 3)
PARTS = ("train", "test")


@dataclass(frozen=True)
class FolderFrame:
    """A frame that was stored as a picture; the same fields as `avsal.media.VideoFrame`."""

    index: int
    pts: Fraction
    duration: Fraction
    image: np.ndarray


@dataclass(frozen=True)
class AnnotationFolder:
    """One video's maps and fixations: `maps/eyeMap_%05d.jpg` and `fixMap_%05d.mat`."""

    folder: Path

    def map_path(self, index: int) -> Path:
        """File of the ground-truth map of a frame."""
        return self.folder / "maps" / f"eyeMap_{index + 1:05d}.jpg"

    def fixation_path(self, index: int) -> Path:
        """File of the fixations on a frame."""
        return self.folder / f"fixMap_{index + 1:05d}.mat"

    def density(self, index: int) -> np.ndarray:
        """Ground-truth map of a frame, uint8 (H, W); raises DataError."""
        return read_map(self.map_path(index))

    def fixations(self, index: int) -> np.ndarray:
        """Fixations on a frame, bool (H, W); raises DataError."""
        return read_fixations(self.fixation_path(index))

    def count(self) -> int:
        """Number of the last frame that has fixations, 0 for a folder without any."""
        found = [_number(path) for path in self.folder.glob("fixMap_*.mat")]
        return max(found, default=0)


@dataclass(frozen=True)
class StavisVideo:
    """One video of the layout.

    Attributes:
        frames: number of frames, by the fold list.
        fps: frames a second, by the fold list.
    """

    root: Path
    database: str
    name: str
    frames: int
    fps: Fraction

    @property
    def annotations(self) -> AnnotationFolder:
        """The maps and fixations."""
        return AnnotationFolder(self.root / "annotations" / self.database / self.name)

    @property
    def audio_path(self) -> Path:
        """The sound, which may be missing."""
        folder = self.root / "video_audio" / self.database / self.name
        return folder / f"{self.name}.wav"

    def frame_path(self, index: int) -> Path:
        """File of a frame's picture."""
        folder = self.root / "video_frames" / self.database / self.name
        return folder / f"img_{index + 1:05d}.jpg"

    def image(self, index: int) -> np.ndarray:
        """A frame's picture, uint8 (H, W, 3) RGB; raises DataError."""
        return read_image(self.frame_path(index))

    def read_frames(self) -> Iterator[FolderFrame]:
        """Give the frames in order; raises DataError."""
        for index in range(self.frames):
            yield FolderFrame(index, index / self.fps, 1 / self.fps, self.image(index))


def read_videos(root: Path, database: str, part: str, fold: int) -> list[StavisVideo]:
    """List the videos of a database's part ("train" or "test") in a fold (1 to 3).

    Frames that the list counts but that lie behind the last picture or the last annotation do not
    exist, and are left out.

    Raises:
        DataError: a list, a video's folder or its first files are missing.
    """
    videos = []
    path = list_path(root, database, part, fold)
    for line in read_lines(path):
        name, frames, fps = _list_entry(path, line)
        videos.append(_trimmed(StavisVideo(root, database, name, frames, fps)))
    if not videos:
        raise DataError(f"{path}: lists no videos; get the fold lists again")
    if not (root / "video_audio").is_dir():
        raise DataError(f"{root / 'video_audio'}: missing; the sound of the videos belongs there")
    return videos


def list_path(root: Path, database: str, part: str, fold: int) -> Path:
    """File that lists a database's part in a fold."""
    number = "" if database in ONE_SPLIT else f"_{fold}"
    return root / "fold_lists" / f"{database}_list_{part}{number}_fps.txt"


def _list_entry(path: Path, line: str) -> tuple[str, int, Fraction]:
    try:
        name, frames, fps = line.rsplit(maxsplit=2)
        entry = name, int(float(frames)), Fraction(fps)
    except (ValueError, ZeroDivisionError):
        entry = "", 0, Fraction(0)
    if entry[1] < 1 or entry[2] <= 0:
        raise DataError(f'{path}: "{line}" is not "name frames fps"; get the fold lists again')
    return entry


def _trimmed(video: StavisVideo) -> StavisVideo:
    """The video with no more frames than there are files at its end."""
    for path in (
        video.frame_path(0),
        video.annotations.map_path(0),
        video.annotations.fixation_path(0),
    ):
        if not path.is_file():
            raise DataError(f"{path}: missing; see the STAViS layout in avsal evaluate --help")
    frames = video.frames
    while not (video.frame_path(frames - 1).is_file() and _annotated(video, frames - 1)):
        frames -= 1
    if frames < video.frames:
        missing = f"the last {video.frames - frames} of {video.frames} listed frames have no files"
        logger.warning(f"{video.annotations.folder}: {missing}; they are left out")
    return replace(video, frames=frames)


def _annotated(video: StavisVideo, index: int) -> bool:
    files = video.annotations
    return files.map_path(index).is_file() and files.fixation_path(index).is_file()


def _number(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0
