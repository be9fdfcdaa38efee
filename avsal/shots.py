"""Shots: the stretches of a video between cuts, found by PySceneDetect while frames stream by.

Its adaptive detector compares the change of colour at a frame with that of the frames around it, so
that fast motion, which changes every frame, is no cut. `benchmarks/README.md` has figures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
from scenedetect import AdaptiveDetector, FrameTimecode

from avsal.media.frames import VideoFrame

Cut = tuple[int, Fraction]  # index and container time of the first frame after a cut

LOOK_AHEAD = 2  # frames after the first one of a shot that tell it is one; PySceneDetect's default
_SMALL = (160, 90)  # width, height
SHORTEST = 2 * LOOK_AHEAD + 1  # frames; cuts closer than the detector's window are one
_ANY_RATE = 25.0  # frames per second; PySceneDetect asks for it, and only counts frames here


@dataclass(frozen=True)
class Shot:
    """One shot.

    Attributes:
        first, last: indices of its first and last frame.
        start: container time of its first frame, seconds, exact.
        end: container time at which its last frame ends, seconds, exact.
    """

    first: int
    last: int
    start: Fraction
    end: Fraction


class ShotFinder:
    """Finds the shots of a video whose frames come one after the other, in constant memory.

    Attributes:
        cuts: index of the first frame after every cut so far, ascending. Whether there is a cut
            before a frame is known once the frame `LOOK_AHEAD` later was added. Grows at its end
            only, so that another thread may read it.
    """

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self._times: list[Fraction] = []
        self._recent: deque[Fraction] = deque(maxlen=LOOK_AHEAD + 1)
        self._detector = AdaptiveDetector(window_width=LOOK_AHEAD, min_scene_len=SHORTEST)

    def add(self, index: int, pts: Fraction, image: np.ndarray) -> None:
        """Take the next frame.

        Args:
            pts: container time, seconds.
            image: uint8 (H, W, 3) RGB of any size; the small one that a network sees will do.
        """
        self._recent.append(pts)
        small = cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA)
        time = FrameTimecode(index, _ANY_RATE)
        if self._detector.process_frame(time, cv2.cvtColor(small, cv2.COLOR_RGB2BGR)):
            self._times.append(self._recent[0])
            self.cuts.append(index - LOOK_AHEAD)

    def timed_cuts(self) -> list[Cut]:
        """The cuts so far with their times."""
        return list(zip(self.cuts, self._times, strict=False))


def shots_between(first: Cut, last: int, end: Fraction, cuts: Iterable[Cut]) -> list[Shot]:
    """The shots from one frame to another, both included.

    Cuts right before the end do not count: they are seen only where more was read behind it.

    Args:
        first: index and container time of the first frame.
        last: index of the last frame.
        end: container time at which it ends, seconds.
        cuts: in any order; those that lie too close to one before them are left out.
    """
    starts = [first]
    for index, pts in sorted(cuts):
        if first[0] < index <= last - LOOK_AHEAD and index >= starts[-1][0] + SHORTEST:
            starts.append((index, pts))
    bounds = [*starts, (last + 1, end)]
    return [Shot(a, b - 1, start, stop) for (a, start), (b, stop) in pairwise(bounds)]


def find_shots(frames: Iterable[VideoFrame]) -> list[Shot]:
    """The shots of a video, read once."""
    finder = ShotFinder()
    first, last, end = None, 0, Fraction(0)
    for frame in frames:
        finder.add(frame.index, frame.pts, frame.image)
        first = first or (frame.index, frame.pts)
        last, end = frame.index, frame.pts + frame.duration
    return shots_between(first, last, end, finder.timed_cuts()) if first else []
