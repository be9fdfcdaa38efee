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

LOOK_AHEAD = 2  # frames after the first one of a shot that tell it is one; PySceneDetect's default
_SMALL = (160, 90)  # width, height
_SHORTEST = 2 * LOOK_AHEAD + 1  # frames; cuts closer than the detector's window are one
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
            before a frame is known once the frame `LOOK_AHEAD` later was added.
    """

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self._starts: list[tuple[int, Fraction]] = []  # index and time of every shot's first frame
        self._end = (0, Fraction(0))  # index of the last frame, and when it ends
        self._recent: deque[Fraction] = deque(maxlen=LOOK_AHEAD + 1)
        self._detector = AdaptiveDetector(window_width=LOOK_AHEAD, min_scene_len=_SHORTEST)

    def add(self, index: int, pts: Fraction, duration: Fraction, image: np.ndarray) -> None:
        """Take the next frame.

        Args:
            pts: container time, seconds.
            duration: seconds.
            image: uint8 (H, W, 3) RGB of any size; the thumbnail that a network sees will do.
        """
        self._recent.append(pts)
        self._end = index, pts + duration
        if not self._starts:
            self._starts.append((index, pts))
        small = cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA)
        time = FrameTimecode(index, _ANY_RATE)
        if self._detector.process_frame(time, cv2.cvtColor(small, cv2.COLOR_RGB2BGR)):
            self.cuts.append(index - LOOK_AHEAD)
            self._starts.append((index - LOOK_AHEAD, self._recent[0]))

    def shots(self) -> list[Shot]:
        """The shots of all frames so far."""
        last, end = self._end
        bounds = [*self._starts, (last + 1, end)]
        return [
            Shot(first, after - 1, start, stop)
            for (first, start), (after, stop) in pairwise(bounds)
        ]


def find_shots(frames: Iterable[VideoFrame]) -> list[Shot]:
    """The shots of a video, read once."""
    finder = ShotFinder()
    for frame in frames:
        finder.add(frame.index, frame.pts, frame.duration, frame.image)
    return finder.shots()
