"""Frames of one video, from their reading in a thread to the last window that sees them."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from avsal.errors import MediaError, UsageError
from avsal.media.frames import FrameInfo, VideoFrame, info_of
from avsal.media.resample import SAMPLE_RATE
from avsal.prediction.inputs import Resize, log_spectrogram
from avsal.prediction.settings import PredictSettings, exact_seconds
from avsal.prediction.shots import Differences, find_cut
from avsal.prediction.threads import run_ahead
from avsal.prediction.windows import Rule, Times, Window, target_from

if TYPE_CHECKING:
    from avsal.media.audio import AudioReader
    from avsal.media.video import VideoReader
    from avsal.prediction.shots import ShotFinder

MOST_AHEAD = 64  # small frames that may wait for the network
# Frames more than a map needs: cuts are judged by two before, and yadif looks at one before.
MARGIN = 2
SHORTEST_BACK = Fraction(1)  # seconds by which reading begins earlier where it began too late

SmallFrame = tuple[FrameInfo, np.ndarray]  # the frame's index and times, and uint8 (h, w, 3)


def read_ahead(
    frames: Iterable[VideoFrame],
    origin: Fraction,
    resize: Resize,
    depth: int,
    finder: ShotFinder | None = None,
    start: Start | None = None,
) -> Generator[SmallFrame, None, None]:
    """Give each frame's index, times and pixels at the network's size, decoded in a thread.

    Args:
        frames: in order; used by the thread alone until this generator ends or is closed.
        origin: container time of the video's first frame, seconds.
        resize: brings pictures to that size.
        depth: how many frames the thread may be ahead, bounded by `MOST_AHEAD`.
        finder: is given every frame, and knows of those that are handed over whether a cut lies
            before them.
        start: where a part begins; None gives what `frames` have.
    """
    resized = ((info_of(frame, origin), resize(frame.image)) for frame in frames)

    def small() -> Generator[SmallFrame, None, None]:
        waiting: deque[SmallFrame] = deque()
        for info, pixels in resized if start is None else start.enough(resized):
            waiting.append((info, pixels))
            if finder is not None:
                finder.add(info.index, info.pts, pixels)
            if finder is None or len(waiting) > finder.look_ahead:
                yield in_its_shot(*waiting.popleft())
        for entry in waiting:
            yield in_its_shot(*entry)

    def in_its_shot(info: FrameInfo, pixels: np.ndarray) -> SmallFrame:
        shot = 0 if finder is None else bisect_right(finder.cuts, info.index)
        return (replace(info, shot=shot) if shot else info), pixels

    return run_ahead(small, min(depth, MOST_AHEAD))


class Start:
    """Begins to read a video early enough for the map of the first wanted frame.

    How early that is follows from the times of the frames between, which may lie anywhere. So it is
    guessed, as if they were regular, and where that was too late, reading begins again earlier.
    """

    def __init__(self, video: VideoReader, rule: Rule, start: float) -> None:
        """Skip to the guess.

        Args:
            start: seconds since the video's first frame.
        """
        self._video, self._rule = video, rule
        self._time = exact_seconds(start)
        self._back, self._lead = rule.before
        self._lead += MARGIN
        self._skip_to(self._time - self._back)

    def enough(self, frames: Iterable[SmallFrame]) -> Iterator[SmallFrame]:
        """Hold frames until the first wanted one is read, and let go what its map does not need."""
        while (held := self._held(frames)) is None:
            pass
        yield from held
        yield from frames

    def _held(self, frames: Iterable[SmallFrame]) -> deque[SmallFrame] | None:
        """Frames up to the first wanted one; None where reading has to begin earlier."""
        held: deque[SmallFrame] = deque()
        times: dict[int, Fraction] = {}
        for info, pixels in frames:
            held.append((info, pixels))
            if held[0][0].index == 0:
                return held
            times[info.index] = info.time
            needed = max(0, self._rule.needed(info.index, times) - MARGIN)
            if info.time >= self._time:
                if needed >= held[0][0].index:
                    return held
                self._back = 2 * max(self._back, SHORTEST_BACK)
                self._skip_to(held[0][0].time - self._back)
                return None
            while held[0][0].index < needed:
                del times[held.popleft()[0].index]
        return held

    def _skip_to(self, time: Fraction) -> None:
        self._video.skip_to(max(0.0, float(time)), self._lead)


@dataclass(eq=False)
class CachedFrame:
    """A frame, and what the network has made of it so far.

    Attributes:
        pixels: uint8 (h, w, 3) RGB as read.
        features: what the engine keeps of the frame for the windows that hold it; None until it
            has seen the frame.
    """

    info: FrameInfo
    pixels: np.ndarray
    features: Any = None


class KeptFrames(dict[int, CachedFrame]):
    """Frames by index, in order, as long as a window to come may hold them.

    Attributes:
        times: of these frames.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: Times = {}

    @property
    def latest(self) -> int:
        """Index of the latest frame, -1 before the first one."""
        return next(reversed(self), -1)

    def add(self, frame: CachedFrame) -> None:
        """Keep the next frame."""
        self[frame.info.index] = frame
        self.times[frame.info.index] = frame.info.time

    def seen_by(self, window: Window) -> tuple[CachedFrame, ...]:
        """The frames of a window, in its order."""
        return tuple(self[index] for index in window.frames)

    def drop_before(self, index: int) -> None:
        """Forget the frames before one."""
        for old in [each for each in self if each < index]:
            del self[old], self.times[old]


