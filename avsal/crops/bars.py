"""Black bars in the source video, above and below the picture or at its sides."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from avsal.crops.settings import Box
from avsal.errors import MediaError
from avsal.media.video import VideoReader

_PICTURES = 12  # looked at, spread over the video
_FEWEST = 3  # of them that must show something
_BLACK = 20  # of 255; black with the noise of compression
_LIT = 48  # of 255; a picture whose brightest parts are darker may hide a bar's edge
_LEAST = 0.02  # of a side; narrower bars are left
_MOST = 0.75  # of a side, both bars together
_UNEQUAL = 0.01  # of a side by which the two bars, or one bar over time, may differ
_SOFT = 2  # pixels that compression mixes with a bar

Sides = tuple[int, int, int, int]  # left, top, right and bottom bar, pixels


def find_picture(video: VideoReader) -> Box:
    """The part of a video inside its black bars; the whole picture where it has none.

    Bars are black in every picture that is looked at, equally wide on both sides, and end at the
    same place in most of them. Still images are kept whole.

    Args:
        video: opened; nothing is read from it. Only if its first picture may have bars is the file
            opened once more.
    """
    width, height = video.info.width, video.info.height
    whole = Box(0, 0, width, height)
    if video.info.is_image:
        return whole
    if _is_lit(video.first_image) and not any(_bars(video.first_image)):
        return whole
    try:
        with VideoReader(video.path) as other:
            left, top, right, bottom = common_bars(other.glance(_PICTURES))
    except MediaError:  # reading it for good will report what is wrong
        return whole
    return Box(left, top, width - left - right, height - top - bottom)


def common_bars(images: Iterable[np.ndarray]) -> Sides:
    """The bars that RGB pictures of one size have in common."""
    found = []
    size = (0, 0)
    for image in images:
        size = image.shape[:2]
        if _is_lit(image):
            found.append(_bars(image))
    if len(found) < _FEWEST:
        return 0, 0, 0, 0
    bars = np.array(found)
    left, right = _steady(bars[:, 0], bars[:, 2], size[1])
    top, bottom = _steady(bars[:, 1], bars[:, 3], size[0])
    return left, top, right, bottom


def _is_lit(image: np.ndarray) -> bool:
    return float(np.percentile(image[::4, ::4].max(axis=2), 90)) >= _LIT


def _bars(image: np.ndarray) -> Sides:
    """How many columns and rows at each side are black throughout."""
    bright = image.max(axis=2) > _BLACK
    sides = []
    for lit in (bright.any(axis=0), bright.any(axis=1)):
        places = np.flatnonzero(lit)
        sides.append((int(places[0]), len(lit) - 1 - int(places[-1])) if len(places) else (0, 0))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def _steady(first: np.ndarray, last: np.ndarray, side: int) -> tuple[int, int]:
    """Two opposite bars out of those of several pictures; (0, 0) where they are none."""
    one, other = int(first.min()), int(last.min())
    slack = max(_SOFT, _UNEQUAL * side)
    ends_there = (first <= one + slack) & (last <= other + slack)
    if (
        min(one, other) < _LEAST * side
        or one + other > _MOST * side
        or abs(one - other) > slack
        or ends_there.mean() < 0.5
    ):
        return 0, 0
    return one + _SOFT, other + _SOFT
