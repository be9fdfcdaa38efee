"""Streaming sound of any video: mono, 16 kHz, on the clock of the video's frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
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

# Stored times may be off by rounding (Matroska counts milliseconds) without any sound missing.
# A gap shorter than a column of the spectrogram is closed rather than filled with a click.
_JITTER = Fraction(1, 100)
_SILENCE_BLOCK = 1  # seconds of silence at a time, so that a gap of hours takes no memory
_SEEK_FROM = 30 * SAMPLE_RATE  # samples; decoding a shorter way costs less than a seek
_SEEK_MARGIN = 2  # seconds before the first sample: decoder warm-up, whole seconds

_FULL_SCALE = {"u1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31}  # by the sample format's numpy type
_UNSIGNED_ZERO = 128
_PCM_16 = 2**15  # full scale of the 16-bit samples that the published preprocessing reads
_MAX_PLANES = 8


def to_mono(frame: AudioFrame) -> np.ndarray:
    """Average a frame's channels, any sample format -> float32 (n,) in -1..1.

    Every channel is rounded to 16 bits first, and louder samples, which lossy codecs decode to,
    are clipped: the published preprocessing reads 16-bit files, and its numbers follow only so.
    What is no number, in a damaged file, is silence.
    """
    samples = _samples(frame)
    scale = _FULL_SCALE.get(samples.dtype.str[1:])
    if scale is not None:
        zero = _UNSIGNED_ZERO if samples.dtype == np.uint8 else 0
        samples = (samples.astype(np.float64) - zero) / scale
    levels = np.nan_to_num(np.rint(samples * _PCM_16).clip(-_PCM_16, _PCM_16 - 1))
    return (levels.mean(axis=0, dtype=np.float64) / _PCM_16).astype(np.float32)


def _samples(frame: AudioFrame) -> np.ndarray:
    """Return a frame's samples as (channels, n) of the frame's own type."""
    channels = frame.layout.nb_channels
    unknown = frame.format.name not in format_dtypes  # as 64-bit integers
    # PyAV 18 reads past the end of a frame's list of planes where there are 8 or more.
    if unknown or (frame.format.is_planar and channels >= _MAX_PLANES):
        wanted = "dbl" if unknown else frame.format.packed.name
        (frame,) = AudioResampler(format=wanted, layout=frame.layout).resample(frame)
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, channels).T


@dataclass
class _Stretch:
    """Sound of one sample rate, contiguous from output sample `base` on."""

    rate: int
    base: int

    def __post_init__(self) -> None:
        self._resampler = StreamingResampler(self.rate)
        self._received = 0

    @property
    def is_empty(self) -> bool:
        return self._received == 0

    @property
    def end(self) -> int:
        """The output sample at which the stretch ends."""
        return self.base - (-self._received * SAMPLE_RATE // self.rate)

    def gap_before(self, time: Fraction) -> int:
        """Source samples missing up to a time since the origin; negative: too many."""
        return round((time - Fraction(self.base, SAMPLE_RATE)) * self.rate) - self._received

    def push(self, samples: np.ndarray) -> np.ndarray:
        self._received += samples.size
        return self._resampler.push(samples)

    def silence(self, count: int) -> Iterator[np.ndarray]:
        block = _SILENCE_BLOCK * self.rate
        for start in range(0, count, block):
            yield self.push(np.zeros(min(block, count - start), np.float32))

    def flush(self) -> np.ndarray:
        return self._resampler.flush()


class AudioReader:
    """Reads the sound of a file forward, in constant memory.

    Sample 0 lies at container time `origin`. Sound before it is dropped; a late start and gaps
    are silence; overlaps are trimmed. Channels are averaged at the source rate, and a change of
    rate, layout or sample format on the way starts a new resampler at the right place.

    Use it in a `with` statement, or call `close`.

    Args:
        path: any file with sound, or an http(s) address; or its sound that others read too.
        origin: container time of sample 0 in seconds; a video's first frame time.

    Raises:
        MediaError: the file cannot be opened or has no sound that can be decoded.
    """

    def __init__(self, path: SoundSource, origin: Fraction | int = 0) -> None:
        self._queue = queue_of(path)
        self._file = self._queue.file
        self.path = self._file.path
        self.origin = Fraction(origin)
        self._notes: list[str] = []
        if self._file.stream is None:
            self._queue.close()
            raise MediaError(f"{self.path}: has no sound that can be decoded")
        self._blocks = self._resampled(base=0)
        self._held: deque[np.ndarray] = deque()
        self._start = self._end = 0  # output samples that are held
        self._released = 0  # output sample before which nothing is wanted any more
        self._fresh = True

    @property
    def skipped(self) -> int:
        """Number of damaged packets so far."""
        return self._file.skipped

    @property
    def warnings(self) -> list[str]:
        """One line for each thing that a person should know, complete after the last read."""
        damaged = f"{self.path}: damaged packets of sound skipped: {self.skipped}"
        return [*self._notes, damaged] if self.skipped else list(self._notes)

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder and the file; may be called again."""
        self._blocks.close()
        self._queue.close()

    def read(self, start: int, end: int) -> np.ndarray:
        """Return the samples from `start` to `end`, fewer where the sound ends before.

        Args:
            start: not before the latest `release`.

        Returns:
            float32 (max(0, min(end, total) - start),), 16 kHz.

        Raises:
            ValueError: the range is negative or lies before what is still held.
        """
        if start < 0 or end < start:
            raise ValueError(f"samples {start} to {end} are no range")
        if self._fresh and self._released >= _SEEK_FROM:
            self._seek(self._released)
        self._fresh = False
        if start < self._released:
            raise ValueError(f"sample {start} is gone; sound is held from {self._released} on")
        while self._end < end:
            block = next(self._blocks, None)
            if block is None:
                break
            self._held.append(block)
            self._end += block.size
            self._drop()
        held = np.concatenate([np.zeros(0, np.float32), *self._held])
        self._held = deque([held])
        return held[start - self._start : max(0, end - self._start)].copy()

    def release(self, before: int) -> None:
        """Forget the samples before a place; nothing before it will be read again.

        Memory stays constant for a caller who releases what it is done with. Releasing before the
        first `read` lets that one seek.
        """
        self._released = max(self._released, before)
        self._drop()

    def _drop(self) -> None:
        while self._held and self._start < self._released:
            done = min(self._released - self._start, self._held[0].size)
            if done == self._held[0].size:
                self._held.popleft()
            else:
                self._held[0] = self._held[0][done:].copy()
            self._start += done

    def _seek(self, start: int) -> None:
        """Go near `start` without decoding the way; a whole second keeps the sampling grid."""
        second = start // SAMPLE_RATE - _SEEK_MARGIN
        target = self.origin + second - 1  # a decoder's first samples after a seek are no good
        if not self._file.seek(target, self._queue):
            return
        first = self._queue.first_frame()
        time = None if first is None else _time(first)
        if time is None or time > self.origin + second:
            self._file.restart()
            return
        self._start = self._end = second * SAMPLE_RATE
        self._blocks = self._resampled(self._start)

    def _frames(self) -> Iterator[AudioFrame]:
        try:
            yield from self._queue.frames()
        except MediaError as error:  # the pictures may still be fine
            self._notes.append(f"{error}; the rest counts as silence")

    def _resampled(self, base: int) -> Generator[np.ndarray, None, None]:
        """Contiguous blocks at 16 kHz from output sample `base` on."""
        stretch: _Stretch | None = None
        started = False
        for frame in self._frames():
            if not 0 < frame.sample_rate <= MAX_SAMPLE_RATE:
                continue
            if stretch is None or stretch.rate != frame.sample_rate:
                if stretch is not None:
                    yield stretch.flush()
                    base = stretch.end
                stretch = _Stretch(frame.sample_rate, base)
            samples, time = to_mono(frame), _time(frame)
            gap = 0 if time is None else stretch.gap_before(time - self.origin)
            if not started or abs(gap) > _JITTER * stretch.rate:
                yield from stretch.silence(max(0, gap))
                samples = samples[max(0, -gap) :]
            if samples.size:
                started = True
                yield stretch.push(samples)
        if stretch is not None:
            yield stretch.flush()


def _time(frame: AudioFrame) -> Fraction | None:
    """Container time of a frame's first sample in seconds."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
