"""Which frames and which stretch of sound the network sees to predict a frame.

Index arithmetic alone: no pixels, no files. Frame times are in seconds, counted from the first
frame of the video.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from avsal.spectrogram import COLUMNS, HOP, SAMPLE_RATE

CLIP_FRAMES = 16  # frames of a window (paper Section 4.3)
PAST_FRAMES = CLIP_FRAMES - 1  # a window ends at the frame that it predicts

# Frames of sound that belong to a window: the published inference uses 32, training used 16.
AUDIO_CONTEXTS = (32, 16)


@dataclass(frozen=True)
class Window:
    """The inputs of one forward pass.

    Attributes:
        target: index of the frame that is predicted.
        frames: the frame indices in the order in which the network sees them, 16 by the published
            rule.
        first: the earliest frame; the published rule's sound starts there.
        reverse: the window is played backwards, sound included.
        needed: the earliest frame that a later window may see.
    """

    target: int
    frames: tuple[int, ...]
    first: int
    reverse: bool
    needed: int


def window_for(target: int, last: int | None = None) -> Window:
    """Return the window that predicts frame `target`.

    Frame i is predicted from frames i-15..i. The first 15 frames have no full past: frame j is
    predicted from frames j..j+15 played backwards (the published rule). Where the video ends
    before j+15, its last frame repeats.

    Args:
        target: frame index, from 0.
        last: index of the video's last frame where it is known, else None.

    Raises:
        ValueError: the target is negative or lies behind the last frame.
    """
    if target < 0 or (last is not None and target > last):
        raise ValueError(f"frame {target} is outside the video (0..{last})")
    needed = target + 1 - PAST_FRAMES
    if target >= PAST_FRAMES:
        first = target - PAST_FRAMES
        return Window(target, tuple(range(first, target + 1)), first, False, needed)
    ahead = range(target + PAST_FRAMES, target - 1, -1)
    frames = tuple(i if last is None else min(i, last) for i in ahead)
    return Window(target, frames, target, True, needed)


def seen_frames(window: Window, count: int) -> tuple[int, ...]:
    """Those of a window's frames that a network of `count` frames sees: evenly spaced, the
    window's last among them."""
    step = len(window.frames) // count
    return window.frames[step - 1 :: step]


def latest_frame(target: int) -> int:
    """Index of the latest frame that the window of `target` wants."""
    return target if target >= PAST_FRAMES else target + PAST_FRAMES


def latest_time(target: int, audio_context: int) -> int:
    """Index of the frame at whose time the sound of the window of `target` ends."""
    return max(0, target - PAST_FRAMES if target >= PAST_FRAMES else target) + audio_context + 1


def audio_span(
    window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
) -> tuple[int, int]:
    """Return the window's sound as a range of 16 kHz samples, counted from the first frame.

    For a constant frame rate this is the published rule, round(16000 start / fps) to
    round(16000 (start + n + 1) / fps), with n = `audio_context`; otherwise the frames' own times
    take the place of index / fps.

    Args:
        frame_time: gives the time of a frame by index; asked for frames behind the last one too.
    """
    start = frame_time(window.first)
    end = frame_time(window.first + audio_context + 1)
    return round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)


class Rule(Protocol):
    """How windows are laid. `times` has those frames' seconds that are still remembered."""

    def window(self, target: int, last: int | None, times: Mapping[int, Fraction]) -> Window:
        """The window that predicts a frame; `last` is the video's last one where it is known."""
        ...

    def latest(self, target: int, audio_context: int | None) -> int:
        """The latest frame that must be known before the window can be made; `audio_context` is
        None where there is no sound."""
        ...

    def past(self, target: int, times: Mapping[int, Fraction]) -> int:
        """The earliest frame that the window of `target`, or one after it, may want."""
        ...

    @property
    def lead(self) -> tuple[Fraction, int]:
        """Seconds and frames before the first target that windows reach back, sound included."""
        ...

    def sound(
        self, window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
    ) -> tuple[int, int]:
        """The window's sound as a range of 16 kHz samples, counted from the first frame."""
        ...


@dataclass(frozen=True)
class FrameRule:
    """The published rule: a window is 16 frames, whatever time they take."""

    def window(self, target: int, last: int | None, times: Mapping[int, Fraction]) -> Window:
        return window_for(target, last)

    def latest(self, target: int, audio_context: int | None) -> int:
        wanted = latest_frame(target)
        return wanted if audio_context is None else max(wanted, latest_time(target, audio_context))

    def past(self, target: int, times: Mapping[int, Fraction]) -> int:
        return target - PAST_FRAMES

    @property
    def lead(self) -> tuple[Fraction, int]:
        return Fraction(0), PAST_FRAMES

    def sound(
        self, window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
    ) -> tuple[int, int]:
        return audio_span(window, audio_context, frame_time)


@dataclass(frozen=True)
class TimeRule:
    """The default network's rule: a frame and some before it at fixed distances in time, so that
    a scene has the same map at every frame rate. The sound is what was heard up to the frame.

    Frames before the video's first are taken to be as the first. Past frames are chosen among
    every `step`th before the target, which are mostly targets themselves: their features are kept.

    Attributes:
        count: frames of a window.
        spacing: seconds between them.
        stride: every how many frames is a target.
    """

    count: int
    spacing: Fraction
    stride: int

    def window(self, target: int, last: int | None, times: Mapping[int, Fraction]) -> Window:
        candidates = self._candidates(target, times)
        ages = [times[target] - times[index] for index in candidates]
        wanted = (back * self.spacing for back in range(self.count - 1, -1, -1))
        frames = tuple(candidates[_nearest(ages, age)] for age in wanted)
        return Window(target, frames, frames[0], False, frames[0])

    def latest(self, target: int, audio_context: int | None) -> int:
        return target

    def past(self, target: int, times: Mapping[int, Fraction]) -> int:
        before = times[target] - self.lead[0]
        return max((index for index, time in times.items() if time <= before), default=0)

    @property
    def lead(self) -> tuple[Fraction, int]:
        heard = Fraction(COLUMNS * HOP, SAMPLE_RATE)
        return max(self.count * self.spacing, heard), self.stride

    def sound(
        self, window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
    ) -> tuple[int, int]:
        end = round(frame_time(window.target) * SAMPLE_RATE)
        return max(0, end - COLUMNS * HOP), end

    def _candidates(self, target: int, times: Mapping[int, Fraction]) -> list[int]:
        """Frames to choose from, the target first: all that are remembered, `step` apart."""
        earliest = min(times)
        return list(range(target, earliest - 1, -self._step(target, times))) or [target]

    def _step(self, target: int, times: Mapping[int, Fraction]) -> int:
        """The largest divisor of the stride that takes no more than half of the spacing."""
        duration = times[target] - times.get(target - 1, times[target])
        steps = (each for each in range(self.stride, 1, -1) if self.stride % each == 0)
        return next((each for each in steps if each * duration <= self.spacing / 2), 1)


def _nearest(ages: list[Fraction], age: Fraction) -> int:
    """Place of the value nearest to `age` in a rising list; the older one of two."""
    place = bisect_left(ages, age)
    if place == len(ages):
        return place - 1
    if place and age - ages[place - 1] < ages[place] - age:
        return place - 1
    return place
