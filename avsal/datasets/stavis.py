"""The layout in which STAViS distributes six audio-visual eye-tracking data sets (section 4.1).

    video_frames/<DB>/<video>/img_%05d.jpg
    video_audio/<DB>/<video>/<video>.wav
    annotations/<DB>/<video>/maps/eyeMap_%05d.jpg
    annotations/<DB>/<video>/fixMap_%05d.mat            variable eyeMap, 0 and 1
    fold_lists/<DB>_list_{train,test}_{1,2,3}_fps.txt   lines of: name, number of frames, rate
    fold_lists/DIEM_list_{train,test}_fps.txt           DIEM has a split of its own

Files are numbered from 1, frames from 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from avsal.datasets.gaze import Gaze
from avsal.datasets.pictures import read_density, read_mask, read_picture, require_size
from avsal.datasets.recording import (
    MISSING_TAIL,
    IndexedRecording,
    OpenSound,
    Recording,
    require_inside,
)
from avsal.errors import DataError
from avsal.media.audio import AudioReader
from avsal.media.frames import FrameInfo
from avsal.text import read_text

logger = logging.getLogger("avsal")

DATABASES = ("DIEM", "Coutrot_db1", "Coutrot_db2", "AVAD", "ETMD_av", "SumMe")
UNFOLDED = ("DIEM",)  # has one split, which belongs to every fold
FOLDS = (1, 2, 3)


@dataclass(frozen=True)
class AnnotationFolder:
    """The maps and fixations of one video."""

    path: Path

    def fixation_file(self, index: int) -> Path:
        """Fixations on frame `index`."""
        return self.path / f"fixMap_{index + 1:05}.mat"

    def map_file(self, index: int) -> Path:
        """Blurred fixations on frame `index`."""
        return self.path / "maps" / f"eyeMap_{index + 1:05}.jpg"

    def gaze(self, index: int) -> Gaze | None:
        """Gaze on frame `index`; None if there is none.

        Raises:
            DataError: a file is missing or damaged.
        """
        fixations = read_mask(self.fixation_file(index))
        if not fixations.any():
            return None
        density = read_density(self.map_file(index)).astype(np.float32)
        require_size(self.map_file(index), density, fixations.shape, self.fixation_file(index))
        return Gaze(density, fixations) if density.any() else None

    def union(self, count: int, size: tuple[int, int]) -> np.ndarray:
        """Bool (H, W): fixations of the first `count` frames."""
        union = np.zeros(size, bool)
        for index in range(count):
            mask = read_mask(self.fixation_file(index))
            require_size(self.fixation_file(index), mask, size, "another frame of this video")
            union |= mask
        return union

    def size(self) -> tuple[int, int]:
        """(H, W) of the annotations."""
        height, width = read_mask(self.fixation_file(0)).shape
        return height, width

    def count(self) -> int:
        """Number of frames up to the last one with a file of fixations."""
        numbers = (path.stem.rpartition("_")[2] for path in self.path.glob("fixMap_*.mat"))
        return max((int(number) for number in numbers if number.isdigit()), default=0)


@dataclass(frozen=True)
class AnnotatedVideo(IndexedRecording):
    """A video of which only the annotations are available, to score maps made elsewhere."""

    annotations: AnnotationFolder
    database: str
    name: str
    count: int

    @property
    def still(self) -> bool:
        return False

    @property
    def has_pictures(self) -> bool:
        return False

    @property
    def size(self) -> tuple[int, int]:
        return self.annotations.size()

    def image(self, index: int) -> np.ndarray:
        raise DataError(f"{self.annotations.path}: annotations alone, without the video's frames")

    def gaze(self, tag: FrameInfo) -> Gaze | None:
        return self.annotations.gaze(tag.index) if 0 <= tag.index < self.count else None

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        return self.annotations.union(self.count, size)

    def source_files(self) -> Iterator[Path]:
        for index in range(self.count):
            yield self.annotations.fixation_file(index)
            yield self.annotations.map_file(index)


@dataclass(frozen=True)
class StavisVideo(AnnotatedVideo):
    """One video of the layout.

    Attributes:
        root: folder of the layout.
        rate: frames per second, by the list.
    """

    root: Path
    rate: Fraction

    def frame_file(self, index: int) -> Path:
        """Picture of frame `index`."""
        folder = self.root / "video_frames" / self.database / self.name
        return folder / f"img_{index + 1:05}.jpg"

    def files(self, index: int) -> tuple[Path, Path, Path]:
        """Picture, map and fixations of frame `index`."""
        gaze = self.annotations
        return self.frame_file(index), gaze.map_file(index), gaze.fixation_file(index)

    @property
    def sound_file(self) -> Path:
        """File of the sound, which may be missing."""
        return self.root / "video_audio" / self.database / self.name / f"{self.name}.wav"

    @property
    def has_pictures(self) -> bool:
        return True

    def image(self, index: int) -> np.ndarray:
        return read_picture(self.frame_file(index))

    @property
    def has_sound(self) -> bool:
        return self.sound_file.is_file()

    def source_files(self) -> Iterator[Path]:
        for index in range(self.count):
            yield from self.files(index)
        yield self.sound_file

    def sound(self) -> OpenSound:
        return AudioReader(self.sound_file) if self.has_sound else nullcontext(None)


def is_stavis(root: Path) -> bool:
    """Whether a folder has this layout."""
    return (root / "fold_lists").is_dir()


def has_annotations(root: Path) -> bool:
    """Whether a folder or one inside it holds annotations of this layout."""
    return next(root.rglob("fixMap_*.mat"), None) is not None


def fold_list(root: Path, database: str, split: str, fold: int) -> Path:
    """File that lists the videos of a split."""
    number = "" if database in UNFOLDED else f"{fold}_"
    return root / "fold_lists" / f"{database}_list_{split}_{number}fps.txt"


def open_stavis(
    root: Path, databases: tuple[str, ...] = (), split: str = "test", fold: int = 1
) -> list[Recording]:
    """Find the videos of a split.

    Args:
        root: folder of the layout.
        databases: names of databases; none takes all that have a list.
        split: "train" or "test".
        fold: 1, 2 or 3.

    Raises:
        DataError: a file of the layout is missing or malformed; the text names it.
    """
    lists = {database: fold_list(root, database, split, fold) for database in DATABASES}
    chosen = databases or [database for database, path in lists.items() if path.is_file()]
    if not chosen:
        path = fold_list(root, "<DB>", split, fold)
        raise DataError(
            f"{path}: missing for every database; see the layout in avsal/datasets/stavis.py"
        )
    videos: list[Recording] = []
    for database in chosen:
        videos += _read_list(root, database, fold_list(root, database, split, fold))
    return videos


def open_annotations(root: Path) -> list[Recording]:
    """Find videos of which only the annotations are available.

    Args:
        root: the folder of one video (fixMap_*.mat and maps/), or one that has such folders inside.

    Raises:
        DataError: there are none.
    """
    folders = sorted({path.parent for path in root.rglob("fixMap_*.mat")})
    if not folders:
        raise DataError(f"{root / 'fixMap_00001.mat'}: missing, also in every folder inside")
    videos: list[Recording] = []
    for folder in folders:
        annotations = AnnotationFolder(folder)
        parent = folder.relative_to(root).parent
        database = root.resolve().name if parent == Path() else parent.as_posix()
        name = folder.resolve().name
        videos.append(AnnotatedVideo(annotations, database, name, annotations.count()))
    return videos


def _read_list(root: Path, database: str, path: Path) -> list[StavisVideo]:
    try:
        lines = read_text(path).splitlines()
    except UnicodeError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: {reason}; it lists the videos of {database}") from None
    videos = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, count, rate = _parse(line, f"{path}:{number}")
            require_inside(name, f"{path}:{number}")
            annotations = AnnotationFolder(root / "annotations" / database / name)
            video = StavisVideo(annotations, database, name, count, root, rate)
            videos.append(_complete(video))
    if not videos:
        raise DataError(f"{path}: lists no video; each line is: name, number of frames, rate")
    return videos


def _parse(line: str, source: str) -> tuple[str, int, Fraction]:
    try:
        name, frames, rate = line.rsplit(maxsplit=2)
        count, per_second = int(frames), Fraction(rate)
        if count < 1 or per_second <= 0:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        text = line.strip()
        raise DataError(f"{source}: {text!r} is not: name, number of frames, rate") from None
    return name.strip(), count, per_second


def _complete(video: StavisVideo) -> StavisVideo:
    """Check that the first and last files exist, and correct the number of frames.

    In some copies of the data the lists count a few frames more than there are.
    """
    _require(video.root / "video_audio" / video.database, video)
    for path in video.files(0):
        _require(path, video)
    count = video.count
    while not all(path.is_file() for path in video.files(count - 1)):
        count -= 1
    missing = video.count - count
    if missing > MISSING_TAIL * video.count:
        _require(next(path for path in video.files(count) if not path.is_file()), video)
    if missing:
        logger.warning(
            f"{video.annotations.path}: the last {missing} of {video.count} listed frames have no "
            "files and are omitted"
        )
    if not video.has_sound:
        logger.warning(f"{video.sound_file}: missing; the video counts as silent")
    return replace(video, count=count)


def _require(path: Path, video: StavisVideo) -> None:
    if not path.exists():
        raise DataError(
            f"{path}: missing, though the lists name {video.database}/{video.name} with "
            f"{video.count} frames; complete the folder (its layout is that of STAViS)"
        )
