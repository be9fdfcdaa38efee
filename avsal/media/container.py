"""Opening a media file, choosing its streams, what its headers say, and why it cannot be opened."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.error import (
    FFmpegError,
    HTTPForbiddenError,
    HTTPNotFoundError,
    HTTPUnauthorizedError,
    InvalidDataError,
)
from av.stream import Disposition

from avsal.errors import MediaError
from avsal.media.source import (
    MATROSKA,
    MOV,
    UNDEVELOPED,
    Source,
    archive_kind,
    check_file,
    is_image,
    is_raw,
    is_text,
    name_of,
    opening,
)
from avsal.media.suffixes import VIDEOS
from avsal.media.view import boxes, rotation_of, swaps_sides

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from avsal.media.view import View

# Pictures that belong to a file but are not its video.
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails

# Demuxers whose index makes seeking exact, so that a reader can start in the middle.
SEEKABLE_FORMATS = frozenset({MOV, MATROSKA})

MAX_SAMPLE_RATE = 1_000_000  # Hz; a higher rate is a damaged header and would need gigabytes

# Images that many builds recognise but cannot decode.
_UNDECODED = {
    "svg_pipe": "an SVG drawing",
    "jpegxl_pipe": "a JPEG XL image",
    "jpegxl_anim": "a JPEG XL animation",
    ".jxl": "a JPEG XL image",  # if FFmpeg recognises it by the suffix
}

_INCOMPLETE = (
    "incomplete file: its index (moov) is missing or cut off, as after an interrupted recording or "
    "download; get the whole file"
)
_UNREADABLE = "not a media file that FFmpeg can read, or its beginning is damaged; get it again"
_TEXT = "is a text file, not a media file"
_NO_MEDIA_THERE = (
    "not a media file, perhaps a web page or a playlist; give the address of the file itself"
)
_INDEX_BOX = b"moov"
_TOP_BOXES = frozenset({b"ftyp", b"mdat", b"free", b"skip", b"wide", b"uuid", b"styp", b"sidx"})


def open_input(source: Source) -> InputContainer:
    """Open a media file or an http(s) address for reading; the caller closes the container.

    Raises:
        MediaError: the file is missing, empty or not a regular file, it refers to other files, or
            FFmpeg cannot read it.
    """
    try:
        if isinstance(source, Path):
            check_file(source)
        container = _open(source)
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{source}: {_reason(source, error)}") from error
    if (
        isinstance(source, Path)
        and container.format.name.startswith("mov")
        and _lacks_index(source)
    ):
        container.close()  # with half an index, FFmpeg would omit streams
        raise MediaError(f"{source}: {_INCOMPLETE}")
    return container


def choose_video(container: InputContainer, path: Source) -> VideoStream:
    """Return the stream that a player would show: the default one, else the largest.

    Raises:
        MediaError: the file has no video that this FFmpeg build can decode.
    """
    videos = [s for s in container.streams.video if not s.disposition & _STILLS]
    decodable = [s for s in videos if s.codec_context is not None]
    if decodable:
        if container.format.name.startswith("mov"):
            # An AVIF sequence comes with a still image, which has no duration.
            timed = [s for s in decodable if s.duration is not None]
            return max(timed or decodable, key=_video_rank)
        return max(decodable, key=_video_rank)
    if is_raw(path):
        raise MediaError(f"{path}: {UNDEVELOPED}")
    if videos:
        kind = _UNDECODED.get(container.format.name) or _UNDECODED.get(Path(path).suffix.lower())
        raise MediaError(
            f"{path}: is {kind}, which this FFmpeg build cannot decode; convert it to PNG"
            if kind
            else f"{path}: its video codec is unknown to this FFmpeg build; convert the file to "
            "H.264"
        )
    if not container.streams.audio:
        raise MediaError(f"{path}: contains no video; it may be damaged, get it again")
    art = " with cover art" if container.streams.video else ""
    raise MediaError(f"{path}: has no video, only sound{art}; give a file with pictures")


def choose_audio(container: InputContainer) -> AudioStream | None:
    """Return the default audio stream, else the first that can be decoded, else None."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    decodable = [s for s in streams if s.codec_context.sample_rate <= MAX_SAMPLE_RATE]
    return max(decodable, key=_is_default, default=None)


