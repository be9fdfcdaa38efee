"""Streaming frames of any video, upright, in RGB and with exact times."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError

from avsal.errors import MediaError
from avsal.media import info
from avsal.media.clock import COUNTING_FORMATS, FrameClock
from avsal.media.container import SEEKABLE_FORMATS, choose_audio, choose_video, open_input
from avsal.media.decoding import Decoder, count_frames
from avsal.media.deinterlace import Deinterlacer
from avsal.media.frames import VideoFrame
from avsal.media.info import VideoInfo
from avsal.media.orientation import (
    Matrix,
    rotation_of,
    swaps_sides,
    track_mirroring,
    turned,
)
from avsal.media.pixels import RgbConverter, is_hdr
from avsal.media.source import as_source, file_identity
from avsal.media.stills import heif_picture, is_heif, is_image, still_orientation

if TYPE_CHECKING:
    import os

    from av.video.frame import VideoFrame as Decoded

# Codecs of which one packet is one frame, so that counting packets gives a frame's index.
_COUNTABLE_CODECS = frozenset({"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "ffv1"})
KEPT_BYTES = 256 * 2**20  # of frames that wait to be taken
_SEEK_FROM = Fraction(5)  # seconds; decoding a shorter way costs less than a seek
_SEEK_MARGIN = Fraction(1)  # seconds before the first wanted frame, for B-frames
_END_TOLERANCE = Fraction(1, 2)  # seconds that a video may lack against its header


@dataclass(frozen=True)
class _Slot:
    """A decoded frame on its way; the frame may still be replaced by a deinterlaced one."""

    index: int
    time: Fraction
    nominal: Fraction
    matrix: Matrix
    frame: Decoded


class VideoReader:
    """Reads the frames of a video once, from first to last, in constant memory.

    Use it in a `with` statement, or call `close`; leaving early is fine.

    Args:
        path: anything FFmpeg decodes: a video, an animation or a still image; a file, or an
            http(s) address.
        start: skip frames before this time, seconds since the first frame.
        end: stop at the first frame at or after this time, seconds since the first frame.
        lead: how many frames before `start` to give nevertheless (a window's past).

    Attributes:
        info: what the headers and the first frame tell.
        origin: container time of the video's first frame, seconds.
        identity: of the file when it was opened, see `avsal.media.source.file_identity`.

    Raises:
        MediaError: the file cannot be opened or none of its frames can be decoded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        start: float | None = None,
        end: float | None = None,
        lead: int = 0,
    ) -> None:
        self.path = as_source(path)
        # As written: 0.2 means 1/5 and not the nearest binary number, which is above it.
        self._start = Fraction(str(start or 0))
        self._end = None if end is None else Fraction(str(end))
        self._lead = lead
        self._notes: list[str] = []
        self._convert = RgbConverter()
        self._kept: deque[tuple[_Slot, Fraction]] | None = None
        self._frames: Generator[VideoFrame, None, None] | None = None
        self._stream: Any = None
        self._read_to = Fraction(0)  # end of the packets so far, where they are counted
        with suppress(OSError):  # opening it tells what is wrong
            self.identity = file_identity(self.path)
        self._open()

    @property
    def skipped(self) -> int:
        """Number of damaged packets so far."""
        return self._decoder.skipped

    @property
    def warnings(self) -> list[str]:
        """One line for each thing that a person should know, complete after the last frame."""
        notes = list(self._notes)
        if self._clock.synthesised:
            notes.append(
                f"{self.path}: frame times are missing and follow from the rate of "
                f"{float(1 / self._clock.step):g} frames per second"
            )
        if self._clock.restarted:
            notes.append(f"{self.path}: the clock starts again on the way; times were continued")
        if self.skipped:
            notes.append(f"{self.path}: damaged packets skipped: {self.skipped}")
        return notes

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        """Give the frames; a second call resumes where the first one stopped."""
        if self._frames is None:
            self._frames = self._read()
        return self._frames

    def skip_to(self, start: float, lead: int = 0) -> None:
        """Begin at another `start`, with another `lead`; only before the first frame is read."""
        self._start, self._lead = Fraction(str(start)), lead

    def keep(self, start: float = 0) -> int:
        """Keep the frames from `start` on, in the pixel format of the file, until they are taken.

        Args:
            start: seconds since the first frame.

        Returns:
            How many of them may wait at once, so that they take no more than `KEPT_BYTES`.
        """
        self._kept, self._keep_from = deque(), self.origin + Fraction(str(start))
        self._convert_kept = RgbConverter()  # frames may be read in one thread and taken in another
        return KEPT_BYTES // self.frame_bytes

    def take(self, index: int) -> VideoFrame:
        """Give a frame that was read before once more, and forget it and all before it.

        Raises:
            MediaError: it was not kept.
        """
        self.forget(index - 1)
        if not self._kept or self._kept[0][0].index != index:
            raise MediaError(f"{self.path}: no frame {index} though there is a map for it")
        slot, duration = self._kept.popleft()
        return self._finished(slot, duration, self._convert_kept)

    def forget(self, last: int) -> None:
        """Forget the kept frames up to the one numbered `last`."""
        while self._kept and self._kept[0][0].index <= last:
            self._kept.popleft()

    @property
    def frame_bytes(self) -> int:
        """Memory that a frame takes while it is kept."""
        return sum(plane.buffer_size for plane in self._first.frame.planes)

    def close(self) -> None:
        """Free the decoder and the file; may be called again. Kept frames can still be taken."""
        if self._frames is not None:
            self._frames.close()
        self._slots.close()
        self._container.close()
        self._decoder.close()
        self._convert.close()
        self._stream = None  # the last reference: ends the codec's threads

    def _open(self) -> None:
        self._container = open_input(self.path)
        try:
            self._stream = choose_video(self._container, self.path)
            self._stream.thread_type = "AUTO"
            self._codec = self._stream.codec_context.codec.canonical_name
            self._time_base = Fraction(self._stream.time_base or 1)
            self._matrix = self._file_orientation()
            self._decoder = Decoder(self.path, self._container, self._stream)
            self._slots = self._decode()
            first = next(self._slots, None)
            if first is None:
                kind = (
                    "animated, which FFmpeg cannot decode"
                    if self._codec == "webp"
                    else ("of an unsupported kind")
                )
                raise MediaError(
                    f"{self.path}: no frame of its {self._codec} video can be decoded; it is "
                    f"damaged or {kind}, get it again or convert it"
                )
            self._first = first
            self.origin = first.time
            self._notes = self._remarks(first)
            self.info = self._describe(first)
        except BaseException:
            self._container.close()
            raise

    def _file_orientation(self) -> Matrix | None:
        """What the file says of every frame; None where the frames tell it themselves."""
        if not isinstance(self.path, Path):
            return None
        if is_image(self._container):
            return still_orientation(self.path)
        if self._container.format.name.startswith("mov"):
            return track_mirroring(self.path, self._stream.id)
        return None

    def _describe(self, first: _Slot) -> VideoInfo:
        still = is_image(self._container)
        stream, frame = self._stream, first.frame
        width, height = frame.width, frame.height
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if swaps_sides(first.matrix):
            width, height, aspect = height, width, 1 / aspect
        duration = info.stream_duration(stream) or info.container_duration(self._container)
        duration = None if still else duration
        return VideoInfo(
            path=self.path,
            width=width,
            height=height,
            rate=None if still else info.nominal_rate(stream),
            duration=duration,
            frames=1 if still else info.frame_count(stream, duration),
            rotation=rotation_of(first.matrix),
            has_audio=not still and choose_audio(self._container) is not None,
            is_image=still,
            codec=self._codec,
            time_base=self._clock.unit,
            sample_aspect=aspect,
        )

    def _decode(self) -> Generator[_Slot, None, None]:
        """Frames from where the container stands, numbered from 0."""
        still = is_image(self._container)
        counts = self._container.format.name in COUNTING_FORMATS
        counting = counts and self._stream.codec_context.codec.reorder
        self._clock = FrameClock(self._time_base, info.frame_step(self._stream), counting)
        if is_heif(self._container):
            yield self._slot(0, heif_picture(self.path))
            return
        index = 0
        for packet in self._decoder.packets():
            skipped = self._decoder.skipped
            if counts and packet.dts is not None:
                # A packet may hold no frame: the one before stays, as in recordings of a screen.
                self._read_to = (packet.dts + (packet.duration or 0)) * self._time_base
            if packet.size:
                self._clock.sent(packet.dts)
            for frame in self._decoder.decode(packet):
                yield self._slot(index, frame)
                index += 1
                if still:  # further pictures in the file are previews or other views
                    return
            if self._decoder.skipped > skipped:
                self._clock.lost()
        for frame in self._decoder.decode(None) if self._decoder.broken_off else ():
            yield self._slot(index, frame)
            index += 1

    def _slot(self, index: int, frame: Decoded) -> _Slot:
        nominal = frame.duration * self._time_base if frame.duration else self._clock.step
        matrix = self._matrix or turned(frame)
        return _Slot(index, self._clock.time(frame.pts), nominal, matrix, frame)

    def _read(self) -> Generator[VideoFrame, None, None]:
        end = None if self._end is None else self.origin + self._end
        held: _Slot | None = None
        for slot in _deinterlaced(self._wanted()):
            if held is not None:  # its duration is known now
                yield self._passed_on(held, slot.time - held.time)
                held = None
            if end is not None and slot.time >= end:
                return
            held = slot
        if held is not None:
            last = max(held.nominal, self._read_to - held.time)
            yield self._passed_on(held, last)
            self._check_end(held.time + last)

    def _passed_on(self, slot: _Slot, duration: Fraction) -> VideoFrame:
        if self._kept is not None and slot.time >= self._keep_from:
            self._kept.append((slot, duration))
        return self._finished(slot, duration, self._convert)

    def _finished(self, slot: _Slot, duration: Fraction, convert: RgbConverter) -> VideoFrame:
        try:
            image = convert(slot.frame, slot.matrix)
        except (FFmpegError, ValueError) as error:
            raise MediaError(
                f"{self.path}: its pixel format {slot.frame.format.name} with colour matrix "
                f"{slot.frame.colorspace} (ITU-T H.273) cannot be turned into RGB; "
                f"convert it to {'PNG' if self.info.is_image else 'H.264'}"
            ) from error
        return VideoFrame(slot.index, slot.time, duration, image)

    def _wanted(self) -> Iterator[_Slot]:
        """From `lead` frames before `start` on; exact indices in any case."""
        if self._start <= 0:
            return chain([self._first], self._slots)
        target = self.origin + self._start
        if self._start < _SEEK_FROM or not self._countable():
            return _from_time(target, self._lead, chain([self._first], self._slots))
        sought = self._sought(target)
        if sought is None:
            self._container.close()
            self._open()
            sought = _from_time(target, self._lead, chain([self._first], self._slots))
        return sought

    def _countable(self) -> bool:
        """A frame's index can be had by counting packets, without decoding."""
        return (
            self._container.format.name in SEEKABLE_FORMATS
            and self._codec in _COUNTABLE_CODECS
            and not self._first.frame.interlaced_frame  # a packet may be half a frame
            and not self._clock.synthesised
        )

    def _sought(self, target: Fraction) -> Iterator[_Slot] | None:
        """Seek, then decode up to the target; None where the seek went astray."""
        way = _SEEK_MARGIN + self._lead * self._clock.step
        self._slots.close()
        try:
            self._seek(self.origin)
            counter = Decoder(self.path, self._container, self._stream)
            index = count_frames(counter, self.origin, target)
            self._seek(target - way)
        except FFmpegError:
            return None
        self._slots = self._decode()
        reached = list(_up_to(target, self._lead, self._slots))
        if not reached or reached[-1].time < target:
            return None
        first = reached[-1]
        if len(reached) - 1 < min(self._lead, index):
            return None
        return (
            replace(slot, index=slot.index + index - first.index)
            for slot in chain(reached, self._slots)
        )

    def _seek(self, time: Fraction) -> None:
        self._container.seek(int(time / self._time_base), stream=self._stream)

    def _remarks(self, first: _Slot) -> list[str]:
        notes = []
        if is_hdr(first.frame) or is_hdr(self._stream.codec_context):
            notes.append(f"{self.path}: HDR colours are used as they are, without tone mapping")
        if rotation_of(first.matrix) % 90:
            notes.append(f"{self.path}: turned by the nearest quarter turn, not by its odd angle")
        return notes

    def _check_end(self, end: Fraction) -> None:
        expected = info.stream_end(self._stream)
        if self._decoder.broken_off or (expected and end < expected - _END_TOLERANCE):
            of = f" of {float(expected - self.origin):.1f}" if expected else ""
            self._notes.append(
                f"{self.path}: ends after {float(end - self.origin):.1f}{of} s; it seems cut off"
            )


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Open a video, decode its first frame and return what is known about it.

    Raises:
        MediaError: see `VideoReader`.
    """
    with VideoReader(path) as reader:
        return reader.info


def _up_to(target: Fraction, lead: int, slots: Iterable[_Slot]) -> Iterator[_Slot]:
    """The first slot at or after the target, preceded by up to `lead` slots."""
    past: deque[_Slot] = deque(maxlen=lead)
    for slot in slots:
        if slot.time >= target:
            yield from past
            yield slot
            return
        past.append(slot)


def _from_time(target: Fraction, lead: int, slots: Iterator[_Slot]) -> Iterator[_Slot]:
    yield from _up_to(target, lead, slots)
    yield from slots


def _deinterlaced(slots: Iterable[_Slot]) -> Iterator[_Slot]:
    deinterlacer = Deinterlacer()
    waiting: deque[_Slot] = deque()
    for slot in slots:
        waiting.append(slot)
        for frame in deinterlacer.push(slot.frame):
            yield replace(waiting.popleft(), frame=frame)
    for frame in deinterlacer.flush():
        yield replace(waiting.popleft(), frame=frame)
