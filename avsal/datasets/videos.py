"""Videos with a table of gaze points (see `gaze_table`) or with folders of maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from avsal.datasets.gaze import Blur, Gaze, Points
from avsal.datasets.gaze_check import Reading, Shown, checked
from avsal.datasets.gaze_table import NO_ROWS, GazeRows, read_table
from avsal.datasets.pictures import read_density
from avsal.datasets.recording import (
    CUT_FRAMES,
    MISSING_TAIL,
    Clip,
    OpenSound,
    Part,
    Recording,
    window_in,
)
from avsal.errors import AvsalError, DataError
from avsal.media.audio import AudioReader
from avsal.media.container import VideoInfo
from avsal.media.frames import FrameInfo, VideoFrame, info_of
from avsal.media.suffixes import VIDEOS
from avsal.media.video import VideoReader
from avsal.prediction.windows import Rule

MAP_NAMES = ("{:06d}.png", "{:06d}.npy")  # as `avsal predict` numbers frames
_FALLBACK_STEP = Fraction(1, 25)  # seconds between frames if a file does not give its frame rate


@dataclass(frozen=True)
class VideoRecording(Recording):
    """A video file; it is opened only when something of it is needed.

    Attributes:
        path: the file.
        raw_rows: gaze as written in the table.
        units: of the table's coordinates, see `open_videos`.
        blur: of the gaze points.
    """

    name: str
    database: str
    path: Path
    raw_rows: GazeRows = NO_ROWS
    units: str = "auto"
    blur: Blur = field(default_factory=Blur)

    @cached_property
    def _header(self) -> tuple[VideoInfo, Fraction]:
        """The file's properties, and the container time of its first frame."""
        with VideoReader(self.path) as reader:
            return reader.info, reader.origin

    @property
    def info(self) -> VideoInfo:
        return self._header[0]

    @property
    def origin(self) -> Fraction:
        return self._header[1]

    @property
    def has_sound(self) -> bool:
        return self.info.has_audio

    @property
    def still(self) -> bool:
        return self.info.is_image

    @property
    def expected_frames(self) -> int | None:
        return self.info.frames

    @cached_property
    def _checked(self) -> tuple[GazeRows, Reading]:
        info = self.info
        shown = Shown(
            self.path.name,
            info.width,
            info.height,
            None if info.duration is None else float(info.duration),
            None if info.rate is None else float(info.rate),
            info.pixel_note,
        )
        return checked(self.raw_rows, shown, self.units)

    @property
    def rows(self) -> GazeRows:
        """Gaze in fractions of the picture; raises DataError if it cannot belong to the video."""
        return self._checked[0]

    @property
    def reading(self) -> Reading:
        return self._checked[1]

    def frames(self) -> Iterator[VideoFrame]:
        reader = VideoReader(self.path)
        vars(self)["_header"] = reader.info, reader.origin  # avoids opening the file once more
        return self._decoded(reader)

    def _decoded(self, reader: VideoReader) -> Iterator[VideoFrame]:
        with reader:
            yield from reader

    def problems(self) -> Iterator[str]:
        count, annotated = 0, False
        try:
            for frame in self.frames():
                count += 1
                annotated |= self.gaze(info_of(frame, self.origin)) is not None
        except AvsalError as error:
            yield str(error)
        else:
            yield from self._other_problems(annotated)
        expected = self.expected_frames
        if expected and 0 < count < (1 - MISSING_TAIL) * expected:
            yield (
                f"{self.path}: has {count} of the {expected} frames that its header gives; is it "
                "truncated?"
            )

    def sound(self) -> OpenSound:
        return AudioReader(self.path, self.origin) if self.has_sound else nullcontext(None)

    def gaze(self, tag: FrameInfo) -> Gaze | None:
        start, end = float(tag.time), float(tag.time + tag.duration)
        if self.still:  # shown all the time
            start, end = -math.inf, math.inf
        points = self.rows.shown(start, end)
        sigma = self.blur.sigma((self.info.width, self.info.height))
        return Gaze.of_points(points, (tag.height, tag.width), sigma)

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        return Points.inside(self.rows.places).mask(size)

    @property
    def sample_aspect(self) -> Fraction:
        return self.info.sample_aspect

    def clip(self, position: float, rule: Rule | None) -> Clip:
        full_past = rule.full_past if rule else 0
        time = self._time_of(position, full_past)
        frames, ended = self._read_until(time, rule, self._reader_before(time, rule))
        if ended:  # the video is shorter than its header says, or than a window
            frames, _ = self._read_until(None, rule, VideoReader(self.path))
        index = max(frames)
        if index < full_past:
            index = min(int(position * len(frames)), index)
        times = {number: frame.pts - self.origin for number, frame in frames.items()}
        window = window_in(rule, index, times, ended)
        return Clip(
            window, frames.__getitem__, partial(_frame_time, frames, self.origin), self.origin
        )

    def part(self, position: float, rule: Rule) -> Part:
        time = self._time_of(position, rule.full_past)
        return Part(time, self._decoded(self._reader_before(time, rule)))

    def _time_of(self, position: float, full_past: int) -> Fraction:
        """Seconds from the first frame to a position among the frames with a full past."""
        step = 1 / self.info.rate if self.info.rate else _FALLBACK_STEP
        first = full_past * step
        last = (self.info.duration or first + step) - step
        return first + Fraction(position) * max(Fraction(0), last - first)

    def _reader_before(self, time: Fraction, rule: Rule | None) -> VideoReader:
        """Read from the first frame that the window of the frame at `time` needs."""
        seconds, lead = rule.before if rule else (Fraction(0), 0)
        start = max(0.0, float(time - seconds))
        return VideoReader(self.path, start=start, lead=lead + CUT_FRAMES)

    def _read_until(
        self, end: Fraction | None, rule: Rule | None, reader: VideoReader
    ) -> tuple[dict[int, VideoFrame], bool]:
        """Read up to the frame at `end` and keep the frames that its window may need.

        Args:
            end: seconds from the first frame; None reads to the end of the video.

        Returns:
            The frames by index, and whether the video ended before `end`.
        """
        frames: dict[int, VideoFrame] = {}
        times: dict[int, Fraction] = {}
        for frame in self._decoded(reader):
            frames[frame.index] = frame
            times[frame.index] = frame.pts - self.origin
            oldest = rule.oldest(frame.index, times) if rule else frame.index
            for index in [index for index in frames if index < oldest]:
                del frames[index], times[index]
            reached = end is not None and float(times[frame.index]) >= float(end)
            if reached and frame.index >= (rule.full_past if rule else 0):
                return frames, False
        return frames, True


