"""A recording: a video or picture that was shown, and where people looked at it.

Every layout of a data set is read as a list of recordings, for evaluation and training alike.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avsal.atomic import path_part
from avsal.datasets.gaze import Gaze
from avsal.errors import AvsalError, DataError, UsageError
from avsal.media.frames import FrameInfo, VideoFrame, info_of
from avsal.media.resample import SAMPLE_RATE
from avsal.prediction.windows import CLIP_FRAMES, Rule, Times, Window, target_until

if TYPE_CHECKING:
    from avsal.datasets.gaze_check import Reading

# Opens an `avsal.media.audio.AudioReader` or None: `with recording.sound() as sound`.
OpenSound = AbstractContextManager[Any]

MISSING_TAIL = 0.05  # fraction of a video's frames that may be missing at its end
CUT_FRAMES = 2  # frames before a cut that the shot detector needs
_HALF = Fraction(1, 2)  # of the time between two frames


@dataclass(frozen=True)
class Clip:
    """One window of a recording.

    Attributes:
        window: indices of its frames.
        frame: returns a frame of the window by index; it may be decoded only then.
        time: returns a frame's seconds from the recording's first frame by index, also for frames
            after the window.
        origin: container time of the recording's first frame, seconds.
    """

    window: Window
    frame: Callable[[int], VideoFrame]
    time: Callable[[int], Fraction]
    origin: Fraction = Fraction(0)

    @property
    def target(self) -> FrameInfo:
        """The frame that is predicted."""
        return info_of(self.frame(self.window.target), self.origin)


@dataclass(frozen=True)
class Part:
    """A recording from shortly before one of its frames.

    Attributes:
        time: seconds from the recording's first frame, just before the chosen frame.
        frames: from the first one that a prediction of the chosen frame needs.
    """

    time: Fraction
    frames: Iterator[VideoFrame]


def window_in(rule: Rule | None, index: int, times: Times, ended: bool) -> Window:
    """Return the window of the last target frame up to `index`, as in prediction.

    Args:
        rule: the window scheme; None for a network for single frames.
        times: seconds of the known frames, from `rule.before` the frame on.
        ended: the recording has no later frames.
    """
    if rule is None:
        return Window(index, (index,), index, reverse=False)
    window = rule.window(target_until(index, rule.stride), times, None, ended)
    assert window is not None, "frames up to the target are known"
    return window


class Recording(ABC):
    """One video or picture with the gaze recorded on it; it can be pickled.

    Attributes:
        name: unique within its database.
        database: the group in which its scores are averaged.
    """

    name: str
    database: str

    @property
    def still(self) -> bool:
        """Whether it is a picture, a video of one frame."""
        return False

    @property
    def has_pictures(self) -> bool:
        """Whether its frames are available, not only the gaze."""
        return True

    @property
    def expected_frames(self) -> int | None:
        """Number of frames, which may be an estimate; None if unknown."""
        return None

    @abstractmethod
    def frames(self) -> Iterator[VideoFrame]:
        """All frames in order, in constant memory."""

    def tags(self) -> Iterator[FrameInfo]:
        """All frames in order without their pixels."""
        for frame in self.frames():
            yield info_of(frame, self.origin)

    @abstractmethod
    def clip(self, position: float, rule: Rule | None) -> Clip:
        """The window that predicts a frame, the same as in prediction.

        Args:
            position: from 0, the first frame with a full past, to 1, the end. If the recording is
                too short for a full past, 0 is its first frame.
            rule: the window scheme; None for a network for single frames.
        """

    @abstractmethod
    def part(self, position: float, rule: Rule) -> Part:
        """The frames from which the frame of `clip` can be predicted."""

    @abstractmethod
    def gaze(self, tag: FrameInfo) -> Gaze | None:
        """Gaze on a frame; None if there is none."""

    @abstractmethod
    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        """Bool (H, W): fixations at other times, for sAUC; None if unknown.

        For a video the union over all its frames, for a picture that over some other pictures. It
        is the same for every frame and takes long: call it once.
        """

    @property
    def reading(self) -> Reading | None:
        """What was read of its table of gaze; None without a table.

        Raises:
            DataError: the table cannot belong to this recording.
        """
        return None

    def sound(self) -> OpenSound:
        """Open the sound for a `with` block; None if there is none."""
        return nullcontext(None)

    @property
    def has_sound(self) -> bool:
        return False

    def source_files(self) -> Iterator[Path]:
        """Files that it is read from, except those in its fields."""
        return iter(())

    @abstractmethod
    def problems(self) -> Iterator[str]:
        """Read everything once; one line for each problem."""

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
            with self.sound() as sound:
                end = 0
                while sound is not None and (size := sound.read(end, end + SAMPLE_RATE).size):
                    end += size
                    sound.release(end)
        except AvsalError as error:
            yield str(error)


def require_inside(name: str, source: Path | str) -> None:
    """Refuse a recording's name that leads out of the data set's folder.

    Args:
        name: a relative path.
        source: the file that has the name.

    Raises:
        DataError: see `avsal.atomic.path_part`.
    """
    try:
        for part in name.split("/"):
            path_part(part)
    except UsageError as error:
        raise DataError(f"{source}: {error}") from None


class IndexedRecording(Recording):
    """A recording whose frames can be read in any order, each on its own.

    Attributes:
        count: number of frames.
        rate: frames per second; that of a picture has no meaning.
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

    def tags(self) -> Iterator[FrameInfo]:
        height, width = self.size
        for index in range(self.count):
            time = index / self.rate
            yield FrameInfo(index, time, time, 1 / self.rate, width, height)

    def frame(self, index: int) -> VideoFrame:
        """Frame `index` with its time."""
        return VideoFrame(index, index / self.rate, 1 / self.rate, self.image(index))

    def frames(self) -> Iterator[VideoFrame]:
        return map(self.frame, range(self.count))

    def clip(self, position: float, rule: Rule | None) -> Clip:
        index = self._index(position, rule)
        end = min(self.count, index + CLIP_FRAMES)
        known = range(0 if rule is None else self._first_needed(index, rule), end)
        times = {number: number / self.rate for number in known}
        window = window_in(rule, index, times, ended=end == self.count)
        return Clip(window, cache(self.frame), lambda number: number / self.rate)

    def part(self, position: float, rule: Rule) -> Part:
        index = target_until(self._index(position, rule), rule.stride)
        frames = map(self.frame, range(self._first_needed(index, rule), self.count))
        return Part(max(Fraction(0), index - _HALF) / self.rate, frames)

    def _index(self, position: float, rule: Rule | None) -> int:
        first = 0 if rule is None or self.count <= rule.full_past else rule.full_past
        return min(first + int(position * (self.count - first)), self.count - 1)

    def _first_needed(self, index: int, rule: Rule) -> int:
        """The first frame that must be known for the window of frame `index`."""
        seconds, frames = rule.before
        return max(0, index - frames - math.ceil(seconds * self.rate) - CUT_FRAMES)

    def problems(self) -> Iterator[str]:
        annotated = False  # true also if it cannot be known
        for index in range(self.count):
            try:
                tag = info_of(self.frame(index), self.origin)
                annotated |= self.gaze(tag) is not None
            except AvsalError as error:
                annotated = True
                yield str(error)
        yield from self._other_problems(annotated)


_DIGEST_BYTES = 8


def recording_digest(
    recording: Recording, path_text: Callable[[Path], str], ignored: tuple[str, ...] = ()
) -> str:
    """Return a digest of a recording's fields and of all files that it is read from.

    Args:
        path_text: what counts of a file or folder, for example its name and size.
        ignored: fields that do not count, at any depth.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def add(value: Any) -> None:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Path):
            digest.update(path_text(value).encode("utf-8", "surrogateescape"))
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                if field.name not in ignored:
                    add(getattr(value, field.name))
        elif isinstance(value, tuple | list):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())
        digest.update(b"\n")

    add(recording)
    for path in recording.source_files():
        add(path)
    return digest.hexdigest()
