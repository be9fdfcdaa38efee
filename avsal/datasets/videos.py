"""Any video with a table of gaze points (`avsal.datasets.gaze_table`) or a folder of maps."""

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
from avsal.datasets.gaze_check import UNITS, Reading, Shown, checked
from avsal.datasets.gaze_table import NO_ROWS, GazeRows, read_table
from avsal.datasets.pictures import read_density
from avsal.datasets.recording import CUT_FRAMES, Clip, OpenSound, Part, Recording, window_in
from avsal.errors import DataError
from avsal.media.audio import AudioReader
from avsal.media.frames import FrameTag, VideoFrame
from avsal.media.info import VideoInfo
from avsal.media.suffixes import VIDEOS
from avsal.media.video import VideoReader
from avsal.prediction.windows import Rule

MAP_NAMES = ("{:06d}.png", "{:06d}.npy")  # as `avsal predict` numbers frames
MISSING_TAIL = 0.05  # share of the frames that a file may promise and not have
_FALLBACK_STEP = Fraction(1, 25)  # seconds between frames where a file tells no rate


@dataclass(frozen=True)
class VideoRecording(Recording):
    """A video file; it is opened when something is asked of it.

    Attributes:
        path: the file.
        given: gaze as the table has it.
        units: of the table's places, see `open_videos`.
        blur: of the gaze points.
    """

    name: str
    database: str
    path: Path
    given: GazeRows = NO_ROWS
    units: str = "auto"
    blur: Blur = field(default_factory=Blur)

    @cached_property
    def _told(self) -> tuple[VideoInfo, Fraction]:
        """What the file tells of itself, and the container time of its first frame."""
        with VideoReader(self.path) as reader:
            return reader.info, reader.origin

    @property
    def info(self) -> VideoInfo:
        return self._told[0]

    @property
    def origin(self) -> Fraction:
        return self._told[1]

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
        )
        return checked(self.given, shown, self.units)

    @property
    def rows(self) -> GazeRows:
        """Gaze with places as fractions of the picture; raises DataError if it cannot be right."""
        return self._checked[0]

    @property
    def reading(self) -> Reading:
        return self._checked[1]

    def frames(self) -> Iterator[VideoFrame]:
        reader = VideoReader(self.path)
        vars(self)["_told"] = reader.info, reader.origin  # sound and gaze need not open it again
        return self._decoded(reader)

    def _decoded(self, reader: VideoReader) -> Iterator[VideoFrame]:
        with reader:
            yield from reader

    def problems(self) -> Iterator[str]:
        count = 0

        def counted() -> Iterator[VideoFrame]:
            nonlocal count
            for frame in self.frames():
                count += 1
                yield frame

        yield from self._problems_of(counted())
        promised = self._promised
        if promised and 0 < count < (1 - MISSING_TAIL) * promised:
            yield f"{self.path}: has {count} of the {promised} frames that it promises; is it cut?"

    @property
    def _promised(self) -> int | None:
        """How many frames the file says that it has; where it does not count them, the rate and
        the duration tell."""
        info = self.info
        if info.frames or not (info.rate and info.duration):
            return info.frames
        return round(info.rate * info.duration)

    def sound(self) -> OpenSound:
        return AudioReader(self.path, self.origin) if self.has_sound else nullcontext(None)

    def gaze(self, tag: FrameTag) -> Gaze | None:
        start, end = float(tag.time), float(tag.time + tag.duration)
        if self.still:  # it was shown all the time
            start, end = -math.inf, math.inf
        points = self.rows.shown(start, end)
        sigma = self.blur.sigma((self.info.width, self.info.height))
        return Gaze.of_points(points, (tag.height, tag.width), sigma)

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        return Points.inside(self.rows.places).mask(size)

    @property
    def sample_aspect(self) -> Fraction:
        return self.info.sample_aspect

    def clip(self, place: float, rule: Rule | None) -> Clip:
        full_past = rule.full_past if rule else 0
        wanted = self._wanted(place, full_past)
        frames, ended = self._until(wanted, rule, self._reader_before(wanted, rule))
        if ended:  # the header promised more than there is, or the video is shorter than a window
            frames, _ = self._until(None, rule, VideoReader(self.path))
        index = max(frames)
        if index < full_past:
            index = min(int(place * len(frames)), index)
        times = {number: frame.pts - self.origin for number, frame in frames.items()}
        window = window_in(rule, index, times, ended)
        return Clip(window, frames.__getitem__, partial(self._time, frames), self.origin)

    def part(self, place: float, rule: Rule) -> Part:
        wanted = self._wanted(place, rule.full_past)
        return Part(wanted, self._decoded(self._reader_before(wanted, rule)))

    def _wanted(self, place: float, full_past: int) -> Fraction:
        """Seconds from the first frame to a place among the frames with so many before them."""
        step = 1 / self.info.rate if self.info.rate else _FALLBACK_STEP
        first = full_past * step
        last = (self.info.duration or first + step) - step
        return first + Fraction(place) * max(Fraction(0), last - first)

    def _reader_before(self, wanted: Fraction, rule: Rule | None) -> VideoReader:
        """Pictures from as early on as the window of the frame at a time needs."""
        seconds, lead = rule.before if rule else (Fraction(0), 0)
        start = max(0.0, float(wanted - seconds))
        return VideoReader(self.path, start=start, lead=lead + CUT_FRAMES)

    def _until(
        self, wanted: Fraction | None, rule: Rule | None, reader: VideoReader
    ) -> tuple[dict[int, VideoFrame], bool]:
        """Frames up to the one at a time that its window may need, and whether the video ended
        before; None goes on to the end."""
        frames: dict[int, VideoFrame] = {}
        times: dict[int, Fraction] = {}
        for frame in self._decoded(reader):
            frames[frame.index] = frame
            times[frame.index] = frame.pts - self.origin
            oldest = rule.oldest(frame.index, times) if rule else frame.index
            for index in [index for index in frames if index < oldest]:
                del frames[index], times[index]
            reached = wanted is not None and float(times[frame.index]) >= float(wanted)
            if reached and frame.index >= (rule.full_past if rule else 0):
                return frames, False
        return frames, True

    def _time(self, frames: dict[int, VideoFrame], index: int) -> Fraction:
        """Behind the window, times follow at the pace of its last frame."""
        nearest = frames.get(index) or frames[max(frames)]
        return nearest.pts - self.origin + (index - nearest.index) * nearest.duration


