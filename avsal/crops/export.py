"""Crop paths for other programs; the suffix of the file to write says which.

- .csv: one row for every frame: index, time (container clock, seconds), x, y, width, height
  (pixels of the picture as displayed), shot, kept; and x to height of a second panel.
- .sendcmd: commands for FFmpeg's filter of that name; the first lines hold a command line that
  makes the cropped video.
- .fcpxml, .edl, .otio: a timeline with a clip for every shot, see `avsal.crops.editors`.
"""

from __future__ import annotations

import csv
import logging
import os
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import lcm
from pathlib import Path

from avsal import atomic
from avsal.crops import editors
from avsal.crops.file import (
    PathFile,
    check_video,
    fitted_size,
    name_part,
    on_clock,
    path_beside,
    read_crops,
    read_head,
)
from avsal.crops.planning import Crop
from avsal.crops.settings import Fill
from avsal.errors import AvsalError, MediaError, UsageError, path_of, without_keys
from avsal.media.source import is_address
from avsal.media.video import VideoReader
from avsal.media.writer import MAX_CLOCK
from avsal.results.checks import is_newer
from avsal.results.plan import CROP_PATH

logger = logging.getLogger("avsal")
_COLUMNS = ("index", "time", "x", "y", "width", "height", "shot", "kept")
_SECOND = ("second_x", "second_y", "second_width", "second_height")
_ONE_PANEL = (".sendcmd", ".fcpxml")  # have one crop at a time


def check_export(out: Path) -> None:
    """Refuse an export that cannot be written, before anything is computed.

    Raises:
        UsageError: the suffix is unknown, or a library that it needs is not installed.
    """
    suffix = out.suffix.lower()
    if suffix not in _WRITERS:
        raise UsageError(
            f"{out}: a crop path is exported to .sendcmd (FFmpeg), .csv, .fcpxml, .edl or .otio; "
            "give a file with one of these suffixes"
        )
    editors.check_library(suffix)


def write_export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    video: str | os.PathLike[str] | None = None,
) -> int:
    """Write a crop path for another program.

    Args:
        path: a .reframe.json file.
        out: the file to write; its suffix decides the format: .sendcmd, .csv, .fcpxml, .edl or
            .otio, see `avsal.crops.export`.
        video: the video of the path; None is the file that the path names, in the same folder.

    Returns:
        The number of frames.

    Raises:
        AvsalError: the path or the video cannot be read, or the file cannot be written.
    """
    path, out = path_of("path", path), path_of("out", out)
    check_export(out)
    head = read_head(path)
    source, origin = _source(path, head, None if video is None else Path(video))
    head, crops = on_clock(head, read_crops(path, head.picture), origin)
    first = next(crops, None)
    if first is None:
        raise MediaError(f"{path}: has no frames; run avsal reframe again")
    job = _Job(head, *source, out)
    seen = _Seen(chain([first], crops))
    with atomic.new_file(out) as partial:
        _WRITERS[out.suffix.lower()](partial, job, seen)
    if seen.split and out.suffix.lower() in _ONE_PANEL:
        numbers = ", ".join(str(shot + 1) for shot in seen.split)
        logger.warning(
            "%s: shot %s: split into two panels, of which %s can hold only the first; --fit pad "
            "avoids panels",
            out,
            numbers,
            out.suffix.lower(),
        )
    return seen.count


def export_kept(out: str | os.PathLike[str], video: str | os.PathLike[str], place: Path) -> None:
    """Export the path of a result that was kept, unless the export is newer than the path.

    Args:
        out, video: see `write_export`.
        place: the result.

    Raises:
        AvsalError: see `write_export`.
    """
    path = path_beside(place)
    if not is_newer(Path(out), path):
        write_export(path, out, video)


class _Seen(Iterator[Crop]):
    """Passes crops on.

    Attributes:
        count: of crops so far.
        split: numbers of the shots that have two panels, in order.
    """

    def __init__(self, crops: Iterator[Crop]) -> None:
        self.count, self.split = 0, dict[int, None]()
        self._crops = crops

    def __next__(self) -> Crop:
        crop = next(self._crops)
        self.count += 1
        if crop.second is not None:
            self.split[crop.shot] = None
        return crop


@dataclass(frozen=True)
class _Job:
    """What an export needs to know apart from the crops.

    Attributes:
        source: the video's path, or the text of its address.
        has_sound: the video has sound, or nobody knows.
        sound_start: container time at which the sound begins, seconds; None if unknown.
        timecode: of the video's first frame; None if it has none, or nobody knows.
        out: the file's final place.
    """

    head: PathFile
    source: Path | str
    has_sound: bool
    sound_start: Fraction | None
    timecode: str | None
    out: Path