@dataclass(frozen=True)
class WindowInput:
    """One forward pass, and the frames whose maps follow from it.

    Attributes:
        window: which frames, in which order; the last one is predicted.
        frames: those frames.
        spectrogram: (1, 257, 111) float32, None where there is no sound.
        skipped: wanted frames since the previous window, to be interpolated (stride over 1).
        cut: first frame of a new scene since the previous window, None where there is no cut.
        wanted: the predicted frame is in the time range that was asked for.
    """

    window: Window
    frames: tuple[CachedFrame, ...]
    spectrogram: np.ndarray | None
    skipped: tuple[CachedFrame, ...] = ()
    cut: int | None = None
    wanted: bool = True

    @property
    def info(self) -> FrameInfo:
        """The frame that is predicted."""
        return self.frames[-1].info


PredictedBatch = list[tuple[WindowInput, np.ndarray]]  # windows with their (h, w) log-densities


class Engine(Protocol):
    """What computes a network: `TorchEngine`, `OnnxEngine` or `OpenVinoEngine`.

    Attributes:
        name: "torch", "onnx" or "openvino".
        device, precision: as the command line names them.
    """

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def automatic_batch(self, pixels: int) -> int:
        """Number of windows of a size that fit into the device's memory at once."""
        ...

    def batches(self, windows: Iterable[WindowInput], batch: int) -> Iterator[PredictedBatch]:
        """Yield batches of at most `batch` windows, each with its (h, w) float32 log-density."""
        ...


