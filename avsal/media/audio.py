"""Streaming the sound of any video: mono, 16 kHz, on the clock of the video's frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from av.audio.frame import format_dtypes
from av.audio.resampler import AudioResampler

from avsal.errors import MediaError
from avsal.media.container import MAX_SAMPLE_RATE
from avsal.media.resample import SAMPLE_RATE, StreamingResampler
from avsal.media.sound import queue_of

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

    from avsal.media.sound import SoundSource

# Stored times may be rounded (Matroska counts milliseconds) although no sound is missing. A gap
# shorter than a column of the spectrogram is closed; filling it would add a click.
_JITTER = Fraction(1, 100)
_SILENCE_BLOCK = 1  # seconds of silence at a time, so that a gap of hours needs little memory
_LEAD = 3  # seconds of sound before the first sample that other readers still get

_FULL_SCALE = {"u1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31}  # by NumPy type
_UNSIGNED_ZERO = 128
_PCM_16 = 2**15  # full scale of the 16-bit samples that the published preprocessing reads
_MAX_PLANES = 8
_AUDIBLE = 0.003  # of full scale, -50 dB: a root mean square that people hear
_CANCELLED = 0.03  # -30 dB: the mix to the channels where these cancel each other


class Power:
    """Sums up the power of channels and of their mean, where they are mixed."""

    def __init__(self) -> None:
        self._channels = self._mix = 0.0
        self._samples = 0

    def add(self, channels: np.ndarray, mix: np.ndarray) -> None:
        """Count samples of full scale 2**15: (c, n) of the channels and (n,) of their mean."""
        self._channels += float(np.vdot(channels, channels)) / len(channels)
        self._mix += float(np.vdot(mix, mix))
        self._samples += mix.size

    @property
    def cancels(self) -> bool:
        """Whether channels that can be heard have a mean that cannot."""
        heard = self._channels > (_AUDIBLE * _PCM_16) ** 2 * self._samples
        return heard and self._mix < _CANCELLED**2 * self._channels


def to_mono(frame: AudioFrame, power: Power | None = None) -> np.ndarray:
    """Average a frame's channels, any sample format -> float32 (n,) in -1..1.

    Every channel is first rounded to 16 bits, and louder samples, which lossy codecs may give, are
    clipped: this reproduces the published preprocessing, which reads 16-bit files. NaN, in a
    damaged file, becomes silence.

    Args:
        power: counts the samples of frames with several channels.
    """
    samples = _samples(frame)
    scale = _FULL_SCALE.get(samples.dtype.str[1:])
    if scale is not None:
        zero = _UNSIGNED_ZERO if samples.dtype == np.uint8 else 0
        samples = (samples.astype(np.float64) - zero) / scale
    levels = np.nan_to_num(np.rint(samples * _PCM_16).clip(-_PCM_16, _PCM_16 - 1))
    mix = levels.mean(axis=0, dtype=np.float64)
    if power is not None and len(levels) > 1:
        power.add(levels, mix)
    return (mix / _PCM_16).astype(np.float32)


def _samples(frame: AudioFrame) -> np.ndarray:
    """Return a frame's samples as (channels, n) of the frame's own type."""
    channels = frame.layout.nb_channels
    unknown = frame.format.name not in format_dtypes  # for example 64-bit integers
    # PyAV 18 reads past the end of a frame's list of planes if there are 8 or more.
    if unknown or (frame.format.is_planar and channels >= _MAX_PLANES):
        packed = "dbl" if unknown else frame.format.packed.name
        (frame,) = AudioResampler(format=packed, layout=frame.layout).resample(frame)
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, channels).T


class _Section:
    """Contiguous sound of one sample rate.

    Args:
        rate: samples per second.
        base: the output sample at which it begins.
        first_read: the first output sample that will be read; earlier ones are only counted.
        power: counts what is mixed.

    Attributes:
        first: the output sample at which its output begins.
    """

    def __init__(self, rate: int, base: int, first_read: int, power: Power) -> None:
        self.rate = rate
        self._power = power
        self._base = base
        self._resampler = StreamingResampler(rate, max(0, first_read - base))
        self._received = 0
        self.first = base + self._resampler.first

    @property
    def end(self) -> int:
        """The output sample at which the section ends."""
        return self._base - (-self._received * SAMPLE_RATE // self.rate)

    def gap_before(self, time: Fraction) -> int:
        """Return how many source samples are missing before a time; negative for an overlap."""
        return round((time - Fraction(self._base, SAMPLE_RATE)) * self.rate) - self._received

    def push(self, frame: AudioFrame, trim: int) -> np.ndarray:
        """Add a frame without its first `trim` samples."""
        unread = self._count(frame.samples - trim)
        if trim + unread >= frame.samples:
            return np.zeros(0, np.float32)
        return self._resampler.push(to_mono(frame, self._power)[trim + unread :])

    def silence(self, count: int) -> Iterator[np.ndarray]:
        block = _SILENCE_BLOCK * self.rate
        for start in range(0, count, block):
            size = min(block, count - start)
            yield self._resampler.push(np.zeros(size - self._count(size), np.float32))

    def flush(self) -> np.ndarray:
        return self._resampler.flush()

    def _count(self, samples: int) -> int:
        """Count the next samples; return how many of the first ones will not be read."""
        unread = min(samples, max(0, self._resampler.omitted - self._received))
        self._received += samples
        return unread


class AudioReader:
    """Reads the sound of a file once, from start to end, in constant memory.

    Sample 0 is at container time `origin`. Earlier sound is dropped, a late start and gaps become
    silence, and overlaps are trimmed. Channels are averaged at the source rate. Where rate, layout
    or sample format change, a new resampler continues at the right sample.

    Use it in a `with` statement, or call `close`.

    Args:
        path: any file with sound, an http(s) address, or a `SoundFile` that others read too.
        origin: container time of sample 0 in seconds: a video's first frame time.

    Raises:
        MediaError: the file cannot be opened or has no sound that can be decoded.
    """

    def __init__(self, path: SoundSource, origin: Fraction | int = 0) -> None:
        self._queue = queue_of(path)
        self._file = self._queue.file
        self.path = self._file.path
        self.origin = Fraction(origin)
        self._notes: list[str] = []
        self._power = Power()
        if self._file.stream is None:
            self._queue.close()
            raise MediaError(f"{self.path}: has no sound that can be decoded")
        self._blocks = self._resampled()
        self._buffer: deque[np.ndarray] = deque()
        self._first = 0  # output sample at which the blocks begin
        self._start = self._end = 0  # output samples in the buffer
        self._released = 0  # output sample before which nothing will be read
        self._unread = True

    @property
    def skipped(self) -> int:
        """Number of damaged packets so far."""
        return self._file.skipped

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, one line each; complete after the last read."""
        damaged = f"{self.path}: damaged packets of sound skipped: {self.skipped}"
        notes = [*self._file.notes, *self._notes]
        if self._power.cancels:
            notes.append(
                f"{self.path}: the channels of its sound cancel each other when they are mixed, as "
                "with inverted phase; the network hears almost nothing"
            )
        return [*notes, damaged] if self.skipped else notes

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder and the file; may be called again."""
        self._blocks.close()
        self._queue.close()

    def read(self, start: int, end: int) -> np.ndarray:
        """Return the samples from `start` to `end`, or fewer if the sound ends earlier.

        Args:
            start: not before the latest `release`.

        Returns:
            float32 (max(0, min(end, total) - start),), 16 kHz.

        Raises:
            ValueError: the range is negative or begins before the buffer.
        """
        if start < 0 or end < start:
            raise ValueError(f"samples {start} to {end}: not a range")
        if self._unread and self._released:
            before = self.origin + self._released // SAMPLE_RATE - _LEAD
            self._file.leave_out(before, self._queue)
        self._unread = False
        if start < self._released:
            raise ValueError(f"sample {start} was released; the buffer begins at {self._released}")
        while self._end < end:
            block = next(self._blocks, None)
            if block is None:
                break
            self._buffer.append(block)
            self._end += block.size
            self._drop()
        samples = np.concatenate([np.zeros(0, np.float32), *self._buffer])
        self._buffer = deque([samples])
        return samples[start - self._start : max(0, end - self._start)].copy()

    def release(self, before: int) -> None:
        """Drop the samples before an index; they cannot be read again.

        Memory stays constant if the caller releases what it has read. Releasing before the first
        `read` saves resampling. Everything is still decoded, because in many codecs the samples
        depend on all earlier ones (AAC, AC-3 and WMA add noise).
        """
        self._released = max(self._released, before)
        self._drop()

    def _drop(self) -> None:
        while self._buffer and self._start < self._released:
            count = min(self._released - self._start, self._buffer[0].size)
            if count == self._buffer[0].size:
                self._buffer.popleft()
            else:
                self._buffer[0] = self._buffer[0][count:].copy()
            self._start += count

    def _frames(self) -> Iterator[AudioFrame]:
        try:
            yield from self._queue.frames()
        except MediaError as error:  # the pictures may still be readable
            self._notes.append(f"{error}; the remaining sound is treated as silence")

    def _resampled(self) -> Generator[np.ndarray, None, None]:
        """Yield contiguous blocks at 16 kHz; the first one determines where they begin."""
        section: _Section | None = None
        started = False
        for frame in self._frames():
            if not 0 < frame.sample_rate <= MAX_SAMPLE_RATE:
                continue
            if section is None or section.rate != frame.sample_rate:
                if section is not None:
                    yield section.flush()
                section = self._next_section(frame.sample_rate, section)
            time = _time(frame)
            gap = 0 if time is None else section.gap_before(time - self.origin)
            trim = 0
            if not started or abs(gap) > _JITTER * section.rate:
                yield from section.silence(max(0, gap))
                trim = max(0, -gap)
            if trim < frame.samples:
                started = True
                yield section.push(frame, trim)
        if section is not None:
            yield section.flush()

    def _next_section(self, rate: int, previous: _Section | None) -> _Section:
        """Begin a section where the previous one ends."""
        section = _Section(rate, previous.end if previous else 0, self._released, self._power)
        if self._end == self._first or section.first > self._end:  # nothing to be read yet
            self._buffer.clear()
            self._start = self._end = self._first = section.first
        return section


def _time(frame: AudioFrame) -> Fraction | None:
    """Return the container time of a frame's first sample in seconds."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
