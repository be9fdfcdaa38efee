"""The layout in which STAViS distributes six audio-visual eye-tracking data sets (section 4.1).

    video_frames/<DB>/<video>/img_%05d.jpg
    video_audio/<DB>/<video>/<video>.wav
    annotations/<DB>/<video>/maps/eyeMap_%05d.jpg
    annotations/<DB>/<video>/fixMap_%05d.mat            variable eyeMap, 0 and 1
    fold_lists/<DB>_list_{train,test}_{1,2,3}_fps.txt   lines of: name, number of frames, rate
    fold_lists/DIEM_list_{train,test}_fps.txt           DIEM has a split of its own

Files count from 1, frames from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avsal.datasets.files import read_gray, read_mask, read_picture
from avsal.datasets.gaze import Gaze
from avsal.datasets.recording import Frames, Recording, Sound
from avsal.errors import DataError
from avsal.media import AudioReader
from avsal.saliency import FrameTag

DATABASES = ("DIEM", "Coutrot_db1", "Coutrot_db2", "AVAD", "ETMD_av", "SumMe")
UNFOLDED = ("DIEM",)  # one split that belongs to every fold
FOLDS = (1, 2, 3)
SPLITS = ("train", "test")


@dataclass(frozen=True)
class StavisVideo(Frames):
    """One video of the layout."""

    root: Path
    database: str
    name: str
    count: int
    rate: Fraction

    @property
    def still(self) -> bool:
        return False

    def _annotations(self) -> Path:
        return self.root / "annotations" / self.database / self.name

    def _wav(self) -> Path:
        return self.root / "video_audio" / self.database / self.name / f"{self.name}.wav"

    def _fixation_file(self, index: int) -> Path:
        return self._annotations() / f"fixMap_{index + 1:05}.mat"

    def image(self, index: int) -> np.ndarray:
        folder = self.root / "video_frames" / self.database / self.name
        return read_picture(folder / f"img_{index + 1:05}.jpg")

    def gaze(self, tag: FrameTag) -> Gaze | None:
        return self.gaze_at(tag.index)

    def gaze_at(self, index: int) -> Gaze | None:
        """Gaze on frame `index`; None for a frame without fixations, which counts nowhere."""
        if not 0 <= index < self.count:
            return None
        fixations = read_mask(self._fixation_file(index))
        if not fixations.any():
            return None
        path = self._annotations() / "maps" / f"eyeMap_{index + 1:05}.jpg"
        density = read_gray(path).astype(np.float32)
        if density.shape != fixations.shape:
            raise DataError(
                f"{path}: {_size(density)} pixels, but its fixations have {_size(fixations)}; "
                "get both from the same source"
            )
        return Gaze(density, fixations) if density.any() else None

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        union = np.zeros(size, bool)
        for index in range(self.count):
            mask = read_mask(self._fixation_file(index))
            if mask.shape != size:
                raise DataError(
                    f"{self._fixation_file(index)}: {_size(mask)} pixels, but {_size(union)} "
                    "elsewhere in this video"
                )
            union |= mask
        return union

    @property
    def has_sound(self) -> bool:
        return self._wav().is_file()

    def sound(self) -> Sound:
        return AudioReader(self._wav()) if self.has_sound else nullcontext(None)

    def _other_problems(self, annotated: bool) -> Iterator[str]:
        if not self.has_sound:
            yield f"{self._wav()}: missing; the video counts as silent"
        yield from super()._other_problems(annotated)


def _size(values: np.ndarray) -> str:
    return f"{values.shape[1]}x{values.shape[0]}"


def is_stavis(root: Path) -> bool:
    """Whether a folder has this layout."""
    return (root / "fold_lists").is_dir()


def databases_in(root: Path, split: str, fold: int) -> tuple[str, ...]:
    """The databases of which a folder has a list."""
    return tuple(db for db in DATABASES if fold_list(root, db, split, fold).is_file())


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
        databases: names of databases; none takes all that are there.
        split: "train" or "test".
        fold: 1, 2 or 3.

    Raises:
        DataError: a file of the layout is missing or malformed; the text names it.
    """
    chosen = databases or databases_in(root, split, fold)
    if not chosen:
        wanted = fold_list(root, "<DB>", split, fold)
        raise DataError(
            f"{wanted}: missing for every database; see the layout in avsal/datasets/stavis.py"
        )
    videos: list[Recording] = []
    for database in chosen:
        videos += _read_list(root, database, fold_list(root, database, split, fold))
    return videos


def _read_list(root: Path, database: str, path: Path) -> list[StavisVideo]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: {reason}; it lists the videos of {database}") from None
    videos = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, count, rate = _parse(line, f"{path}:{number}")
            video = StavisVideo(root, database, name, count, rate)
            _check_files(video)
            videos.append(video)
    if not videos:
        raise DataError(f"{path}: lists no video; each line is: name, number of frames, rate")
    return videos


def _parse(line: str, place: str) -> tuple[str, int, Fraction]:
    try:
        name, count, rate = line.split()
        parsed: tuple[str, int, Any] = name, int(count), Fraction(rate)
        if parsed[1] < 1 or parsed[2] <= 0:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise DataError(f"{place}: {line.strip()!r} is not: name, number of frames, rate") from None
    return parsed


def _check_files(video: StavisVideo) -> None:
    """Look for the first and last file of each kind; reading finds what lacks between."""
    root, place = video.root, Path(video.database) / video.name
    last = video.count
    wanted = [
        *(root / "video_frames" / place / f"img_{i:05}.jpg" for i in (1, last)),
        *(root / "annotations" / place / "maps" / f"eyeMap_{i:05}.jpg" for i in (1, last)),
        *(root / "annotations" / place / f"fixMap_{i:05}.mat" for i in (1, last)),
        root / "video_audio" / video.database,
    ]
    for path in wanted:
        if not path.exists():
            raise DataError(
                f"{path}: missing, though the lists name {place} with {last} frames; complete the "
                "folder (its layout is that of the STAViS distribution)"
            )


# Other parts of avsal import this from here.
from avsal.datasets.folders import read_videos  # noqa: E402, F401
