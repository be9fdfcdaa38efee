"""Writing frames and sound to a video file."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Colorspace, VideoReformatter

from avsal.atomic import new_file, write_errors
from avsal.errors import AvsalError, MediaError, OutputError
from avsal.media.remux import SourceSound
from avsal.media.suffixes import muxer_of

if TYPE_CHECKING:
    from av.container import OutputContainer

    from avsal.media.sound import SoundSource

_MPEG4_MAX_CLOCK = 65_535  # ISO/IEC 14496-2: vop_time_increment_resolution has 16 bits
MAX_CLOCK = 2**24  # ticks per second; more would overflow 32-bit fields within minutes

# In order of preference. Some builds lack libx264 (PyAV issue 1483).
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")
WEBM_ENCODERS = ("libvpx-vp9",)
_CLOCK = 90_000  # ticks per second where the caller names no time base, as in MPEG systems
_LATE_START = 10  # seconds; a later start is a broadcast clock, not silence before the picture
_H264_MAX_SIDE = 16_384  # pixels, of libx264
_H264_MAX_CRF, _VP9_MAX_CRF = 51, 63
_BT709 = 1  # ITU-T H.273 code of matrix, primaries and transfer
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG

# Errors of a disk or a folder. Other codes, as "invalid argument", mean that FFmpeg itself rejects
# its input.
_SYSTEM_ERRORS = frozenset(errno.errorcode) - {errno.EINVAL, errno.ERANGE, errno.EDOM}


@dataclass(frozen=True)
class Encoder:
    """An encoder and its settings.

    Attributes:
        name: FFmpeg's name.
        options: settings.
        max_clock: the finest clock that it supports, ticks per second.
        note: warning for the user about the choice, if any.
    """

    name: str
    options: tuple[tuple[str, str], ...]
    max_clock: int = MAX_CLOCK
    note: str = ""


def choose_encoder(crf: int, muxer: str = "mp4") -> Encoder:
    """Return the best encoder of this build for a container.

    Raises:
        MediaError: there is none.
    """
    names = WEBM_ENCODERS if muxer == "webm" else ENCODERS
    for name in names:
        if _works(name):
            return _settings(name, crf)
    raise MediaError(
        f"this FFmpeg build has no encoder of {', '.join(names)}; reinstall PyAV from its wheels"
        + (" or write .mp4" if muxer == "webm" else "")
    )


def _settings(name: str, crf: int) -> Encoder:
    if name == "libx264":
        # The encoder should be fast compared with the network. Without B-frames, the decoding order
        # is the display order; only then are the durations of a variable rate correct in MP4.
        return Encoder(name, (("crf", str(crf)), ("preset", "veryfast"), ("bf", "0")))
    if name == "libvpx-vp9":
        step = str(round(crf * _VP9_MAX_CRF / _H264_MAX_CRF))
        # Of its settings for live video the slowest; those for files take six times libx264's time.
        speed = (("deadline", "realtime"), ("cpu-used", "5"), ("row-mt", "1"))
        return Encoder(name, (("crf", step), ("b", "0"), *speed))
    if name == "mpeg4":
        # H.264's quantiser step doubles every 6 and is 1 at about 12; MPEG-4's is linear.
        step = str(min(31, max(1, round(2 ** ((crf - 12) / 6)))))
        options = (("qmin", step), ("qmax", step))
        note = "no H.264 encoder in this FFmpeg build, MPEG-4 is used"
        return Encoder(name, options, _MPEG4_MAX_CLOCK, note)
    note = f"no libx264 in this FFmpeg build, {name} is used and --crf is only approximate"
    return Encoder(name, (("qmin", str(max(1, crf))), ("qmax", str(max(1, crf)))), note=note)


@lru_cache
def _works(name: str) -> bool:
    """Tell whether an encoder is built in and opens; a hardware encoder may lack its hardware."""
    try:
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt = 64, 64, "yuv420p"
        context.framerate = 25
        context.open()
    except (ValueError, FFmpegError):
        return False
    return True


@contextmanager
def encoding_errors(path: Path) -> Iterator[None]:
    """What FFmpeg or the disk refuses becomes an error of one line.

    Raises:
        OutputError: `path` cannot be written.
    """
    try:
        yield
    except (FFmpegError, OSError) as error:
        if isinstance(error, FFmpegError) and error.errno not in _SYSTEM_ERRORS:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(
                f"{path}: FFmpeg cannot write this video or its sound as {path.suffix} ({reason}); "
                "try another suffix, such as .mkv"
            ) from error
        with write_errors(path):
            raise OSError(error.errno, error.strerror) from error


class _AbandonedError(Exception):
    """Ends the writing of a file that is abandoned."""


class VideoWriter:
    """Writes RGB or gray pictures as H.264, or as VP9 in WebM, with explicit times.

    The file appears under its name only when `close` succeeds, see `avsal.atomic`. If an exception
    ends the `with` block, the partial file is removed.

    Args:
        path: the file; its suffix (.mp4, .m4v, .mov, .mkv, .webm) chooses the container.
        width, height: picture size in pixels; an odd side is padded by one pixel, as 4:2:0
            colour needs even ones.
        crf: quality of H.264, 0 (lossless) to 51.
        audio_from: copy the sound of this file; the frame times are on its clock.
        trim: the frames are a part of the source: time 0 is the first frame, and the sound is cut
            to the frames. Otherwise times are unchanged and all of the sound is copied.
        time_base: unit of the frame times in seconds, so that they are stored exactly.
        sample_aspect: ratio of width to height of a displayed pixel.

    Attributes:
        padded: whether an odd side was padded.
        codec: name of the encoder, known after the first frame.
        warnings: warnings for the user, one line each.

    Raises:
        UsageError: unknown suffix.
        OutputError: the folder cannot be written to.
        MediaError: the sound's file cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        *,
        crf: int = 20,
        audio_from: SoundSource | None = None,
        trim: bool = False,
        time_base: Fraction | None = None,
        sample_aspect: Fraction = Fraction(1),
    ) -> None:
        self.path = Path(path)
        self.width, self.height = width, height
        self.padded = bool(width % 2 or height % 2)
        self.codec: str | None = None
        self._notes: list[str] = []
        if self.padded:
            self._notes.append(f"{self.path}: padded to an even size, as 4:2:0 colour needs")
        self._kind = muxer_of(self.path)
        self._crf, self._trim, self._aspect = crf, trim, sample_aspect
        self._preferred_time_base = time_base
        self._reformatter = VideoReformatter()
        self._rgb: av.VideoFrame | None = None
        self._container: OutputContainer | None = None
        self._durations: dict[int, int] = {}  # ticks, by time, of the frames in the encoder
        self._last: int | None = None
        self._end = Fraction(0)
        self._sound = None if audio_from is None else SourceSound(audio_from)
        self._file = ExitStack()
        self._partial = self._file.enter_context(new_file(self.path))

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, one line each; complete after `close`."""
        return [*self._notes, *(self._sound.warnings if self._sound else [])]

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def write(self, image: np.ndarray, pts: Fraction, duration: Fraction) -> None:
        """Add a frame.

        Args:
            image: uint8 (height, width, 3) RGB or (height, width) gray.
            pts: time on the source's clock in seconds, later than that of the previous frame.
            duration: how long it is shown, seconds.

        Raises:
            ValueError: the picture has another size.
            OutputError: the disk is full, or the encoder fails.
        """
        if image.shape[:2] != (self.height, self.width):
            size = f"{self.width}x{self.height}"
            raise ValueError(f"picture of shape {image.shape} for a video of {size}")
        with self._writing():
            if self._container is None:
                self._begin(Fraction(pts), Fraction(duration))
            time = Fraction(pts) - self._origin
            tick = round(time / self._time_base)
            if self._last is not None:
                tick = max(tick, self._last + 1)
            self._last, self._end = tick, time + duration
            self._durations[tick] = max(1, round(duration / self._time_base))
            frame = self._encodable(image)
            frame.pts, frame.time_base = tick, self._time_base
            self._mux(self._video.encode(frame))

    def close(self) -> None:
        """Finish the file under its name; may be called again.

        Raises:
            OutputError: the disk is full.
            MediaError: no frame was written.
        """
        if not self._partial.exists():
            return
        with self._writing():
            if self._container is None:
                raise MediaError(f"{self.path}: no frame to write")
            self._mux(self._video.encode(None))
            if self._sound is not None:
                self._sound.mux_until(self._end if self._trim else None)
                self._sound.close()
            self._container.close()
            self._file.close()

    def abandon(self) -> None:
        """Remove the unfinished file; does nothing after `close`."""
        if self._sound is not None:
            self._sound.close()
        if self._container is not None:
            with suppress(FFmpegError, OSError, ValueError):
                self._container.close()
        with suppress(_AbandonedError), self._file:
            raise _AbandonedError

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Any failure inside leaves nothing behind and becomes an error of one line."""
        try:
            with encoding_errors(self.path):
                yield
        except AvsalError:
            self.abandon()
            raise

    def _begin(self, pts: Fraction, duration: Fraction) -> None:
        encoder = choose_encoder(self._crf, self._kind)
        if encoder.note:
            self._notes.append(f"{self.path}: {encoder.note}")
        self.codec = encoder.name
        if max(self.width, self.height) > _H264_MAX_SIDE and self._kind != "webm":
            raise MediaError(
                f"{self.path}: {self.width}x{self.height} is too large for H.264, which has at "
                f"most {_H264_MAX_SIDE} pixels a side; choose a smaller size, or write .webm"
            )
        self._origin = self._choose_origin(pts)
        self._time_base = self._choose_time_base(pts, duration, encoder)
        self._container = av.open(
            f"file:{self._partial}", "w", format=self._kind, container_options=self._muxing()
        )
        self._video = self._add_video(encoder, 1 / duration if duration > 0 else Fraction(25))
        if self._sound is not None:
            self._sound.attach(self._container, self._kind, self._origin)

    def _muxing(self) -> dict[str, str]:
        if self._kind in ("matroska", "webm"):
            return {}
        # A stream's late start is stored in ticks of the movie's clock, which fits both streams.
        sound_rate = self._sound.rate if self._sound is not None else 1
        clock = math.lcm(self._time_base.denominator, sound_rate)
        clock = clock if clock <= MAX_CLOCK else _CLOCK
        return {"movflags": "+faststart", "movie_timescale": str(clock)}

    def _choose_origin(self, pts: Fraction) -> Fraction:
        if self._trim:
            return pts
        start = min(pts, self._sound.start) if self._sound and self._sound.exists else pts
        return Fraction(0) if 0 <= start < _LATE_START else start

    def _choose_time_base(self, pts: Fraction, duration: Fraction, encoder: Encoder) -> Fraction:
        unit = self._preferred_time_base
        if unit is None:
            unit = Fraction(1, math.lcm(_CLOCK, pts.denominator, duration.denominator))
        return unit if unit.denominator <= encoder.max_clock else Fraction(1, encoder.max_clock)

    def _add_video(self, encoder: Encoder, rate: Fraction) -> Any:
        assert self._container is not None
        stream: Any = self._container.add_stream(
            encoder.name, rate=rate.limit_denominator(1001), options=dict(encoder.options)
        )
        stream.width, stream.height = self.width + self.width % 2, self.height + self.height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = self._time_base
        stream.codec_context.sample_aspect_ratio = self._aspect
        stream.codec_context.color_range = _LIMITED_RANGE
        stream.codec_context.colorspace = _BT709
        stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        return stream

    def _encodable(self, image: np.ndarray) -> av.VideoFrame:
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if self.padded:
            image = np.pad(image, ((0, self.height % 2), (0, self.width % 2), (0, 0)), "edge")
        if self._rgb is None:  # one for all, because large ones leave gaps in memory
            self._rgb = av.VideoFrame(image.shape[1], image.shape[0], "rgb24")
        (plane,) = self._rgb.planes
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(len(image), plane.line_size)
        rows[:, : image.shape[1] * 3] = image.reshape(len(image), -1)
        return self._reformatter.reformat(
            self._rgb,
            format="yuv420p",
            src_color_range="JPEG",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range="MPEG",
        )

    def _mux(self, packets: list[Any]) -> None:
        assert self._container is not None
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            if self._sound is not None:
                self._sound.mux_until(packet.dts * self._time_base)
            self._container.mux(packet)