class FrameCache:
    """Collects frames until a window is complete, and forgets them when no window wants them.

    A frame is forgotten when it is older than the rule says; windows that wait for the
    network hold their frames themselves.
    """

    def __init__(
        self,
        settings: PredictSettings,
        rule: Rule,
        audio: AudioReader | None = None,
        finder: ShotFinder | None = None,
    ) -> None:
        """Take the stretch that is asked for.

        Args:
            settings: start, end and audio context; stride, None for 1.
            rule: how windows are laid.
            audio: 16 kHz mono sound, sample 0 at the video's first frame; None without sound.
            finder: knows the cuts up to every frame that arrives; None leaves them to coarse
                changes of colour.
        """
        self._settings, self._rule, self._audio, self._finder = settings, rule, audio, finder
        self._stride = settings.stride or 1
        self._start = exact_seconds(settings.start or 0)
        self._end = None if settings.end is None else exact_seconds(settings.end)
        self._frames = KeptFrames()
        # Frames read since the last window, each with its difference from the one before.
        self._passed: deque[tuple[CachedFrame, float]] = deque()
        self._differences = Differences()
        self._first: int | None = None  # first and last frame that get a map, once known
        self._final: int | None = None
        self._target: int | None = None  # the next frame to predict
        self._given: FrameInfo | None = None  # the last one that was given out
        self._windows = 0  # how many were given out
        self._until: Fraction | None = None  # time up to which maps are smoothed with wanted ones

    def windows(self, frames: Iterable[SmallFrame]) -> Iterator[WindowInput]:
        """Yield the windows that give every wanted frame its map, each as soon as it is complete.

        They are those of the whole video: what is asked for decides only which of them are made,
        in whole batches. Where nothing can be read after the part, the video ends.
        """
        try:
            for info, pixels in frames:
                self._add(info, pixels)
                yield from self._complete(ended=False)
                if self._is_done():
                    return
                self._forget()
        except MediaError:
            if self._final is None:
                raise
        yield from self._complete(ended=True)

    def _is_done(self) -> bool:
        """Whether the windows that were given out are all that the wanted maps need."""
        if self._first is None or self._final is None or self._target is None:
            return False
        if self._first > self._final:
            return True
        if self._given is None or self._given.index < self._final:
            return False
        if self._until is None:
            self._until = self._given.time + self._rule.ahead
        target = target_from(self._target, self._stride)
        behind = self._frames.times[min(target, self._frames.latest)] > self._until
        return (behind or not self._rule.ahead) and self._windows % self._rule.batch == 0

    def _add(self, info: FrameInfo, pixels: np.ndarray) -> None:
        latest = self._frames.latest
        if self._frames and info.index != latest + 1:
            raise UsageError(f"frame {info.index} follows frame {latest}; number all frames")
        frame = CachedFrame(info, pixels)
        self._frames.add(frame)
        cuts_matter = self._stride > 1 or self._rule.smoothing
        self._passed.append((frame, self._differences.next(pixels) if cuts_matter else 0.0))
        if self._first is None and info.time >= self._start:
            self._first = info.index
            earliest = target_from(next(iter(self._frames)), self._stride)
            self._target = max(earliest, self._rule.begin(info.index, self._frames.times))
        if self._final is None and self._end is not None and info.time >= self._end:
            self._final = info.index - 1

    def _complete(self, ended: bool) -> Iterator[WindowInput]:
        """The windows that can be made of the frames read so far."""
        latest = self._frames.latest
        if ended and self._frames and self._final is None:
            self._final = latest
        context = self._settings.audio_context if self._audio is not None else None
        while self._target is not None and not self._is_done():
            if ended and self._given is not None and self._given.index == latest:
                return
            target = target_from(self._target, self._stride, latest if ended else None)
            window = self._rule.window(target, self._frames.times, context, ended)
            if window is None:
                return
            yield self._give(window)
            self._windows += 1
            self._given = self._frames[target].info
            self._target = target + 1

    def _give(self, window: Window) -> WindowInput:
        passed = []
        while self._passed and self._passed[0][0].info.index <= window.target:
            passed.append(self._passed.popleft())
        return WindowInput(
            window,
            self._frames.seen_by(window),
            self._spectrogram(window),
            tuple(
                frame
                for frame, _ in passed
                if frame.info.index < window.target and self._wants(frame.info.index)
            ),
            self._cut({frame.info.index: difference for frame, difference in passed}),
            self._wants(window.target),
        )

    def _cut(self, differences: dict[int, float]) -> int | None:
        """The first frame of a new scene among those with these differences from the one before."""
        shot = None
        if self._finder is not None:
            shot = self._finder.last_change(min(differences), max(differences))
        return find_cut(differences) if shot is None else shot

    def _wants(self, index: int) -> bool:
        """Whether a frame whose time is known is between start and end."""
        after_start = self._first is not None and index >= self._first
        return after_start and (self._final is None or index <= self._final)

    def _spectrogram(self, window: Window) -> np.ndarray | None:
        if self._audio is None:
            return None
        start, end = self._rule.sound(window, self._settings.audio_context, self._time)
        return log_spectrogram(self._audio.read(start, end), window.reverse)

    def _time(self, index: int) -> Fraction:
        """Time of a frame; behind the last one, time continues at its pace."""
        info = self._frames[min(index, self._frames.latest)].info
        return info.time + (index - info.index) * info.duration

    def _forget(self) -> None:
        """Drop what no window to come can see or hear."""
        times = self._frames.times
        if self._target is None:  # not known yet, but the next frame may be the first wanted one
            before = self._rule.needed(self._frames.latest, times)
            while self._passed and self._passed[0][0].info.index < before:
                self._passed.popleft()
        else:
            before = self._rule.oldest(target_from(self._target, self._stride), times)
        self._frames.drop_before(before)
        if self._audio is not None and before in self._frames:
            self._audio.release(round(self._frames[before].info.time * SAMPLE_RATE))
