"""Decoded frames on their way out of the reader, before they become pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from avsal.media.crop import View
from avsal.media.deinterlace import Deinterlacer

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


@dataclass(frozen=True)
class Slot:
    """A decoded frame with its place in the video; `frame` may be replaced by a deinterlaced one.

    Attributes:
        index: position in the video, from 0.
        time: when it is shown on the container's clock, seconds.
        nominal: how long it is shown, as it says itself or by the frame rate, seconds.
        view: how it is shown.
        frame: the picture as stored.
    """

    index: int
    time: Fraction
    nominal: Fraction
    view: View
    frame: VideoFrame


def up_to(target: Fraction, lead: int, slots: Iterable[Slot]) -> Iterator[Slot]:
    """The first slot at or after the target, preceded by up to `lead` slots."""
    past: deque[Slot] = deque(maxlen=lead)
    for slot in slots:
        if slot.time >= target:
            yield from past
            yield slot
            return
        past.append(slot)


def from_time(target: Fraction, lead: int, slots: Iterator[Slot]) -> Iterator[Slot]:
    """The slots from `lead` ones before the first at or after the target on."""
    yield from up_to(target, lead, slots)
    yield from slots


def deinterlaced(slots: Iterable[Slot]) -> Iterator[Slot]:
    """The same slots, their frames deinterlaced where they are flagged as interlaced."""
    deinterlacer = Deinterlacer()
    waiting: deque[Slot] = deque()
    for slot in slots:
        waiting.append(slot)
        for frame in deinterlacer.push(slot.frame):
            yield replace(waiting.popleft(), frame=frame)
    for frame in deinterlacer.flush():
        yield replace(waiting.popleft(), frame=frame)