@dataclass(frozen=True)
class MappedVideo(VideoRecording):
    """A video with a folder of maps, recorded or made by a teacher, one file per frame.

    Attributes:
        maps: folder of 000000.png, 000001.png, ..., or .npy; frames may lack a map.
    """

    maps: Path = Path()

    def gaze(self, tag: FrameTag) -> Gaze | None:
        names = (self.maps / name.format(tag.index) for name in MAP_NAMES)
        path = next((path for path in names if path.is_file()), None)
        density = None if path is None else read_density(path).astype(np.float32)
        return None if density is None or not density.any() else Gaze(density, None)

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        return None


def open_mapped(videos: Path, maps: Path) -> list[Recording]:
    """Find videos and their folders of maps, which are called like the videos' stems.

    No video is opened before something is asked of it.

    Raises:
        DataError: a folder is missing, or there is no video.
    """
    if not videos.is_dir():
        raise DataError(f"{videos}: no such folder; the videos belong there")
    paths = [path for path in sorted(videos.iterdir()) if path.suffix.lower() in VIDEOS]
    if not paths:
        raise DataError(f"{videos}: holds no video")
    return [_open_mapped(path, maps / path.stem) for path in paths]


def _open_mapped(path: Path, maps: Path) -> MappedVideo:
    if not maps.is_dir():
        raise DataError(f"{maps}: missing; it should hold the maps of {path}")
    return MappedVideo(path.stem, path.parent.name, path, maps=maps)


def open_videos(
    place: Path, table: Path, blur: Blur | None = None, units: str = "auto"
) -> list[Recording]:
    """Find the videos that a table has gaze for; their database is called like the table.

    No video is opened before something is asked of it.

    Args:
        place: a video, or the folder of the videos that the table's `video` column names.
        table: the text file.
        blur: of the gaze points; None takes the usual.
        units: "pixels", "fractions", or "auto", which looks at the numbers.

    Raises:
        DataError: the table is malformed, or a video is missing.
    """
    if units not in UNITS:
        raise DataError(f"units {units}: give one of {', '.join(UNITS)}")
    found = read_table(table)
    paths = found.by_video(place) if place.is_dir() else {place: found.of_video(place)}
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: missing, though {table} has gaze for it")
    return [
        VideoRecording(_name(path, place), table.stem, path, rows, units, blur or Blur())
        for path, rows in paths.items()
    ]


def _name(path: Path, place: Path) -> str:
    """Of a video: by its path in the folder, as several folders may have one called like it."""
    return path.name if path == place else path.relative_to(place).as_posix()
