"""Which frames and which stretch of sound a network sees to predict a frame.

Index arithmetic alone: no pixels, no files. There are two rules, with the same methods:
`FrameRule` counts frames, as published; `TimeRule` counts seconds, for the default network.
`Times` are seconds since the video's first frame, by index and in order, of the frames that were
read so far.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from avsal.media.resample import SAMPLE_RATE
from avsal.models.variants import Variant
from avsal.prediction.inputs import COLUMNS, HOP

CLIP_FRAMES = 16  # frames of a window (paper Section 4.3)
PAST_FRAMES = CLIP_FRAMES - 1  # a window ends at the frame that it predicts

MEMORY = 3  # time constants after which a map has no weight in smoothed ones any more
Times = dict[int, Fraction]


@dataclass(frozen=True)
class Window:
    """The inputs of one forward pass.

    Attributes:
        target: index of the frame that is predicted.
        frames: frame indices in the order in which the network sees them.
        first: the earliest frame, where the window's sound starts.
        reverse: the window is played backwards, sound included.
    """

    target: int
    frames: tuple[int, ...]
    first: int
    reverse: bool


def window_for(target: int, last: int | None = None) -> Window:
    """Return the published window that predicts frame `target`.

    Frame i is predicted from frames i-15..i. The first 15 frames have no full past: frame j is
    predicted from frames j..j+15 played backwards (the published rule). Where the video ends
    before j+15, its last frame repeats.

    Args:
        target: frame index, from 0.
        last: index of the video's last frame where it is known, else None.

    Raises:
        ValueError: the target is negative or after the last frame.
    """
    if target < 0 or (last is not None and target > last):
        raise ValueError(f"frame {target} is outside the video (0..{last})")
    if target >= PAST_FRAMES:
        first = target - PAST_FRAMES
        return Window(target, tuple(range(first, target + 1)), first, reverse=False)
    ahead = range(target + PAST_FRAMES, target - 1, -1)
    frames = tuple(i if last is None else min(i, last) for i in ahead)
    return Window(target, frames, target, reverse=True)


def target_until(index: int, stride: int) -> int:
    """Return the last frame up to `index` on which the network runs: a multiple of the stride."""
    return index // stride * stride


def target_from(index: int, stride: int, last: int | None = None) -> int:
    """Return the first frame from `index` on on which the network runs.

    It is a multiple of the stride, whatever part of the video is asked for, or the last frame of
    the video, where that is known and comes first.
    """
    target = -(-index // stride) * stride
    return target if last is None else min(target, last)


@dataclass(frozen=True)
class FrameRule:
    """The published rule: a window is 16 frames, whatever time they take.

    Attributes:
        stride: every how many frames is predicted.
        batch: windows that go through the network together. A part of a video has the batches of
            the whole, as a map's last bits depend on the size of its batch: it begins and ends
            where one does.
        smoothing: seconds in which the weight of a map in later ones falls to 1/e; 0 for none.
        smoothing_ahead: the same in earlier ones.
        ahead: seconds after a map's frame up to which maps are smoothed together with it.
        full_past: frames before the first frame whose window has all of its past.
    """

    stride: int
    batch: int = 1
    smoothing = smoothing_ahead = ahead = Fraction(0)
    full_past = PAST_FRAMES

    def begin(self, first: int, times: Times) -> int:
        """The first frame that is predicted where `first` is the first to get a map.

        It never falls when `first` rises, whatever the times. Less than all of `times` means that
        they do not reach far enough back to know.
        """
        return target_until(first, self.stride * self.batch)

    def needed(self, first: int, times: Times) -> int:
        """The first frame that the map of `first` depends on; otherwise as `begin`."""
        return max(0, self.begin(first, times) - PAST_FRAMES)

    def window(
        self, target: int, times: Times, audio_context: int | None, ended: bool
    ) -> Window | None:
        """The window that predicts `target`, None where later frames must be read first.

        Args:
            audio_context: frames of sound in a window; None where there is no sound.
            ended: the video has no more frames than these.
        """
        latest = next(reversed(times))
        if ended:
            return window_for(target, latest)
        window = window_for(target)
        last = window.first + PAST_FRAMES
        if audio_context is not None:  # the sound ends at the time of a frame
            last = max(last, window.first + audio_context + 1)
        return window if latest >= last else None

    def oldest(self, target: int, times: Times) -> int:
        """The index before which no window to come sees or hears anything.

        Args:
            target: the next frame to predict; after it the windows of later frames follow, and that
                of the frame read last may be among them, as the last of the video.
        """
        return min(target, next(reversed(times))) - PAST_FRAMES

    def sound(
        self, window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
    ) -> tuple[int, int]:
        """The window's sound as a range of 16 kHz samples, counted from the first frame.

        For a constant frame rate this is the published rule, round(16000 start / fps) to
        round(16000 (start + n + 1) / fps), with n = `audio_context`; otherwise the frames' own
        times take the place of index / fps.

        Args:
            frame_time: gives the time of a frame by index; asked for frames behind the last one
                too.
        """
        start = frame_time(window.first)
        end = frame_time(window.first + audio_context + 1)
        return round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)

    @property
    def before(self) -> tuple[Fraction, int]:
        """Seconds, and frames besides, before the first wanted frame that its map needs where times
        are regular: the network may run up to a stride earlier, and sees the past of that frame."""
        return Fraction(0), PAST_FRAMES + self.stride * self.batch - 1


@dataclass(frozen=True)
class TimeRule:
    """The default network's rule: a frame and some before it at fixed distances in time, so that
    a scene has the same map at every frame rate. The sound is what was heard up to the frame.

    Frames before the video's first are taken to be as the first. Past frames are chosen among
    every so many before the target, which are mostly targets themselves: their features are kept.
    Attributes and methods that are not described here are as those of `FrameRule`.

    Attributes:
        count: frames of a window.
        spacing: seconds between them.
    """

    count: int
    spacing: Fraction
    stride: int
    smoothing: Fraction = Fraction(0)
    batch: int = 1
    smoothing_ahead: Fraction = Fraction(0)
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
    def ahead(self) -> Fraction:
        return MEMORY * self.smoothing_ahead

    @property
    def before(self) -> tuple[Fraction, int]:
        return self.memory + self.reach, (1 + self.batch) * self.stride

    def _step(self, target: int, times: Times) -> int:
        """The largest divisor of the stride that takes no more than half of the spacing."""
        duration = times[target] - times.get(target - 1, times[target])
        steps = (each for each in range(self.stride, 1, -1) if self.stride % each == 0)
        return next((each for each in steps if each * duration <= self.spacing / 2), 1)


Rule = FrameRule | TimeRule


def rule_for(
    variant: Variant, stride: int | None = None, batch: int = 1, live: bool = False
) -> Rule:
    """How the windows of a network are laid, in prediction and in training.

    Args:
        stride: every how many frames is predicted; None leaves it to the network.
        batch: windows at once.
        live: no map can wait for later ones.
    """
    stride = stride or variant.stride
    if variant.spacing is None:
        return FrameRule(stride, batch)
    past, future = variant.smoothing, variant.smoothing_ahead
    if live:
        past, future = variant.smoothing_live, None
    return TimeRule(
        variant.frames,
        Fraction(variant.spacing),
        stride,
        Fraction(past or 0),
        batch,
        Fraction(future or 0),
    )


def _nearest(ages: list[Fraction], age: Fraction) -> int:
    """Place of the value nearest to `age` in a rising list; the older one of two."""
    place = bisect_left(ages, age)
    if place == len(ages):
        return place - 1
    if place and age - ages[place - 1] < ages[place] - age:
        return place - 1
    return place
