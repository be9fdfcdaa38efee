"""Opening a media file: its name, its best streams, and what a failure to open it means."""

from __future__ import annotations

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
    UNDEVELOPED,
    Source,
    check_file,
    is_raw,
    is_text,
    name_of,
    opening,
)
from avsal.media.suffixes import VIDEOS
from avsal.media.view import boxes

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Pictures that belong to a file but are not its video.
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails

# Demuxers whose index makes seeking exact, so that a reader may start in the middle.
MATROSKA = "matroska,webm"
SEEKABLE_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", MATROSKA})

MAX_SAMPLE_RATE = 1_000_000  # Hz; sound of more is a damaged header and would take gigabytes

# Images that many builds know but cannot decode.
_UNDECODED = {
    "svg_pipe": "an SVG drawing",
    "jpegxl_pipe": "a JPEG XL image",
    "jpegxl_anim": "a JPEG XL animation",
    ".jxl": "a JPEG XL image",  # FFmpeg goes by the suffix where it knows it
}

_INCOMPLETE = (
    "incomplete file: its index (moov) is missing or cut off, as after an interrupted recording or "
    "download; get the whole file"
)
_UNREADABLE = "not a media file that FFmpeg can read, or its beginning is damaged; get it again"
_TEXT = "is a text file, not a media file"
_NO_MEDIA_THERE = "a page or a playlist perhaps, no media file; give the address of the file itself"
_INDEX_BOX = b"moov"
_TOP_BOXES = frozenset({b"ftyp", b"mdat", b"free", b"skip", b"wide", b"uuid", b"styp", b"sidx"})


def open_input(source: Source) -> InputContainer:
    """Open a media file or an http(s) address for reading; the caller closes the container.

    Raises:
        MediaError: there is no such file, it is none or empty, it names other files, or FFmpeg
            cannot read it.
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
        container.close()  # half an index: FFmpeg would omit the streams that it lacks
        raise MediaError(f"{source}: {_INCOMPLETE}")
    return container


def choose_video(container: InputContainer, path: Source) -> VideoStream:
    """Return the stream that a player would show: the default one, then the largest.

    Raises:
        MediaError: the file has no video, or none that this FFmpeg can decode.
    """
    videos = [s for s in container.streams.video if not s.disposition & _STILLS]
    decodable = [s for s in videos if s.codec_context is not None]
    if decodable:
        if container.format.name.startswith("mov"):
            # Next to an AVIF sequence is a still image, which has no duration.
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
        raise MediaError(f"{path}: holds no video; it may be damaged, get it again")
    art = " with cover art" if container.streams.video else ""
    raise MediaError(f"{path}: has no video, only sound{art}; name a file with pictures")


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
    # Cameras write one JPEG picture after the other, which FFmpeg takes for a still.
    if container.format.name == "jpeg_pipe" and Path(name_of(source)).suffix.lower() in VIDEOS:
        container.close()
        container = _open_as(source, "mjpeg")
    return container


def _open_as(source: Source, kind: str | None = None) -> InputContainer:
    name, options = opening(source)
    try:
        # Tags in the wild are often not UTF-8 (PyAV issue 1107).
        return av.open(name, format=kind, container_options=options, metadata_errors="replace")
    except TypeError:  # newer PyAV always replaces and has no such argument (PyAV issue 2386)
        return av.open(name, format=kind, container_options=options)


def _reason(source: Source, error: Exception) -> str:
    if isinstance(source, str):
        return _network_reason(error)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied; check who may read it"
    if isinstance(error, (ValueError, EOFError)):  # a demuxer refuses it or may not be used
        incomplete = isinstance(error, InvalidDataError) and _lacks_index(source)
        if is_raw(source) and not incomplete:
            return UNDEVELOPED
        return _INCOMPLETE if incomplete else _TEXT if is_text(source) else _UNREADABLE
    return getattr(error, "strerror", None) or str(error)


def _network_reason(error: Exception) -> str:
    if isinstance(error, (HTTPNotFoundError, HTTPForbiddenError, HTTPUnauthorizedError)):
        return f"the server answers: {error.strerror}; check the address"
    if isinstance(error, (ValueError, EOFError)):
        return _NO_MEDIA_THERE
    cause = getattr(error, "strerror", None) or str(error)
    return f"cannot be read ({cause}); check the address, or download the file and name that"


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
