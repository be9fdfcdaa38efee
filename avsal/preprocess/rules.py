"""How windows are laid over a video: by counting frames, as published, or in time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from avsal.media.resample import SAMPLE_RATE
from avsal.models.variants import Variant
from avsal.preprocess.sound import COLUMNS, HOP
from avsal.preprocess.windows import (
    PAST_FRAMES,
    Window,
    audio_span,
    frames_before,
    oldest_seen,
    seen_window,
    target_until,
)

Times = dict[int, Fraction]  # seconds of frames by index, in order

MEMORY = 3  # time constants after which a map counts no more in later ones


class Rule(Protocol):
    """Decides which frames and which sound a network is given; `times` as in `seen_window`."""

    @property
    def count(self) -> int:
        """Frames that the network sees in a window."""
        ...

    @property
    def stride(self) -> int:
        """Every how many frames is predicted."""
        ...

    @property
    def full_past(self) -> int:
        """Frames before the first frame whose window has all of its past."""
        ...

    @property
    def smoothing(self) -> Fraction:
        """Seconds in which the weight of a map in later ones falls to 1/e; 0 for none."""
        ...

    @property
    def batch(self) -> int:
        """Windows that go through the network together.

        A part of a video has the batches of the whole, as a map's last bits depend on the size of
        its batch: it begins and ends where one does.
        """
        ...

    def begin(self, first: int, times: Times) -> int:
        """The first frame that is predicted where `first` is the first to get a map.

        It never falls when `first` rises, whatever the times. Less than all of `times` means that
        they do not reach far enough back to know.
        """
        ...

    def needed(self, first: int, times: Times) -> int:
        """The first frame that the map of `first` depends on; otherwise as `begin`."""
        ...

    def window(
        self, target: int, times: Times, audio_context: int | None, ended: bool
    ) -> Window | None:
        """The window that predicts `target`, None where later frames must be read first."""
        ...

    def oldest(self, target: int, times: Times) -> int:
        """The index before which no window to come sees or hears anything."""
        ...

    def sound(
        self, window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
    ) -> tuple[int, int]:
        """The window's sound as a range of 16 kHz samples, counted from the first frame."""
        ...

    @property
    def before(self) -> tuple[Fraction, int]:
        """Seconds, and frames besides, before the first wanted frame that its map needs where
        times are regular."""
        ...


@dataclass(frozen=True)
class FrameRule:
    """The published rule: a window is 16 frames, whatever time they take.

    Attributes:
        count: how many of the 16 the network sees.
        stride: every how many frames is predicted.
        batch: windows at once.
    """

    count: int
    stride: int
    batch: int = 1
    smoothing = Fraction(0)
    full_past = PAST_FRAMES

    def begin(self, first: int, times: Times) -> int:
        return target_until(first, self.stride * self.batch)

    def needed(self, first: int, times: Times) -> int:
        return max(0, self.begin(first, times) - PAST_FRAMES)

    def window(
        self, target: int, times: Times, audio_context: int | None, ended: bool
    ) -> Window | None:
        return seen_window(target, times, self.count, audio_context, ended)

    def oldest(self, target: int, times: Times) -> int:
        return oldest_seen(target, times)

    def sound(
        self, window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
    ) -> tuple[int, int]:
        return audio_span(window, audio_context, frame_time)

    @property
    def before(self) -> tuple[Fraction, int]:
        return Fraction(0), frames_before(self.stride * self.batch)


@dataclass(frozen=True)
class TimeRule:
    """The default network's rule: a frame and some before it at fixed distances in time, so that
    a scene has the same map at every frame rate. The sound is what was heard up to the frame.

    Frames before the video's first are taken to be as the first. Past frames are chosen among
    every so many before the target, which are mostly targets themselves: their features are kept.

    Attributes:
        count: frames of a window.
        spacing: seconds between them.
        stride: every how many frames is predicted.
        smoothing: see `Rule`.
        batch: windows at once.
    """

    count: int
    spacing: Fraction
    stride: int
    smoothing: Fraction = Fraction(0)
    batch: int = 1
    full_past = 0  # what would lie before the video's first frame is taken to be as that frame

    def begin(self, first: int, times: Times) -> int:
        """Maps before that of `first` are predicted too where it is smoothed with them."""
        known, target = next(iter(times)), target_until(first, self.stride)
        if target < known:
            return target
        now, earlier = times[target], target - self.stride
        while earlier >= known and now - times[earlier] <= self.memory:
            target, earlier = earlier, earlier - self.stride
        begun = target_until(target, self.stride * self.batch)
        unknown = self.memory and 0 <= earlier < known
        return min(begun, known - 1) if unknown else begun

    def needed(self, first: int, times: Times) -> int:
        begun = self.begin(first, times)
        return begun if begun < next(iter(times)) else self.oldest(begun, times)

    def window(
        self, target: int, times: Times, audio_context: int | None, ended: bool
    ) -> Window | None:
        if target not in times:
            return None
        candidates = range(target, min(times) - 1, -self._step(target, times))
        ages = [times[target] - times[index] for index in candidates]
        wanted = (back * self.spacing for back in range(self.count - 1, -1, -1))
        frames = tuple(candidates[_nearest(ages, age)] for age in wanted)
        return Window(target, frames, frames[0], reverse=False)

    def oldest(self, target: int, times: Times) -> int:
        """Past frames are looked for among every so many; before a pause that may pass over the
        last one that is old enough and find another."""
        latest = next(reversed(times))
        before = times[min(target, latest)] - self.reach
        found = next((index for index in reversed(times) if times[index] <= before), None)
        return max(0, next(iter(times)) - 1 if found is None else found - self.stride + 1)

    def sound(
        self, window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
    ) -> tuple[int, int]:
        end = round(frame_time(window.target) * SAMPLE_RATE)
        return max(0, end - COLUMNS * HOP), end

    @property
    def reach(self) -> Fraction:
        """Seconds that a window goes back, for frames or for sound."""
        return max(self.count * self.spacing, Fraction(COLUMNS * HOP, SAMPLE_RATE))

    @property
    def memory(self) -> Fraction:
        """Seconds before a map's frame up to which maps are smoothed together with it."""
        return MEMORY * self.smoothing

    @property
    def before(self) -> tuple[Fraction, int]:
        return self.memory + self.reach, (1 + self.batch) * self.stride

    def _step(self, target: int, times: Times) -> int:
        """The largest divisor of the stride that takes no more than half of the spacing."""
        duration = times[target] - times.get(target - 1, times[target])
        steps = (each for each in range(self.stride, 1, -1) if self.stride % each == 0)
        return next((each for each in steps if each * duration <= self.spacing / 2), 1)


def rule_for(variant: Variant, stride: int | None = None, batch: int = 1) -> Rule:
    """How a network's windows are laid, in prediction and in training.

    Args:
        stride: every how many frames is predicted; None leaves it to the network.
        batch: windows at once.
    """
    stride = stride or variant.stride
    if variant.spacing is None:
        return FrameRule(variant.frames, stride, batch)
    smoothing = Fraction(variant.smoothing or 0)
    return TimeRule(variant.frames, Fraction(variant.spacing), stride, smoothing, batch)


def _nearest(ages: list[Fraction], age: Fraction) -> int:
    """Place of the value nearest to `age` in a rising list; the older one of two."""
    place = bisect_left(ages, age)
    if place == len(ages):
        return place - 1
    if place and age - ages[place - 1] < ages[place] - age:
        return place - 1
    return place
