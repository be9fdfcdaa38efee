"""Shots: the stretches of a video between cuts, found while frames stream by.

The change of colour at a frame is compared with that of the frames around it, so that fast motion,
which changes every frame, is no cut. The rule is that of PySceneDetect's adaptive detector, and so
are its numbers; importing that package takes longer than this network needs for ten frames. It
takes the beginning of a fade from black for a cut, because hue and saturation of dark pixels are
noise; changes that come mostly from these are not counted. Maps of skipped frames are not
interpolated across these cuts, nor across changes of colour so coarse that they may be cuts: a cut
too many does no harm there. `benchmarks/README.md` compares both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from avsal.media.frames import VideoFrame

GRID = (8, 12)  # rows and columns of a thumbnail

# A cut changes a thumbnail by so many levels of 255 on average. In trial clips cuts gave 22 and
# more, handheld cameras and fast sports up to 17.
CUT_LEVELS = 20.0
Cut = tuple[int, Fraction]  # index and container time of the first frame after a cut
LOOK_AHEAD = 2  # frames after the first one of a shot that tell it is one; PySceneDetect's default
_SMALL = (160, 90)  # width, height
# How much of hue and saturation counts, of 255, by a pixel's value: less where it is dark.
_LIT_PARTS = np.minimum(np.arange(256) * 8, 255).astype(np.uint8)
_LIT = 0.5  # of a cut's change, at least so much is left where they count less
RATIO = 3.0  # of a cut's change to the mean change of the frames around it
LEAST_CHANGE = 15.0  # levels of 255, the mean of hue, saturation and value, at a cut
_NOTHING = 1e-5  # a smaller mean change is none
SHORTEST = 2 * LOOK_AHEAD + 1  # frames; cuts closer than the detector's window are one


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Mean colours of a coarse grid, uint8 (h, w, 3) -> float32 (8, 12, 3) in 0..255."""
    return cv2.resize(pixels.astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA)


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference of two thumbnails, in levels of 255."""
    return float(np.abs(after - before).mean())


class Differences:
    """How much every frame differs from the one before, in levels of 255; the first one by 0."""

    def __init__(self) -> None:
        self._latest: np.ndarray | None = None

    def next(self, pixels: np.ndarray) -> float:
        """Take the next frame, uint8 (h, w, 3)."""
        before, self._latest = self._latest, thumbnail(pixels)
        return 0.0 if before is None else difference(before, self._latest)


def find_cut(differences: Mapping[int, float]) -> int | None:
    """Return the first frame of a new scene, None where there is no cut.

    Args:
        differences: by the index of a frame, how much it differs from the one before.
    """
    sharpest = max(differences, key=lambda index: differences[index], default=None)
    return sharpest if sharpest is not None and differences[sharpest] > CUT_LEVELS else None


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


class Change(NamedTuple):
    """How much a frame differs from the one before, in levels of 255: as a whole, and where dark
    pixels have less colour."""

    whole: float
    lit: float


class ShotFinder:
    """Finds the shots of a video whose frames come one after the other, in constant memory.

    Whether there is a cut before a frame is known once the frame `look_ahead` later was added. The
    lists grow at their ends only, so that another thread may read them.

    Attributes:
        changes: every cut so far, however close to the one before, ascending. Whether a frame is
            among them follows from the frames around it alone, wherever reading began.
            `ShotNumbers` and `shots_between` tell which of them begin shots.
    """

    look_ahead = LOOK_AHEAD

    def __init__(self) -> None:
        self.changes: list[Cut] = []
        self._recent: deque[Cut] = deque(maxlen=LOOK_AHEAD + 1)
        self._trusted = 0  # the first frame whose surroundings were all seen
        self._colours: tuple[np.ndarray, np.ndarray] | None = None  # of the latest frame
        self._scores: deque[Change] = deque(maxlen=2 * LOOK_AHEAD + 1)  # of the latest ones

    def add(self, index: int, pts: Fraction, image: np.ndarray) -> None:
        """Take the next frame.

        Args:
            pts: container time, seconds.
            image: uint8 (H, W, 3) RGB of any size; the small one that a network sees will do.
        """
        if not self._recent:
            # How much a frame differs from one that was not read is unknown; in the middle of a
            # video the detector would take it for 0, and what follows for a cut.
            self._trusted = index + LOOK_AHEAD + 1 if index else 0
        self._recent.append((index, pts))
        self._scores.append(self._change(image))
        change = self._recent[0]
        if change[0] < self._trusted or not _is_cut(self._scores):
            return
        self.changes.append(change)

    def _change(self, image: np.ndarray) -> Change:
        """How much a frame differs from the one before; the first one by 0."""
        before, self._colours = self._colours, _colours_of(image)
        if before is None:
            return Change(0.0, 0.0)
        return Change(*map(_mean_change, self._colours, before))

    def last_change(self, first: int, last: int) -> int | None:
        """The latest of the changes from frame `first` to `last`, None where there is none."""
        for index, _pts in reversed(self.changes):
            if index <= last:
                return index if index >= first else None
        return None


def _colours_of(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hue, saturation and value of a small picture, and the same with dark pixels turned gray."""
    small = cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    hue, saturation, value = cv2.split(colours)
    lit = cv2.LUT(value, _LIT_PARTS)
    grayer = [cv2.multiply(channel, lit, scale=1 / 255) for channel in (hue, saturation)]
    return colours, cv2.merge([*grayer, value])


