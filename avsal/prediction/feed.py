"""Frames and sound of a video to the network's inputs, one window at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from avsal.media.frames import FrameTag
from avsal.media.resample import SAMPLE_RATE
from avsal.prediction.settings import PredictSettings, exact_seconds
from avsal.preprocess.frames import resize_frame
from avsal.preprocess.sound import log_spectrogram
from avsal.preprocess.windows import (
    PAST_FRAMES,
    Window,
    audio_span,
    latest_frame,
    latest_time,
    window_for,
)

# A cut changes the colours of a coarse grid by so many levels on average. In trial clips cuts gave
# 22 and more, handheld cameras and fast sports up to 17.
CUT_GRID = (8, 12)
CUT_LEVELS = 20.0


class Frame(Protocol):
    """A decoded frame, as `avsal.media.VideoFrame` is one."""

    @property
    def index(self) -> int: ...
    @property
    def pts(self) -> Fraction: ...
    @property
    def duration(self) -> Fraction: ...
    @property
    def image(self) -> np.ndarray: ...


class AudioSource(Protocol):
    """16 kHz mono sound, sample 0 at the time of the first frame; see `avsal.media.AudioReader`."""

    def read(self, start: int, end: int) -> np.ndarray: ...
    def release(self, before: int) -> None: ...


@dataclass(frozen=True)
class WindowInput:
    """Everything that one forward pass needs.

    Attributes:
        window: which frames, in which order.
        tag: the frame that is predicted.
        skipped: the frames since the previous window, to be interpolated (stride over 1).
        spectrogram: (1, 257, 111) float32.
        new_frames: pixels of the frames that no earlier window had, by index; uint8 (3, h, w).
        cut: first frame of a new scene since the previous window, None where there is no cut.
    """

    window: Window
    tag: FrameTag
    skipped: tuple[FrameTag, ...]
    spectrogram: torch.Tensor
    new_frames: dict[int, torch.Tensor]
    cut: int | None = None


@dataclass
class WindowFeed:
    """Collects frames until a window is complete, gives it out and forgets what no one needs.

    Attributes:
        settings: stride, audio context, start and end.
        size: (height, width) of the network's input.
        audio: the sound, None for a video without.
        origin: container time of the video's first frame, seconds.
    """

    settings: PredictSettings
    size: tuple[int, int]
    audio: AudioSource | None
    origin: Fraction
    _tags: dict[int, FrameTag] = field(default_factory=dict)
    _pixels: dict[int, torch.Tensor] = field(default_factory=dict)
    _target: int | None = None  # the next frame to predict
    _looks: dict[int, torch.Tensor] = field(default_factory=dict)  # frames on CUT_GRID
    _done: int = -1  # the last frame that was given out, as target or as skipped
    _latest: int = -1
    _last: int | None = None  # the video's last frame, once it is known
    _final: int | None = None  # the last frame to predict, once it is known

    def windows(self, frames: Iterable[Frame]) -> Generator[WindowInput, None, None]:
        """Yield the windows of all frames from `start` to `end`, every `stride` and the last."""
        for frame in frames:
            self._take(frame)
            yield from self._ready()
            if self._final is not None and self._done >= self._final:
                return
        self._last = self._latest
        if self._final is None:
            self._final = self._latest
        yield from self._ready()

    def _take(self, frame: Frame) -> None:
        time = frame.pts - self.origin
        height, width = frame.image.shape[:2]
        tag = FrameTag(frame.index, frame.pts, time, frame.duration, width, height)
        self._tags[frame.index] = tag
        self._pixels[frame.index] = resize_frame(frame.image, self.size)
        self._latest = frame.index
        if self._target is None and time >= exact_seconds(self.settings.start or 0):
            self._target = frame.index
            self._done = frame.index - 1
        if self._target is not None:
            self._look_at(frame.index)
            # The next window may still become that of the video's last frame, or the one before.
            self._drop_pixels(min(self._target, frame.index - 1) - PAST_FRAMES)
        end = self.settings.end
        if end is not None and time >= exact_seconds(end) and self._final is None:
            self._final = frame.index - 1

    def _ready(self) -> Iterator[WindowInput]:
        while self._target is not None:
            if self._final is not None:
                if self._done >= self._final:
                    return
                self._target = min(self._target, self._final)
            if self._last is None and self._latest < self._wanted(self._target):
                return
            yield self._give(self._target)
            self._target += self._stride

    @property
    def _stride(self) -> int:
        """A feed knows no network whose own stride it could take."""
        return self.settings.stride or 1

    def _wanted(self, target: int) -> int:
        """The latest frame that must be known before the window of `target` can be made."""
        wanted = latest_frame(target)
        if self.audio is not None:
            wanted = max(wanted, latest_time(target, self.settings.audio_context))
        return wanted

    def _give(self, target: int) -> WindowInput:
        self._forget(min(target - PAST_FRAMES, self._done + 1))
        window = window_for(target, self._last)
        skipped = tuple(self._tags[i] for i in range(self._done + 1, target))
        new = {i: self._pixels.pop(i) for i in sorted(set(window.frames)) if i in self._pixels}
        sound, cut = self._spectrogram(window), self._cut(target)
        self._done = target
        return WindowInput(window, self._tags[target], skipped, sound, new, cut)

    def _look_at(self, index: int) -> None:
        """Remember a frame coarsely, where frames are skipped and a cut may lie between."""
        if self._stride > 1:
            pixels = self._pixels[index].float()
            self._looks[index] = F.adaptive_avg_pool2d(pixels, CUT_GRID)

    def _cut(self, target: int) -> int | None:
        """The frame after the sharpest change since the last target, if it is a cut."""
        changes = {
            index: float((self._looks[index] - self._looks[index - 1]).abs().mean())
            for index in range(self._done + 1, target + 1)
            if index in self._looks and index - 1 in self._looks
        }
        self._looks = {i: look for i, look in self._looks.items() if i >= target}
        sharpest = max(changes, key=lambda index: changes[index], default=None)
        return sharpest if sharpest and changes[sharpest] > CUT_LEVELS else None

    def _spectrogram(self, window: Window) -> torch.Tensor:
        if self.audio is None:
            return log_spectrogram(np.zeros(0, np.float32))
        start, end = audio_span(window, self.settings.audio_context, self._time)
        return log_spectrogram(self.audio.read(start, end), window.reverse)

    def _time(self, index: int) -> Fraction:
        """Time of a frame; behind the last one, time goes on at its pace."""
        tag = self._tags.get(min(index, self._latest))
        if tag is None:
            raise ValueError(f"the time of frame {index} is no longer known")
        return tag.time + (index - tag.index) * tag.duration

    def _forget(self, before: int) -> None:
        """Drop the frames that lie too early for every window to come."""
        self._tags = {i: tag for i, tag in self._tags.items() if i >= before}
        self._drop_pixels(before)
        if self.audio is not None and before in self._tags:
            self.audio.release(round(self._tags[before].time * SAMPLE_RATE))

    def _drop_pixels(self, before: int) -> None:
        self._pixels = {i: pixels for i, pixels in self._pixels.items() if i >= before}
