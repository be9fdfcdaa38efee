"""Opening a media file: its name, its best streams, and what a failure to open it means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError
from av.stream import Disposition

from avsal.errors import MediaError
from avsal.media.boxes import boxes

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Pictures that belong to a file but are not its video.
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails

# Demuxers whose index makes seeking exact, so that a reader may start in the middle.
SEEKABLE_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})

_INCOMPLETE = (
    "incomplete file: its index (moov) is missing or cut off, as after an interrupted recording or "
    "download; get the whole file"
)
_INDEX_BOX = b"moov"
_TOP_BOXES = frozenset({b"ftyp", b"mdat", b"free", b"skip", b"wide", b"uuid", b"styp", b"sidx"})


def open_input(path: Path) -> InputContainer:
    """Open a media file for reading; the caller closes the container.

    Raises:
        MediaError: there is no such file, it is empty or a folder, or FFmpeg cannot read it.
    """
    try:
        if path.is_dir():
            raise MediaError(f"{path}: is a folder, not a media file; name a file inside it")
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError(f"{path}: is empty (0 bytes); copy or download it again")
        container = _open(path)
    except (FFmpegError, OSError) as error:
        raise MediaError(f"{path}: {_reason(path, error)}") from error
    if container.format.name.startswith("mov") and _lacks_index(path):
        container.close()  # half an index: FFmpeg goes on without the streams that it lacks
        raise MediaError(f"{path}: {_INCOMPLETE}")
    if container.format.name == "tty":  # FFmpeg renders any .txt as a film of a terminal
        container.close()
        raise MediaError(f"{path}: is a text file, not a video")
    return container


def choose_video(container: InputContainer, path: Path) -> VideoStream:
    """Return the stream that a player would show: the default one, then the largest.

    Raises:
        MediaError: the file has no video, or none that this FFmpeg can decode.
    """
    videos = [s for s in container.streams.video if not s.disposition & _STILLS]
    decodable = [s for s in videos if s.codec_context is not None]
    if decodable and all(s.disposition & Disposition.dependent for s in decodable):
        raise MediaError(f"{path}: a photograph in tiles (HEIC), which cannot be read; use JPEG")
    if decodable:
        return max(decodable, key=_video_rank)
    if videos:
        raise MediaError(
            f"{path}: its video codec is unknown to this FFmpeg build; convert the file to H.264"
        )
    if not container.streams.audio:
        raise MediaError(f"{path}: holds no video; it may be damaged, get it again")
    art = " with cover art" if container.streams.video else ""
    raise MediaError(f"{path}: has no video, only sound{art}; name a file with pictures")


def choose_audio(container: InputContainer) -> AudioStream | None:
    """Return the default audio stream, else the first that can be decoded, else None."""
    decodable = [s for s in container.streams.audio if s.codec_context is not None]
    return max(decodable, key=_is_default, default=None)


def _is_default(stream: AudioStream | VideoStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _video_rank(stream: VideoStream) -> tuple[bool, int]:
    return _is_default(stream), stream.codec_context.width * stream.codec_context.height


def _open(path: Path) -> InputContainer:
    # The prefix keeps FFmpeg from reading "a:b.mp4" as a protocol; the option keeps it from
    # reading "shot%03d.png" as a sequence of files.
    name, options = f"file:{path}", {"pattern_type": "none"}
    try:
        # Tags in the wild are often not UTF-8 (PyAV issue 1107).
        return av.open(name, container_options=options, metadata_errors="replace")
    except TypeError:  # newer PyAV always replaces and has no such argument (PyAV issue 2386)
        return av.open(name, container_options=options)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied; check who may read it"
    if isinstance(error, ValueError) and _lacks_index(path):
        return _INCOMPLETE
    if isinstance(error, (ValueError, EOFError)):  # av.error.InvalidDataError
        return "not a media file that FFmpeg can read, or its beginning is damaged; get it again"
    return getattr(error, "strerror", None) or str(error)


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
