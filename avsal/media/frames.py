"""A decoded frame, and the same without its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

Shown = TypeVar("Shown", bound=Any)  # a dataclass with `pts` and `duration`


@dataclass(frozen=True)
class VideoFrame:
    """One frame as displayed.

    Attributes:
        index: position in the whole video, from 0, in presentation order. A frame that is lost to
            damage is counted, and shows the previous picture.
        pts: presentation time on the container's clock, seconds, exact.
        duration: seconds until the next frame.
        image: uint8 (H, W, 3) RGB, upright; all frames of a video have the size of its first.
    """

    index: int
    pts: Fraction
    duration: Fraction
    image: np.ndarray


@dataclass(frozen=True)
class FrameInfo:
    """What is known of a frame without its pixels; variables call it the frame's tag.

    Attributes:
        index: position in the video, from 0.
        pts: presentation time on the container's clock, seconds, exact.
        time: seconds since the video's first frame, exact.
        duration: seconds for which the frame is shown.
        width, height: display size in pixels.
        shot: number of its shot, from 0 at the first frame that was predicted.
    """

    index: int
    pts: Fraction
    time: Fraction
    duration: Fraction
    width: int
    height: int
    shot: int = 0


def shown_until(frame: Shown, end: Fraction | None) -> Shown:
    """A frame, or what is known of it, that counts up to the end of a part of its video.

    Args:
        end: container time, seconds; None is the end of the video.
    """
    if end is None or frame.pts + frame.duration <= end:
        return frame
    return replace(frame, duration=max(end - frame.pts, Fraction(0)))


def info_of(frame: VideoFrame, origin: Fraction) -> FrameInfo:
    """Return a frame without its pixels.

    Args:
        origin: container time of the video's first frame, seconds.
    """
    height, width = frame.image.shape[:2]
    return FrameInfo(frame.index, frame.pts, frame.pts - origin, frame.duration, width, height)
