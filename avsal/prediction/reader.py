"""The reading side: decoded frames to what the network needs of them, in a thread of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from avsal.media.frames import FrameTag, VideoFrame, tag_of
from avsal.prediction.settings import exact_seconds
from avsal.prediction.threads import run_ahead
from avsal.preprocess.frames import resize_frame

if TYPE_CHECKING:
    from avsal.media.video import VideoReader
    from avsal.preprocess.rules import Rule
    from avsal.shots import ShotFinder

MOST_AHEAD = 64  # small frames that may wait for the network
# Frames more than a map needs: cuts are judged by two before, and yadif looks at one before.
MARGIN = 2
SHORTEST_BACK = Fraction(1)  # seconds by which reading begins earlier where it began too late

SmallFrame = tuple[FrameTag, np.ndarray]  # the frame's index and times, and uint8 (h, w, 3)


def read_ahead(
    frames: Iterable[VideoFrame],
    origin: Fraction,
    size: tuple[int, int],
    depth: int,
    finder: ShotFinder | None = None,
    start: Start | None = None,
) -> Generator[SmallFrame, None, None]:
    """Give each frame's tag and its pixels at the network's size, decoded in a thread.

    Args:
        frames: in order; used by the thread alone until this generator ends or is closed.
        origin: container time of the video's first frame, seconds.
        size: (height, width).
        depth: how many frames the thread may be ahead, bounded by `MOST_AHEAD`.
        finder: is given every frame, and knows of those that are handed over whether a cut lies
            before them.
        start: where a part begins; None gives what `frames` have.
    """
    resized = ((tag_of(frame, origin), resize_frame(frame.image, size)) for frame in frames)

    def small() -> Generator[SmallFrame, None, None]:
        waiting: deque[SmallFrame] = deque()
        for tag, pixels in resized if start is None else start.enough(resized):
            waiting.append((tag, pixels))
            if finder is not None:
                finder.add(tag.index, tag.pts, pixels)
            if finder is None or len(waiting) > finder.look_ahead:
                yield in_its_shot(*waiting.popleft())
        for entry in waiting:
            yield in_its_shot(*entry)

    def in_its_shot(tag: FrameTag, pixels: np.ndarray) -> SmallFrame:
        shot = 0 if finder is None else bisect_right(finder.cuts, tag.index)
        return (replace(tag, shot=shot) if shot else tag), pixels

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
        for tag, pixels in frames:
            held.append((tag, pixels))
            if held[0][0].index == 0:
                return held
            times[tag.index] = tag.time
            needed = max(0, self._rule.needed(tag.index, times) - MARGIN)
            if tag.time >= self._time:
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