_Source = tuple[Path | str, bool, Fraction | None, str | None]  # see `_Job`


def _source(path: Path, head: PathFile, video: Path | None) -> tuple[_Source, Fraction | None]:
    """Where the video is, whether it has sound, where that begins, and the video's timecode; and
    the container time of its first frame.

    A video that is not at hand may have sound.
    """

    def described(place: Path | str, reader: VideoReader) -> tuple[_Source, Fraction]:
        info = reader.info
        return (place, info.has_audio, reader.sound_start, info.timecode), reader.origin

    if video is not None:
        with VideoReader(video) as reader:
            check_video(path, head, reader.info)
            found = reader.path
            source = without_keys(found) if isinstance(found, str) else found.absolute()
            return described(source, reader)
    name = str(head.source.get("name") or path.name.removesuffix(CROP_PATH))
    if is_address(Path(name)):
        return (without_keys(name), True, None, None), None
    beside = path.absolute().parent / Path(name).name
    # It may not be there, or have no name that a file can have.
    with suppress(AvsalError, OSError, ValueError), VideoReader(beside) as reader:
        return described(beside, reader)
    return (beside, True, None, None), None


def _write_csv(place: Path, _job: _Job, crops: Iterable[Crop]) -> None:
    with place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*_COLUMNS, *_SECOND))
        for crop in crops:
            box, *others = ([round(side, 3) for side in box] for box in crop.boxes)
            second = others[0] if others else [""] * len(_SECOND)
            time = round(float(crop.pts), 6)
            writer.writerow((crop.index, time, *box, crop.shot, crop.kept, *second))


def _write_timeline(place: Path, job: _Job, crops: Iterable[Crop]) -> None:
    editors.write(place, job.head, job.source, job.has_sound, crops, job.timecode)


# ---- FFmpeg

_CLOCK = 90_000  # ticks per second where an exact clock would be too fast
_PRIMING = Fraction(1, 10)  # seconds by which encoders let sound begin earlier than pictures

# Frames flagged as interlaced are deinterlaced, as avsal's reader does. Colours get full resolution
# in 8 bits: at odd places FFmpeg's crop shifts coarser ones, and destroys those of more bits.
_WHOLE_FRAMES = ("yadif=deint=interlaced", "format=yuv444p|gbrp")

_Values = dict[tuple[str, str], int]  # a filter and its option to the option's value


@dataclass(frozen=True)
class _Changes:
    """What FFmpeg's filters are told, and when.

    Attributes:
        start, last: container times of the first and the last frame, seconds.
        step: seconds from the last frame but one to the last.
        initial: the options' values for the first frame.
        unit: one over a whole number, of which every time is a multiple; or else nearly.
        later: times, and the options that change there.
        bars: some crop has another shape than the result.
    """

    start: Fraction
    last: Fraction
    step: Fraction
    unit: Fraction
    initial: _Values
    later: list[tuple[Fraction, _Values]]
    bars: bool


def _changes(crops: Iterable[Crop], head: PathFile) -> _Changes:
    """Find where the crop changes.

    A change comes half-way between two frames, so that no rounding of times moves it to another.
    """
    later: list[tuple[Fraction, _Values]] = []
    initial: _Values = {}
    values: _Values = {}
    bars = False
    start = last = step = Fraction(0)
    clock = 1
    for crop in crops:
        found = _filter_values(crop, head)
        bars = bars or fitted_size(crop.boxes[0], head) != head.size
        if not initial:
            start, initial = crop.pts, found
        elif changed := {key: value for key, value in found.items() if values[key] != value}:
            later.append(((last + crop.pts) / 2, changed))
        values, last, step = found, crop.pts, crop.pts - last
        clock = lcm(clock, crop.pts.denominator)
    unit = Fraction(1, clock if clock <= MAX_CLOCK else _CLOCK)
    return _Changes(start, last, step, unit, initial, later, bars)


def _filter_values(crop: Crop, head: PathFile) -> _Values:
    """The options that show a crop, in whole pixels."""
    across = _square_width(head) / head.picture.width
    width, height = fitted_size(crop.boxes[0], head)
    return {
        ("crop", "w"): max(1, round(crop.width * across)),
        ("crop", "h"): max(1, round(crop.height)),
        ("crop", "x"): max(0, round(crop.x * across)),
        ("crop", "y"): max(0, round(crop.y)),
        ("scale", "w"): width,
        ("scale", "h"): height,
    }