def _mean_change(colours: np.ndarray, before: np.ndarray) -> float:
    sums = cv2.sumElems(cv2.absdiff(colours, before))[:3]
    return sum(channel / (_SMALL[0] * _SMALL[1]) for channel in sums) / len(sums)


def _is_cut(changes: Sequence[Change]) -> bool:
    """Whether the middle one of the changes of frames in a row is that at a cut."""
    if len(changes) < 2 * LOOK_AHEAD + 1:
        return False
    middle = changes[LOOK_AHEAD]
    around = sum(change.whole for place, change in enumerate(changes) if place != LOOK_AHEAD)
    mean = around / (2 * LOOK_AHEAD)
    stands_out = mean < _NOTHING or middle.whole / mean >= RATIO
    return middle.whole >= LEAST_CHANGE and stands_out and middle.lit >= _LIT * middle.whole


class ShotNumbers:
    """Numbers the shots of a video, or of a part of it, from 0.

    A cut that is too close to the beginning of a shot begins no other one.
    """

    def __init__(self, cuts: Sequence[Cut]) -> None:
        """Take the cuts.

        Args:
            cuts: ascending; a list that grows has those up to a frame when that is asked for.
        """
        self._cuts = cuts
        self._begun: int | None = None  # the first frame of the latest shot
        self._seen = self._number = 0

    def of(self, index: int) -> int:
        """The number of a frame's shot; frames are asked for in order, from the first one on."""
        if self._begun is None:
            self._begun = index
        while self._seen < len(self._cuts) and self._cuts[self._seen][0] <= index:
            cut, _pts = self._cuts[self._seen]
            if cut >= self._begun + SHORTEST:
                self._begun = cut
                self._number += 1
            self._seen += 1
        return self._number


def shots_between(first: Cut, last: int, end: Fraction, cuts: Iterable[Cut]) -> list[Shot]:
    """The shots from one frame to another, both included.

    Args:
        first: index and container time of the first frame.
        last: index of the last frame.
        end: container time at which it ends, seconds.
        cuts: in any order, among them all that are between these frames.
    """
    ordered = sorted(cuts)
    numbers, starts = ShotNumbers(ordered), [first]
    numbers.of(first[0])
    for cut in ordered:
        if cut[0] <= last and numbers.of(cut[0]) == len(starts):
            starts.append(cut)
    bounds = [*starts, (last + 1, end)]
    return [Shot(a, b - 1, start, stop) for (a, start), (b, stop) in pairwise(bounds)]


def find_shots(
    frames: Iterable[VideoFrame], start: Fraction | None = None, end: Fraction | None = None
) -> list[Shot]:
    """The shots of a video, or of the part between two container times, read once.

    Args:
        frames: of the part, and up to `LOOK_AHEAD` before and after it, which tell of cuts at its
            beginning and its end.
    """
    finder, behind = ShotFinder(), 0
    first, last, stop = None, 0, Fraction(0)
    for frame in frames:
        finder.add(frame.index, frame.pts, frame.image)
        if end is not None and frame.pts >= end:
            behind += 1
            if behind == LOOK_AHEAD:
                break
        elif start is None or frame.pts >= start:
            first = first or (frame.index, frame.pts)
            last, stop = frame.index, frame.pts + frame.duration
    return shots_between(first, last, stop, finder.changes) if first else []
