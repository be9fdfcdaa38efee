"""Reading and writing in one line each, for the tests of media files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import samples

from avsal.media import AudioReader, VideoFrame, VideoReader, VideoWriter

RATE = 16000  # Hz of all sound that is read


def frames_of(path: Path, **options: float) -> list[VideoFrame]:
    """All frames; options as of `VideoReader`."""
    with VideoReader(path, **options) as reader:
        return list(reader)


def numbers(frames: list[VideoFrame]) -> list[int]:
    """What `samples.numbered` wrote into the frames."""
    return [samples.number_of(frame.image) for frame in frames]


def times_of(path: Path) -> list[Fraction]:
    """Times of all frames, seconds."""
    return [frame.pts for frame in frames_of(path)]


def sound_of(path: Path) -> np.ndarray:
    """All sound from the first frame on."""
    with VideoReader(path) as video, AudioReader(path, video.origin) as audio:
        return audio.read(0, 10**7)


def click_times(sound: np.ndarray) -> list[float]:
    """Seconds of the clicks of `samples.clicks`: the loudest sample of each loud stretch."""
    loud = np.flatnonzero(np.abs(sound) > 0.2)
    if not loud.size:
        return []
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > RATE // 20) + 1)
    return [float(s[np.abs(sound[s]).argmax()]) / RATE for s in stretches]


def copy(source: Path, out: Path, start: float | None = None, end: float | None = None) -> Path:
    """Write the frames of a video again, as an overlay does."""
    trim = start is not None or end is not None
    with VideoReader(source, start=start, end=end) as video:
        info = video.info
        with VideoWriter(
            out, info.width, info.height, audio_from=source, trim=trim, time_base=info.time_base
        ) as writer:
            for frame in video:
                writer.write(frame.image, frame.pts, frame.duration)
    return out
