"""Streaming the frames of any video: upright, in RGB and with exact times."""

from __future__ import annotations

import inspect
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError

from avsal.errors import MediaError
from avsal.media import container
from avsal.media.clock import COUNTING_FORMATS, FrameClock
from avsal.media.container import (
    SEEKABLE_FORMATS,
    VideoInfo,
    choose_audio,
    choose_video,
    describe,
    open_input,
)
from avsal.media.decoding import (
    Decoder,
    Outstanding,
    Slot,
    count_frames,
    deinterlaced,
    from_time,
    is_empty,
    up_to,
    with_start,
)
from avsal.media.display import Display, RgbConverter, remarks
from avsal.media.frames import VideoFrame
from avsal.media.source import (
    ENCRYPTED,
    as_source,
    ends_inside,
    file_identity,
    is_encrypted,
    is_for_pillow,
    is_image,
    why_undecodable,
)
from avsal.media.view import is_cut_off, pillow_picture

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from av.video.frame import VideoFrame as Decoded

# Codecs with one frame per packet, so that a frame's index is found by counting packets.
_COUNTABLE_CODECS = frozenset({"h264", "hevc", "vp9", "av1", "mjpeg", "prores", "ffv1"})
BUFFER_BYTES = 256 * 2**20  # limit for the frames that `buffer_frames` stores
_SEEK_FROM = Fraction(5)  # seconds; decoding less than this is faster than seeking
_SEEK_MARGIN = Fraction(1)  # seconds before the first requested frame, for B-frames
_END_TOLERANCE = Fraction(1, 2)  # seconds by which a video may be shorter than its header says