def _square_width(head: PathFile) -> int:
    """Width of the picture in square pixels."""
    return round(head.picture.width * head.picture.sample_aspect)


def _write_ffmpeg(place: Path, job: _Job, crops: Iterable[Crop]) -> None:
    changes = _changes(crops, job.head)
    with place.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write("# Made by avsal reframe. Run this in the folder of this file:\n")
        file.write(f"# {_command(job, changes)}\n")
        if job.head.settings.get("pad") == Fill.BLUR:
            file.write("# Bars are black here; avsal reframe --path fills them with blur.\n")
        for time, changed in changes.later:
            commands = (
                f"{name}@view {option} {value}" for (name, option), value in changed.items()
            )
            file.write(f"{float(time):.6f} {', '.join(commands)};\n")


def _command(job: _Job, changes: _Changes) -> str:
    """A command line for a shell, in one line.

    FFmpeg keeps the container's times, which are those of the path, until the result is written.
    """
    source = str(job.source)
    stem = Path(source).stem
    if isinstance(job.source, Path):
        near = job.source.parent == job.out.absolute().parent
        source = _file(job.source.name if near else source)
    if _control(source) or _control(job.out.name):
        raise UsageError(f"{job.out}: a name with control characters; rename the video or the file")
    words = ["ffmpeg", "-copyts", "-i", source, "-vf", _filters(job, changes)]
    if _is_part(job.head):
        words += ["-af", f"atrim={_part(changes, 1)}"] if job.has_sound else []
    # Without its own unit FFmpeg rounds times to a constant rate, and may lose the first frame.
    words += ["-fps_mode", "passthrough", "-enc_time_base:v", f"1:{1 / changes.unit}"]
    words += ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p"]
    words += ["-c:a", "aac"] if job.has_sound else ["-an"]
    if begin := _beginning(job, changes):
        words += ["-output_ts_offset", f"{-float(begin):.6f}"]
    return shlex.join([*words, _file(f"{stem}.{name_part(job.head.aspect)}.mp4")])


def _is_part(head: PathFile) -> bool:
    """Whether the path covers a part of its video."""
    return head.start is not None or head.end is not None


def _beginning(job: _Job, changes: _Changes) -> Fraction:
    """The container time at which the result begins: of a whole video, sound may come first."""
    if _is_part(job.head) or job.sound_start is None:
        return changes.start
    return job.sound_start if changes.start - job.sound_start > _PRIMING else changes.start


def _file(name: str) -> str:
    """A name that FFmpeg takes for a file's, and neither for an address nor for an option."""
    return f"file:{name}" if ":" in name or name.startswith("-") else name


def _filters(job: _Job, changes: _Changes) -> str:
    """The chain of filters: whole frames, square pixels, the crop, the size of the result, bars.

    The filters that commands are for have names, as FFmpeg adds others of their kind itself.
    """
    head = job.head
    filters = list(_WHOLE_FRAMES)
    if _is_part(head):
        filters.append(f"trim={_part(changes, 0.5)}")
    if changes.later:  # FFmpeg refuses a file without commands
        filters.append(f"sendcmd=f={_escaped(job.out.name)}")
    if head.picture.sample_aspect != 1:
        filters += [f"scale={_square_width(head)}:{head.picture.height}", "setsar=1"]
    options: dict[str, list[str]] = {"crop": [], "scale": ["flags=bicubic"]}
    for (name, option), value in changes.initial.items():
        options[name].append(f"{option}={value}")
    filters += [f"{name}@view={':'.join(values)}" for name, values in options.items()]
    if changes.bars:
        width, height = head.size
        filters.append(f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2:eval=frame")
    return ",".join([*filters, "setsar=1"])


def _part(changes: _Changes, frames: float) -> str:
    """A part of a video for `trim` and `atrim`, which ends `frames` after the last frame began."""
    end = float(changes.last) + frames * float(changes.step)
    return f"start={float(changes.start):.6f}:end={end:.6f}"


def _escaped(text: str) -> str:
    """A value as FFmpeg's filters read it: its special characters, and once more the chain's."""
    for special in ("\\':", "\\'[],;"):
        text = "".join(
            f"\\{character}" if character in special else character for character in text
        )
    return text


def _control(text: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in text)


_WRITERS: dict[str, Callable[[Path, _Job, Iterable[Crop]], None]] = {
    ".csv": _write_csv,
    ".sendcmd": _write_ffmpeg,
    ".fcpxml": _write_timeline,
    ".edl": _write_timeline,
    ".otio": _write_timeline,
}
