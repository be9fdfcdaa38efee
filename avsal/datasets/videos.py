"""Any video with a table of gaze points beside it.

The table is a text file with a header: `time` in seconds from the first frame, `x` and `y` in
pixels of the displayed video or as fractions of its size, and where known `observer`, `duration`
of a fixation in seconds, and `video` (a file name) where one table serves several videos.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from avsal.datasets.gaze import Blur, Gaze, Points
from avsal.datasets.pictures import read_gray, require_file
from avsal.datasets.recording import CUT_FRAMES, Clip, OpenSound, Part, Recording, window_in
from avsal.errors import DataError
from avsal.media.audio import AudioReader
from avsal.media.frames import FrameTag, VideoFrame
from avsal.media.info import VideoInfo
from avsal.media.suffixes import VIDEOS
from avsal.media.video import VideoReader
from avsal.preprocess.rules import Rule

UNITS = ("auto", "pixels", "fractions")
COLUMNS = {  # names that a column may have in the table
    "time": ("time", "time_s", "t", "start", "timestamp"),
    "x": ("x", "x_px", "gaze_x"),
    "y": ("y", "y_px", "gaze_y"),
    "observer": ("observer", "subject", "participant", "viewer"),
    "duration": ("duration", "duration_s"),
    "video": ("video", "file", "clip", "stimulus"),
}
MAP_NAMES = ("{:06d}.png", "{:06d}.npy")  # as `avsal predict` numbers frames
REQUIRED = ("time", "x", "y")
MISSING_TAIL = 0.05  # share of the frames that a file may promise and not have
_LARGEST_FRACTION = 1.5  # gaze may leave the picture, but a median beyond this is in pixels
_FALLBACK_STEP = Fraction(1, 25)  # seconds between frames where a file tells no rate


@dataclass(frozen=True)
class GazeRows:
    """Rows of a table, sorted by time: seconds, (n, 2) places, observers' numbers."""

    times: np.ndarray
    durations: np.ndarray
    places: np.ndarray
    observers: np.ndarray | None

    def where(self, chosen: np.ndarray) -> GazeRows:
        """The rows that a boolean or an order (n,) chooses."""
        observers = None if self.observers is None else self.observers[chosen]
        return GazeRows(self.times[chosen], self.durations[chosen], self.places[chosen], observers)

    def shown(self, start: float, end: float) -> Points:
        """Points of the rows that touch the time from `start` to before `end`."""
        longest = self.durations.max(initial=0.0)
        first, last = np.searchsorted(self.times, (start - longest, end))
        rows = self.where(np.arange(first, last))
        touching = rows.where((rows.times >= start) | (rows.times + rows.durations > start))
        return Points.inside(touching.places, touching.observers)


NO_ROWS = GazeRows(np.zeros(0), np.zeros(0), np.zeros((0, 2), np.float32), None)


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

    @cached_property
    def rows(self) -> GazeRows:
        """Gaze with places as fractions of the picture."""
        places = self.given.places
        pixels = self.units == "pixels"
        if self.units == "auto" and len(places):
            pixels = bool((np.nanmedian(np.abs(places), axis=0) > _LARGEST_FRACTION).any())
        size = (self.info.width, self.info.height)
        return replace(self.given, places=places / size) if pixels else self.given

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
        start = float(tag.time)
        points = self.rows.shown(start, start + float(tag.duration))
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
        density = None if path is None else read_gray(path).astype(np.float32)
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
    by_video = read_table(table)
    if place.is_dir():
        if None in by_video:
            raise DataError(f"{table}: needs a column video to tell which file of {place} it is of")
        paths = {place / name: rows for name, rows in by_video.items() if name is not None}
    elif len(by_video) == 1:
        paths = {place: next(iter(by_video.values()))}
    else:
        names = {Path(name).stem: rows for name, rows in by_video.items() if name is not None}
        if place.stem not in names:
            raise DataError(f"{table}: has no rows for {place.name}")
        paths = {place: names[place.stem]}
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: missing, though {table} has gaze for it")
    return [
        VideoRecording(path.name, table.stem, path, rows, units, blur or Blur())
        for path, rows in paths.items()
    ]


def read_table(path: Path) -> dict[str | None, GazeRows]:
    """Read a table: the rows of each video, under None where the table has no such column.

    Raises:
        DataError: the file is missing, lacks a column, or has a row without numbers.
    """
    require_file(path, "table")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, _dialect(file.readline()))
            file.seek(0)
            header = [name.strip().lower() for name in next(rows, [])]
            columns = _columns(header, path)
            return _collect(rows, columns, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from None


def _dialect(header: str) -> type[csv.Dialect]:
    class Table(csv.excel):
        delimiter = max(",;\t", key=header.count)

    return Table


def _columns(header: list[str], path: Path) -> dict[str, int]:
    found = {
        meaning: header.index(name)
        for meaning, names in COLUMNS.items()
        for name in names[::-1]  # the first name of a column wins
        if name in header
    }
    missing = [meaning for meaning in REQUIRED if meaning not in found]
    if missing:
        found_ones = ", ".join(header)[:120] or "none"
        raise DataError(f"{path}: has the columns {found_ones}; missing {', '.join(missing)}")
    return found


def _collect(
    rows: Iterator[list[str]], columns: dict[str, int], path: Path
) -> dict[str | None, GazeRows]:
    numbers: dict[str | None, list[tuple[float, ...]]] = {}
    observers: dict[str | None, list[str]] = {}
    wanted = [columns.get(name) for name in (*REQUIRED, "duration")]
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            video = row[columns["video"]].strip() if "video" in columns else None
            values = tuple(_number(row[i]) if i is not None else 0.0 for i in wanted)
            observer = row[columns["observer"]].strip() if "observer" in columns else ""
        except (ValueError, IndexError):
            text = ",".join(row)[:120]
            raise DataError(f"{path}:{line}: {text!r} is not a row of numbers") from None
        numbers.setdefault(video, []).append(values)
        observers.setdefault(video, []).append(observer)
    if not numbers:
        raise DataError(f"{path}: has a header and no rows")
    named = "observer" in columns
    return {video: _sorted(numbers[video], observers[video], named) for video in numbers}


def _number(text: str) -> float:
    """A number; an empty field is a blink."""
    return float(text) if text.strip() else float("nan")


def _sorted(numbers: list[tuple[float, ...]], observers: list[str], named: bool) -> GazeRows:
    table = np.array(numbers, np.float64)
    who = np.unique(np.array(observers), return_inverse=True)[1] if named else None
    durations = np.nan_to_num(np.maximum(table[:, 3], 0))
    rows = GazeRows(table[:, 0], durations, table[:, 1:3].astype(np.float32), who)
    rows = rows.where(np.isfinite(rows.times))
    return rows.where(np.argsort(rows.times, kind="stable"))