class VideoReader:
    """Reads the frames of a video once, from first to last, in constant memory.

    Use it in a `with` statement, or call `close`. Not all frames have to be read.

    Args:
        path: file or http(s) address of a video, an animation or a still image that FFmpeg decodes.
        start: skip frames before this time, seconds since the first frame.
        end: stop at the first frame at or after this time, seconds since the first frame.
        lead: number of frames before `start` to read as well (the past of a window).

    Attributes:
        info: the video's properties.
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
        # By way of a string, 0.2 means 1/5 and not the nearest binary number, which is larger.
        self._start = Fraction(str(start or 0))
        self._end = None if end is None else Fraction(str(end))
        self._lead = lead
        self._notes: list[str] = []
        self._convert = RgbConverter()
        self._buffer: deque[tuple[Slot, Fraction]] | None = None
        self._frames: Generator[VideoFrame, None, None] | None = None
        self._reading = threading.RLock()  # one thread may read while another one closes
        self._broken_off = False  # closed before the last frame
        self._process = os.getpid()
        self._stream: Any = None
        self.info: VideoInfo
        self.origin: Fraction
        self._slots: Generator[Slot, None, None]
        self._first_time: Fraction | None = None  # known once the file was open
        self._read_to = Fraction(0)  # end of the packets so far, if empty ones may follow a picture
        with suppress(OSError):  # opening it reports the error
            self.identity = file_identity(self.path)
        self._open()

    @property
    def skipped(self) -> int:
        """Number of damaged packets so far."""
        return self._decoder.skipped

    @property
    def sound_start(self) -> Fraction | None:
        """Container time at which the sound begins by its header, seconds; None if unknown."""
        stream = choose_audio(self._container) if self.info.has_audio else None
        if stream is None or stream.start_time is None:
            return None
        return stream.start_time * Fraction(stream.time_base or 0)

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, one line each; complete after the last frame."""
        notes = [*self._notes, *(f"{self.path}: {note}" for note in self._display.notes)]
        if self._clock.synthesised and not self.info.is_image:
            notes.append(
                f"{self.path}: frame times are missing and were computed from the rate of "
                f"{float(1 / self._clock.step):g} frames per second"
            )
        if self.info.is_image and not isinstance(self.path, str) and is_cut_off(self.path):
            notes.append(f"{self.path}: seems cut off; the missing part of the picture is gray")
        if self._clock.restarted or self._decoder.jumped:
            notes.append(f"{self.path}: the clock restarts or jumps; times were continued")
        if self.skipped:
            notes.append(f"{self.path}: damaged packets skipped: {self.skipped}")
        return notes

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        """Return the reader itself; a second loop continues where the first one stopped."""
        return self

    def __next__(self) -> VideoFrame:
        with self._reading:
            if self._broken_off:
                raise MediaError(f"{self.path}: was closed before all of its frames were read")
            if self._frames is None:
                self._frames = self._read()
            return next(self._frames)

    def skip_to(self, start: float, lead: int = 0) -> None:
        """Start again at another `start` with another `lead`; earlier frames may be repeated."""
        with self._reading:
            self._start, self._lead = Fraction(str(start)), lead
            if self._frames is not None and not self._broken_off:
                self._close_file()
                self._frames = None
                if self._buffer is not None:
                    self._buffer.clear()
                self._open()

    def buffer_frames(self, start: float = 0) -> int:
        """From now on store the frames that are read, in the pixel format of the file.

        Args:
            start: of the first one that is stored, seconds since the first frame.

        Returns:
            The number of frames that fit in `BUFFER_BYTES`.
        """
        self._buffer, self._buffer_from = deque(), self.origin + Fraction(str(start))
        self._convert_stored = RgbConverter()  # one thread may read frames and another pop them
        return BUFFER_BYTES // self.frame_bytes

    def pop_frame(self, index: int) -> VideoFrame:
        """Return a stored frame, and drop it and all earlier ones.

        Raises:
            MediaError: it was not stored.
        """
        self.drop_before(index)
        if not self._buffer or self._buffer[0][0].index != index:
            raise MediaError(f"{self.path}: has no frame {index}, although there is a map for it")
        slot, duration = self._buffer.popleft()
        return self._finished(slot, duration, self._convert_stored)

    def drop_before(self, index: int) -> None:
        """Drop the stored frames before an index."""
        while self._buffer and self._buffer[0][0].index < index:
            self._buffer.popleft()

    @property
    def first_image(self) -> np.ndarray:
        """The first frame, uint8 (H, W, 3) RGB; reading begins there nevertheless."""
        return self._finished(self._first, Fraction(0), self._convert).image

    def glance(self, count: int) -> Iterator[np.ndarray]:
        """Pictures from places spread evenly over the video, uint8 (H, W, 3) RGB.

        They are keyframes or follow one, so a place costs a seek. There are fewer where the length
        is unknown or a seek fails. The reader gives no frames afterwards.
        """
        with self:
            yield self.first_image
            duration = self.info.duration or Fraction(0)
            for number in range(1, count if duration else 0):
                self._slots.close()
                try:
                    self._seek(self.origin + Fraction(duration) * number / count)
                    self._slots = self._decode()
                    slot = next(self._slots, None)
                except FFmpegError:
                    return
                if slot is not None:
                    yield self._finished(slot, Fraction(0), self._convert).image

    @property
    def frame_bytes(self) -> int:
        """Memory of a stored frame."""
        return sum(plane.buffer_size for plane in self._first.frame.planes)

    def close(self) -> None:
        """Free the decoder and the file; may be called again. Stored frames are still there.

        If another thread is reading a frame, this waits for it. In a forked child nothing is freed,
        because that thread does not exist there.
        """
        if os.getpid() != self._process:
            return
        with self._reading:
            self._free()

    def _free(self) -> None:
        if self._frames is None or inspect.getgeneratorstate(self._frames) != inspect.GEN_CLOSED:
            self._broken_off = True
        self._close_file()
        self._convert.close()

    def _close_file(self) -> None:
        if self._frames is not None:
            self._frames.close()
        self._slots.close()
        self._container.close()
        self._decoder.close()
        self._stream = None  # the last reference: ends the codec's threads

    def _open(self) -> None:
        self._container = open_input(self.path)
        try:
            if is_encrypted(self.path, self._container.format.name):
                raise MediaError(f"{self.path}: {ENCRYPTED}")
            self._stream = choose_video(self._container, self.path)
            self._stream.thread_type = "AUTO"
            # Now, because FFmpeg may take another time for the start once it has read packets.
            self._expected_end = container.stream_end(self._stream)
            self._codec = self._stream.codec_context.codec.canonical_name
            self._time_base = Fraction(self._stream.time_base or 1)
            self._display = Display(self.path, self._container, self._stream, self._codec)
            partner = choose_audio(self._container)
            self._decoder = Decoder(self.path, self._container, self._stream, partner)
            self._slots = self._decode()
            first = next(self._slots, None)
            if first is None:
                why = why_undecodable(self.path, self._container, self._stream, self._codec)
                raise MediaError(f"{self.path}: {why}")
            self._first = first
            self.origin = self._first_time = first.time
            self._notes = remarks(self.path, first.frame, self._stream.codec_context)
            unit, has_sound = self._clock.unit, partner is not None
            self.info = describe(
                self.path, self._container, self._stream, first.view, unit, has_sound
            )
        except BaseException:
            self._container.close()
            raise

    def _decode(self) -> Generator[Slot, None, None]:
        """Yield the frames from the current position of the container, numbered from 0.

        A frame that is lost to damage shows the previous picture, so that indices do not depend on
        where reading began.
        """
        still = is_image(self._container)
        counts = self._container.format.name in COUNTING_FORMATS
        counting = counts and self._stream.codec_context.codec.reorder
        step, start, packets = container.frame_step(self._stream), None, self._decoder.packets()
        if not (counting or still):
            packets, start = with_start(packets, self._time_base, step)
        self._clock = FrameClock(self._time_base, step, counting, start, self._first_time)
        if is_for_pillow(self.path, self._container):
            yield self._slot(0, pillow_picture(self.path), 0)
            return
        for index, (frame, pts) in enumerate(self._pictures(packets, counts)):
            yield self._slot(index, frame, pts)
            if still:  # other pictures in the file are previews or other views
                return

    def _pictures(
        self, packets: Iterator[Packet], counts: bool
    ) -> Iterator[tuple[Decoded, int | None]]:
        """Yield each picture with its stored time; the one before a lost picture is repeated."""
        outstanding = Outstanding(self._time_base) if self._one_a_packet() else None
        for packet in packets:
            self._note_end(packet, counts)
            if is_empty(packet):  # the previous picture stays, as in screen recordings
                continue
            skipped = self._decoder.skipped
            if packet.size:
                self._clock.sent(packet.dts)
                if outstanding:
                    outstanding.sent(packet)
            for frame in self._decoder.decode(packet):
                yield from outstanding.shown(frame) if outstanding else [(frame, frame.pts)]
            if self._decoder.skipped > skipped:
                self._clock.lost()
        for frame in self._decoder.decode(None) if self._decoder.broken_off else ():
            yield from outstanding.shown(frame) if outstanding else [(frame, frame.pts)]
        yield from outstanding.ended() if outstanding else ()

    def _note_end(self, packet: Packet, counts: bool) -> None:
        """Note until when the last picture is shown, if empty packets may follow it."""
        time = packet.dts if counts else packet.pts
        if time is not None and (counts or is_empty(packet)):
            end = (time + (packet.duration or 0)) * self._time_base
            self._read_to = self._clock.continued(end)

    def _slot(self, index: int, frame: Decoded, pts: int | None) -> Slot:
        nominal = self._clock.shown(frame.duration)
        time = self._clock.time(pts)
        aspect = Fraction(self._stream.codec_context.sample_aspect_ratio or 1)
        return Slot(index, time, nominal, self._display.view(frame, time, aspect), frame)

    def _read(self) -> Generator[VideoFrame, None, None]:
        end = None if self._end is None else self.origin + self._end
        previous: Slot | None = None
        for slot in deinterlaced(self._requested()):
            if previous is not None:  # its duration is known now
                yield self._passed_on(previous, slot.time - previous.time)
                previous = None
            if end is not None and slot.time >= end:
                return
            previous = slot
        if previous is not None:
            duration = max(previous.nominal, self._read_to - previous.time)
            yield self._passed_on(previous, duration)
            self._check_end(previous.time + duration)

    def _passed_on(self, slot: Slot, duration: Fraction) -> VideoFrame:
        if self._buffer is not None and slot.time >= self._buffer_from:
            self._buffer.append((slot, duration))
        return self._finished(slot, duration, self._convert)

    def _finished(self, slot: Slot, duration: Fraction, convert: RgbConverter) -> VideoFrame:
        image = self._display.picture(slot.frame, slot.view, convert)
        return VideoFrame(slot.index, slot.time, duration, image)

    def _requested(self) -> Iterator[Slot]:
        """Return the slots from `lead` frames before `start` on, with exact indices."""
        target = self.origin + self._start
        if self._start >= _SEEK_FROM and self._countable():
            sought = self._sought(target)
            if sought is not None:
                return sought
            self._container.close()
            self._open()
        slots = chain([self._first], self._slots)
        return from_time(target, self._lead, slots) if self._start > 0 else slots

    def _one_a_packet(self) -> bool:
        """Tell whether each packet is a frame whose presentation time is stored."""
        return self._container.format.name in SEEKABLE_FORMATS and self._codec in _COUNTABLE_CODECS

    def _countable(self) -> bool:
        """Tell whether a frame's index can be found by counting packets, without decoding."""
        return (
            self._one_a_packet()
            and not self._first.frame.interlaced_frame  # a packet may be half a frame
            and not self._clock.synthesised
        )

    def _sought(self, target: Fraction) -> Iterator[Slot] | None:
        """Seek, then decode up to the target; None if the seek failed."""
        self._slots.close()
        try:
            keyframe, index = self._keyframe(target - _SEEK_MARGIN - self._lead * self._clock.step)
        except FFmpegError:
            return None
        # Frames before the keyframe refer to pictures that were not decoded.
        slots = (slot for slot in self._slots if keyframe is None or slot.time >= keyframe)
        first = next(slots, None)
        if index is None or first is None or first.time != keyframe:
            return None
        offset = index - first.index
        numbered = (replace(slot, index=slot.index + offset) for slot in chain([first], slots))
        reached = list(up_to(target, self._lead, numbered))
        if not reached or len(reached) - 1 < min(self._lead, reached[-1].index):
            return None
        return chain(reached, numbered)

    def _keyframe(self, time: Fraction) -> tuple[Fraction | None, int | None]:
        """Seek to the last keyframe before a time; return the keyframe's time and index."""
        self._seek(time)
        packet = next(self._packets(), None)
        if packet is None or packet.pts is None:
            return None, None
        keyframe = packet.pts * self._time_base
        self._seek(self.origin)
        index = count_frames(self._packets(), self.origin, packet)
        self._seek(time)
        self._slots = self._decode()
        return self._clock.exact(keyframe), index

    def _packets(self) -> Iterator[Packet]:
        return Decoder(self.path, self._container, self._stream).packets()

    def _seek(self, time: Fraction) -> None:
        self._container.seek(int(time / self._time_base), stream=self._stream)

    def _check_end(self, end: Fraction) -> None:
        expected = None if self._decoder.jumped else self._expected_end
        early = expected is not None and end < expected - _END_TOLERANCE
        silent = not early and ends_inside(self.path, self._container.format.name)
        if early or silent or self._decoder.broken_off:
            of = f" of {float(expected - self.origin):.1f}" if expected and not silent else ""
            after = f"{float(end - self.origin):.1f}{of} s"
            self._notes.append(f"{self.path}: ends after {after}; it seems cut off")


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Open a video, decode its first frame and return the video's properties.

    Raises:
        MediaError: see `VideoReader`.
    """
    with VideoReader(path) as reader:
        return reader.info