def _frame_time(frames: dict[int, VideoFrame], origin: Fraction, index: int) -> Fraction:
    """Seconds of a frame from the first one; after the last of `frames`, at that one's rate."""
    nearest = frames.get(index) or frames[max(frames)]
    return nearest.pts - origin + (index - nearest.index) * nearest.duration


@dataclass(frozen=True)
class MappedVideo(VideoRecording):
    """A video with a folder of maps, recorded or made by a network, one file per frame.

    Attributes:
        maps: folder of 000000.png, 000001.png, ..., or .npy; maps may be missing.
    """

    maps: Path = Path()

    def gaze(self, tag: FrameInfo) -> Gaze | None:
        names = (self.maps / name.format(tag.index) for name in MAP_NAMES)
        path = next((path for path in names if path.is_file()), None)
        density = None if path is None else read_density(path).astype(np.float32)
        return None if density is None or not density.any() else Gaze(density, None)

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        return None


def open_mapped(videos: Path, maps: Path) -> list[Recording]:
    """Find videos and their folders of maps, named like the videos, or without their suffix.

    Raises:
        DataError: a folder is missing or belongs to two videos, or there is no video.
    """
    if not videos.is_dir():
        raise DataError(f"{videos}: no such folder; give the folder of the videos")
    paths = [path for path in sorted(videos.iterdir()) if path.suffix.lower() in VIDEOS]
    if not paths:
        raise DataError(f"{videos}: holds no video")
    owners: dict[Path, Path] = {}  # by folder of maps
    for path in paths:
        whole, folder = maps / path.name, maps / path.stem
        folder = whole if whole.is_dir() else folder
        if not folder.is_dir():
            raise DataError(f"{folder}: missing; it should hold the maps of {path}")
        if folder in owners:
            raise DataError(
                f"{folder}: may hold the maps of {owners[folder].name} or of {path.name}; name it "
                "like the file, with its suffix"
            )
        owners[folder] = path
        suffixes = {file.suffix for file in folder.iterdir()}
        if suffixes and not suffixes & {Path(name).suffix for name in MAP_NAMES}:
            raise DataError(
                f"{folder}: holds no map 000000.png or .npy; use avsal predict --format png or npy"
            )
    return [
        MappedVideo(folder.name, videos.name, path, maps=folder) for folder, path in owners.items()
    ]


def open_videos(
    root: Path, table: Path, blur: Blur | None = None, units: str = "auto"
) -> list[Recording]:
    """Find the videos that a table has gaze for; their database is named after the table.

    Args:
        root: a video, or the folder of the videos that the table's `video` column names.
        table: the text file.
        blur: of the gaze points; None for the default.
        units: "pixels", "fractions", or "auto", which decides by the numbers.

    Raises:
        DataError: the table is malformed, or a video is missing.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; give a video or the folder of videos")
    gaze = read_table(table)
    by_video = gaze.by_video(root) if root.is_dir() else {root: gaze.of_video(root)}
    recordings: list[Recording] = []
    for path, rows in by_video.items():
        if not path.is_file():
            raise DataError(f"{path}: missing, though {table} has gaze for it")
        # Several folders may have videos of one name.
        name = path.name if path == root else path.relative_to(root).as_posix()
        recordings.append(VideoRecording(name, table.stem, path, rows, units, blur or Blur()))
    return recordings
