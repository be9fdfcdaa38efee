"""A recording: something that was shown, and where people looked meanwhile.

Every form of data set on disk is a list of recordings. Evaluation and training know no other kind
of data.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from avsal.atomic import path_part
from avsal.datasets.gaze import Gaze
from avsal.datasets.gaze_check import Reading
from avsal.errors import AvsalError, DataError, UsageError
from avsal.media.frames import FrameTag, VideoFrame, tag_of
from avsal.media.resample import SAMPLE_RATE
from avsal.prediction.windows import CLIP_FRAMES, Rule, Times, Window, target_until

# What reads sound as `avsal.media.AudioReader` does, or None: `with recording.sound() as sound`.
OpenSound = AbstractContextManager[Any]

CUT_FRAMES = 2  # frames before a cut that tell it is one
_HALF = Fraction(1, 2)  # of the time between two frames


@dataclass(frozen=True)
class Clip:
    """One window of a recording.

    Attributes:
        window: which frames the network sees to predict which one.
        frame: gives a frame of the window by index; it may be decoded only now.
        time: gives seconds from the recording's first frame by index, behind the window too.
        origin: container time of the recording's first frame, seconds.
    """

    window: Window
    frame: Callable[[int], VideoFrame]
    time: Callable[[int], Fraction]
    origin: Fraction = Fraction(0)

    @property
    def target(self) -> FrameTag:
        """The frame that is predicted."""
        return tag_of(self.frame(self.window.target), self.origin)


@dataclass(frozen=True)
class Part:
    """A recording from before one of its frames on.

    Attributes:
        time: seconds from the recording's first frame, just before the frame that is meant.
        frames: from as early on as a prediction of that frame needs; decoded as they are taken.
    """

    time: Fraction
    frames: Iterator[VideoFrame]


def window_in(rule: Rule | None, index: int, times: Times, ended: bool) -> Window:
    """Return the window of a frame, as prediction lays it, or of the last one before it that
    prediction runs on.

    Args:
        rule: None for a network that sees single frames.
        times: seconds of the frames that are known, from `rule.before` it on.
        ended: the recording has no more frames than these.
    """
    if rule is None:
        return Window(index, (index,), index, reverse=False)
    window = rule.window(target_until(index, rule.stride), times, None, ended)
    assert window is not None, "frames up to the target are known"
    return window


class Recording(ABC):
    """One video or picture with the gaze recorded on it; can be sent to another process.

    Attributes:
        name: unique within its database.
        database: what its scores are averaged with.
    """

    name: str
    database: str

    @property
    def still(self) -> bool:
        """Whether it is a picture, shown as a video of one frame."""
        return False

    @property
    def has_pictures(self) -> bool:
        """Whether what was shown is available, not only the gaze."""
        return True

    @property
    def expected_frames(self) -> int | None:
        """How many frames it has, which may be an estimate; None where that is not known."""
        return None

    @abstractmethod
    def frames(self) -> Iterator[VideoFrame]:
        """All frames in order, in constant memory."""

    def tags(self) -> Iterator[FrameTag]:
        """All frames in order without their pixels."""
        for frame in self.frames():
            yield tag_of(frame, self.origin)

    @abstractmethod
    def clip(self, place: float, rule: Rule | None) -> Clip:
        """The window that predicts a frame, the same as in prediction.

        Args:
            place: which frame, from 0 (the first with a full past) to 1 (the end). Where the
                recording is too short for that, any of its frames.
            rule: how windows are laid; None for a network that sees the target alone.
        """

    @abstractmethod
    def part(self, place: float, rule: Rule) -> Part:
        """The recording from before the frame on that `clip` takes, for a prediction of it."""

    @abstractmethod
    def gaze(self, tag: FrameTag) -> Gaze | None:
        """Gaze on a frame; None where there is none to compare with."""

    @abstractmethod
    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        """Bool (H, W): where people looked at other times, for sAUC; None where that is unknown.

        For a video the union over all its frames, those of the frame in question included; for a
        picture some other pictures. It is the same for every frame, and costs something: ask once.
        """

    @property
    def reading(self) -> Reading | None:
        """What was read of its gaze; None where there is nothing to say beyond the scores.

        Raises:
            DataError: that cannot be gaze on this recording.
        """
        return None

    def sound(self) -> OpenSound:
        """The sound while the `with` block lasts; None for a recording without."""
        return nullcontext(None)

    @property
    def has_sound(self) -> bool:
        """Whether `sound` gives any."""
        return False

    def seconds_of_sound(self) -> Iterator[np.ndarray]:
        """All sound, float32 of up to 16000 samples at a time, in constant memory."""
        with self.sound() as sound:
            start = 0
            while sound is not None and (block := sound.read(start, start + SAMPLE_RATE)).size:
                yield block
                start += block.size
                sound.release(start)

    def source_files(self) -> Iterator[Path]:
        """Files that it is read from, in addition to those that its fields name."""
        return iter(())

    def problems(self) -> Iterator[str]:
        """Read everything once; one line for each thing that cannot be read."""
        return self._problems_of(self.frames())

    def _problems_of(self, frames: Iterator[VideoFrame]) -> Iterator[str]:
        annotated = False
        try:
            for frame in frames:
                annotated |= self.gaze(tag_of(frame, self.origin)) is not None
        except AvsalError as error:
            yield str(error)
            return
        yield from self._other_problems(annotated)

    @property
    def origin(self) -> Fraction:
        """Container time of the first frame, seconds."""
        return Fraction(0)

    @property
    def sample_aspect(self) -> Fraction:
        """Width to height of a displayed pixel."""
        return Fraction(1)

    def _other_problems(self, annotated: bool) -> Iterator[str]:
        if not annotated:
            yield f"{self.database}/{self.name}: no frame has any gaze"
        try:
            for _second in self.seconds_of_sound():
                pass
        except AvsalError as error:
            yield str(error)


def require_inside(name: str, place: Path | str) -> None:
    """Refuse a recording's name that leads out of the data set's folder.

    Args:
        name: parts of a path, with / between them.
        place: the file that gives it.

    Raises:
        DataError: see `avsal.atomic.path_part`.
    """
    try:
        for part in name.split("/"):
            path_part(part)
    except UsageError as error:
        raise DataError(f"{place}: {error}") from None


class IndexedRecording(Recording):
    """A recording whose frames can be read in any order, each on its own.

    Attributes:
        count: number of frames.
        rate: frames per second; a picture has 25, which matters to nobody.
    """

    count: int
    rate: Fraction = Fraction(25)

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """Frame `index` as uint8 (H, W, 3) RGB."""

    @property
    def still(self) -> bool:
        return self.count == 1

    @property
    def expected_frames(self) -> int:
        return self.count

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frames, of the first one where they differ."""
        height, width = self.image(0).shape[:2]
        return height, width

    def tags(self) -> Iterator[FrameTag]:
        height, width = self.size
        for index in range(self.count):
            time = index / self.rate
            yield FrameTag(index, time, time, 1 / self.rate, width, height)

    def frame(self, index: int) -> VideoFrame:
        """Frame `index` with its time."""
        return VideoFrame(index, index / self.rate, 1 / self.rate, self.image(index))

    def frames(self) -> Iterator[VideoFrame]:
        return map(self.frame, range(self.count))

    def clip(self, place: float, rule: Rule | None) -> Clip:
        index = self._index(place, rule)
        end = min(self.count, index + CLIP_FRAMES)
        known = range(0 if rule is None else self._begin(index, rule), end)
        times = {number: number / self.rate for number in known}
        window = window_in(rule, index, times, ended=end == self.count)
        return Clip(window, cache(self.frame), lambda number: number / self.rate)

    def part(self, place: float, rule: Rule) -> Part:
        index = target_until(self._index(place, rule), rule.stride)
        frames = map(self.frame, range(self._begin(index, rule), self.count))
        return Part(max(Fraction(0), index - _HALF) / self.rate, frames)

    def _index(self, place: float, rule: Rule | None) -> int:
        first = 0 if rule is None or self.count <= rule.full_past else rule.full_past
        return min(first + int(place * (self.count - first)), self.count - 1)

    def _begin(self, index: int, rule: Rule) -> int:
        """The first frame that must be known for the window of another."""
        seconds, frames = rule.before
        return max(0, index - frames - math.ceil(seconds * self.rate) - CUT_FRAMES)

    def problems(self) -> Iterator[str]:
        annotated = False  # also where that cannot be told
        for index in range(self.count):
            try:
                tag = tag_of(self.frame(index), self.origin)
                annotated |= self.gaze(tag) is not None
            except AvsalError as error:
                annotated = True
                yield str(error)
        yield from self._other_problems(annotated)
