"""The properties of a video that its headers and its first frame give."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from avsal.media.source import Source, is_image
from avsal.media.view import rotation_of, swaps_sides

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from avsal.media.view import View

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
    duration = None if still else stream_duration(stream) or container_duration(container)
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    return VideoInfo(
        path=path,
        width=view.width,
        height=view.height,
        rate=None if still else nominal_rate(stream),
        duration=duration,
        frames=1 if still else frame_count(stream, duration),
        rotation=rotation_of(view.matrix),
        has_audio=has_audio and not still,
        is_image=still,
        codec=stream.codec_context.codec.canonical_name,
        time_base=unit,
        sample_aspect=1 / aspect if swaps_sides(view.matrix) else aspect,
    )


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


def stream_duration(stream: VideoStream) -> Fraction | None:
    """Return the video stream's own duration in seconds; None if unknown."""
    if stream.duration and stream.time_base:
        return stream.duration * Fraction(stream.time_base)
    return _tagged_duration(stream)


def _tagged_duration(stream: VideoStream) -> Fraction | None:
    tag = stream.metadata.get("DURATION", "")  # Matroska: "00:00:30.000000000"
    try:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def container_duration(container: InputContainer) -> Fraction | None:
    """Return the duration of the longest stream in seconds; None if unknown."""
    return Fraction(container.duration, av.time_base) if container.duration else None


def frame_count(stream: VideoStream, duration: Fraction | None) -> int | None:
    """Return the number of frames by the header, else by rate and duration; None if unknown."""
    if stream.frames > 0:
        return stream.frames
    rate = nominal_rate(stream)
    return round(duration * rate) if duration and rate else None
