"""Streaming sound of any video: mono, 16 kHz, on the clock of the video's frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
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
_LEAD = 3  # seconds of sound that other readers still get from before the first sample

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


class _Stretch:
    """Sound of one sample rate, contiguous from output sample `base` on.

    Args:
        rate: samples per second.
        base: the output sample at which it begins.
        wanted: the first output sample that will be read; what comes before is only counted.

    Attributes:
        first: the output sample at which its output begins.
    """

    def __init__(self, rate: int, base: int, wanted: int) -> None:
        self.rate = rate
        self._base = base
        self._resampler = StreamingResampler(rate, max(0, wanted - base))
        self._received = 0
        self.first = base + self._resampler.first

    @property
    def end(self) -> int:
        """The output sample at which the stretch ends."""
        return self._base - (-self._received * SAMPLE_RATE // self.rate)

    def gap_before(self, time: Fraction) -> int:
        """Source samples missing up to a time since the origin; negative: too many."""
        return round((time - Fraction(self._base, SAMPLE_RATE)) * self.rate) - self._received

    def push(self, frame: AudioFrame, trim: int) -> np.ndarray:
        """Add a frame without its first `trim` samples."""
        unwanted = self._count(frame.samples - trim)
        if trim + unwanted >= frame.samples:
            return np.zeros(0, np.float32)
        return self._resampler.push(to_mono(frame)[trim + unwanted :])

    def silence(self, count: int) -> Iterator[np.ndarray]:
        block = _SILENCE_BLOCK * self.rate
        for start in range(0, count, block):
            size = min(block, count - start)
            yield self._resampler.push(np.zeros(size - self._count(size), np.float32))

    def flush(self) -> np.ndarray:
        return self._resampler.flush()

    def _count(self, samples: int) -> int:
        """Note the next samples; return how many at their beginning are not wanted."""
        unwanted = min(samples, max(0, self._resampler.omitted - self._received))
        self._received += samples
        return unwanted


class AudioReader:
    """Reads the sound of a file forward, in constant memory.

    Sample 0 is at container time `origin`. Sound before it is dropped; a late start and gaps
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
        self._blocks = self._resampled()
        self._held: deque[np.ndarray] = deque()
        self._first = 0  # output sample at which the blocks begin
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
        notes = [*self._file.notes, *self._notes]
        return [*notes, damaged] if self.skipped else notes

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
            ValueError: the range is negative or before what is still buffered.
        """
        if start < 0 or end < start:
            raise ValueError(f"samples {start} to {end} are no range")
        if self._fresh and self._released:
            before = self.origin + self._released // SAMPLE_RATE - _LEAD
            self._file.leave_out(before, self._queue)
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
        first `read` saves work; all is decoded nevertheless, as the samples of many codecs depend
        on all that came before (AAC, AC-3 and WMA fill in noise).
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

    def _frames(self) -> Iterator[AudioFrame]:
        try:
            yield from self._queue.frames()
        except MediaError as error:  # the pictures may still be fine
            self._notes.append(f"{error}; the rest counts as silence")

    def _resampled(self) -> Generator[np.ndarray, None, None]:
        """Contiguous blocks at 16 kHz; the first one sets where they begin."""
        stretch: _Stretch | None = None
        started = False
        for frame in self._frames():
            if not 0 < frame.sample_rate <= MAX_SAMPLE_RATE:
                continue
            if stretch is None or stretch.rate != frame.sample_rate:
                if stretch is not None:
                    yield stretch.flush()
                stretch = self._stretch(frame.sample_rate, stretch)
            time = _time(frame)
            gap = 0 if time is None else stretch.gap_before(time - self.origin)
            trim = 0
            if not started or abs(gap) > _JITTER * stretch.rate:
                yield from stretch.silence(max(0, gap))
                trim = max(0, -gap)
            if trim < frame.samples:
                started = True
                yield stretch.push(frame, trim)
        if stretch is not None:
            yield stretch.flush()

    def _stretch(self, rate: int, before: _Stretch | None) -> _Stretch:
        """The sound after a stretch, or from the beginning on, at another rate."""
        stretch = _Stretch(rate, before.end if before else 0, self._released)
        if self._end == self._first or stretch.first > self._end:  # nothing wanted was given yet
            self._held.clear()
            self._start = self._end = self._first = stretch.first
        return stretch


def _time(frame: AudioFrame) -> Fraction | None:
    """Container time of a frame's first sample in seconds."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