def _is_default(stream: AudioStream | VideoStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _video_rank(stream: VideoStream) -> tuple[bool, int]:
    return _is_default(stream), stream.codec_context.width * stream.codec_context.height


def _open(source: Source) -> InputContainer:
    container = _open_as(source)
    # Some cameras write a plain series of JPEG pictures, which FFmpeg takes for a still image.
    if container.format.name == "jpeg_pipe" and Path(name_of(source)).suffix.lower() in VIDEOS:
        container.close()
        container = _open_as(source, "mjpeg")
    return container


def _open_as(source: Source, kind: str | None = None) -> InputContainer:
    name, options = opening(source)
    try:
        # Tags in the wild are often not UTF-8 (PyAV issue 1107).
        return av.open(name, format=kind, container_options=options, metadata_errors="replace")
    except TypeError:  # newer versions always replace and lack the argument (PyAV issue 2386)
        return av.open(name, format=kind, container_options=options)


def _reason(source: Source, error: Exception) -> str:
    if isinstance(source, str):
        return _network_reason(error)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied; check the file's permissions"
    if isinstance(error, (ValueError, EOFError)):  # the demuxer refuses it, or is not allowed
        incomplete = isinstance(error, InvalidDataError) and _lacks_index(source)
        return _INCOMPLETE if incomplete else _no_media(source)
    return getattr(error, "strerror", None) or str(error)


def _no_media(path: Path) -> str:
    if is_raw(path):
        return UNDEVELOPED
    if kind := archive_kind(path):
        return f"is a {kind} archive; unpack it and give the file that was in it"
    return _TEXT if is_text(path) else _UNREADABLE


def _network_reason(error: Exception) -> str:
    if isinstance(error, (HTTPNotFoundError, HTTPForbiddenError, HTTPUnauthorizedError)):
        return f"the server responded: {error.strerror}; check the address"
    if isinstance(error, (ValueError, EOFError)):
        return _NO_MEDIA_THERE
    cause = getattr(error, "strerror", None) or str(error)
    return f"cannot be read ({cause}); check the address, or download the file and use that"


def _lacks_index(path: Path) -> bool:
    """Tell whether an MP4 or QuickTime file ends before the end of its `moov` box."""
    with path.open("rb") as file:
        length, known = file.seek(0, 2), False
        for kind, _, end in boxes(file, 0, length):
            if kind == _INDEX_BOX:
                return end > length
            if kind not in _TOP_BOXES:
                return False
            known = True
    return known


_FALLBACK_RATE = Fraction(25)  # frames per second; FFmpeg's default
_MAX_RATE = 1000  # a higher rate is a damaged header


@dataclass(frozen=True)
class VideoInfo:
    """A video's properties; sizes are those of the first decoded frame, not of the header.

    Attributes:
        path: the file, or an http(s) address as a string.
        width, height: display size in pixels after cropping and rotation; a sample aspect ratio is
            not applied. Later pictures of another size are fitted into it.
        rate: nominal frames per second; None if unknown, and for a still image.
        duration: seconds; None if unknown, and for a still image.
        frames: estimated number of frames; None if unknown.
        rotation: clockwise rotation that was applied for display, degrees.
        has_audio: whether there is sound that can be decoded.
        is_image: whether it is a still image, which has exactly one frame.
        codec: FFmpeg's name of the video codec, for example "h264".
        time_base: unit of the frames' times, seconds; every pts is a multiple of it.
        sample_aspect: ratio of width to height of a displayed pixel.
        timecode: of the first frame, by which editors find it, as "01:00:10:05"; None without one.
    """

    path: Source
    width: int
    height: int
    rate: Fraction | None
    duration: Fraction | None
    frames: int | None
    rotation: int
    has_audio: bool
    is_image: bool
    codec: str
    time_base: Fraction
    sample_aspect: Fraction
    timecode: str | None = None

    @property
    def pixel_note(self) -> str | None:
        """What to know about coordinates in pixels; None if its pixels are square."""
        shown = round(self.width * self.sample_aspect)
        if shown == self.width:
            return None
        return (
            f"its pixels are not square; coordinates in pixels are those of {self.width}x"
            f"{self.height} as stored, not of {shown}x{self.height} as shown; values "
            "relative to the picture's size fit both"
        )


def describe(
    path: Source,
    container: InputContainer,
    stream: VideoStream,
    view: View,
    unit: Fraction,
    has_audio: bool,
) -> VideoInfo:
    """Collect the properties of an open video.

    Args:
        path: the file or address.
        container: the open file.
        stream: its video.
        view: how the first frame is displayed.
        unit: unit of the frames' times, seconds.
        has_audio: whether there is sound that can be decoded.
    """
    still = is_image(container)
    rate = None if still else nominal_rate(stream)
    duration = None if still else _duration(container, stream)
    frames = 1 if still else max(0, stream.frames) or None
    if frames is None and duration and rate:
        frames = round(duration * rate)
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    return VideoInfo(
        path=path,
        width=view.width,
        height=view.height,
        rate=rate,
        duration=duration,
        frames=frames,
        rotation=rotation_of(view.matrix),
        has_audio=has_audio and not still,
        is_image=still,
        codec=stream.codec_context.codec.canonical_name,
        time_base=unit,
        sample_aspect=1 / aspect if swaps_sides(view.matrix) else aspect,
        timecode=_timecode(container, stream),
    )


def _timecode(container: InputContainer, stream: VideoStream) -> str | None:
    """Return the timecode of the first frame; QuickTime has it in a track, MXF for the file."""
    tracks = [stream, *container.streams.data]
    tags = [*(track.metadata for track in tracks), container.metadata]
    return next((tag["timecode"] for tag in tags if "timecode" in tag), None)


def library_version() -> str:
    """Return the version of PyAV."""
    return av.__version__


def nominal_rate(stream: VideoStream) -> Fraction | None:
    """Return the stream's frame rate; None if it has no plausible one."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= _MAX_RATE:
            return Fraction(rate)
    return None


def frame_step(stream: VideoStream) -> Fraction:
    """Return the nominal time between frames in seconds."""
    return 1 / (nominal_rate(stream) or _FALLBACK_RATE)


def stream_end(stream: VideoStream) -> Fraction | None:
    """Return the container time at which the video ends by its header; None if unknown."""
    if stream.duration and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * Fraction(stream.time_base)
    return _tagged_duration(stream)  # FFmpeg stores the end there, mkvmerge the length


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the video's duration in seconds, else that of the longest stream; None if unknown."""
    if stream.duration and stream.time_base:
        return stream.duration * Fraction(stream.time_base)
    whole = Fraction(container.duration, av.time_base) if container.duration else None
    return _tagged_duration(stream) or whole


def _tagged_duration(stream: VideoStream) -> Fraction | None:
    tag = stream.metadata.get("DURATION", "")  # Matroska: "00:00:30.000000000"
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None
