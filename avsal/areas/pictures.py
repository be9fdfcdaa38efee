"""Pictures of a measurement: frames with their areas drawn."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from avsal.areas.areas import Area
from avsal.areas.series import Difference, Series
from avsal.prediction.drawing import (
    CONTOUR_SHARES,
    decode_jpeg,
    encode_jpeg,
    overlay,
    share_colours,
    square_pixels,
)
from avsal.prediction.shots import Shot
from avsal.prediction.style import OverlayStyle

SMALL, WIDE = 480, 1280  # pixels of the longer side: one of many pictures, one across the page

_QUALITY = 80  # of JPEG, on the page

_STYLE = OverlayStyle(legend=False)  # the page explains the colours


@dataclass(frozen=True)
class Picture:
    """One frame as `data:` addresses of JPEG pictures.

    Attributes:
        time: seconds since the video's first frame.
        plain: the frame.
        heat: with a heatmap over it.
        width, height: pixels.
    """

    time: float
    plain: str
    heat: str
    width: int
    height: int


@dataclass(frozen=True)
class Version:
    """One measured video.

    Attributes:
        name: of the video.
        areas: with their shapes, in the order of `series`.
        series: what was measured.
        shots: of the video.
        placed: a frame with most areas, and the mean map over it.
        model: the network's name.
        made: how the maps were made, see `avsal.areas.summary`.
    """

    name: str
    areas: Sequence[Area]
    series: Series
    shots: Sequence[Shot]
    placed: Picture
    model: str
    made: Mapping[str, Any]

    @property
    def end(self) -> float:
        """Seconds at which the last frame ends."""
        series = self.series
        return float(series.time[-1] + series.duration[-1]) if len(series.time) else 0.0


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        first: the video.
        facts: pairs of words and values about it.
        pictures: for some of its shots by number, their most concentrated frame.
        thumbnails: for the most concentrated of these, JPEG files of the frame at full size.
        legend: shares of gaze enclosed and the RGB colours that heatmaps give them.
        date: when it was measured, for people.
        still: a single image.
        second: another version of it.
        differences: between the two.
    """

    first: Version
    facts: Sequence[tuple[str, str]]
    pictures: Mapping[int, Picture]
    thumbnails: Mapping[int, bytes]
    legend: Sequence[tuple[float, Sequence[int]]]
    date: str
    still: bool = False
    second: Version | None = None
    differences: Sequence[Difference] = field(default=())

    @property
    def versions(self) -> list[Version]:
        return [self.first, self.second] if self.second else [self.first]


def thumbnail_name(shot: int) -> str:
    """The name of the file with a shot's thumbnail, numbered as the report numbers shots."""
    return f"thumbnail-shot-{shot + 1}.jpg"


def full_size(image: np.ndarray, aspect: float) -> bytes:
    """A frame uint8 (H, W, 3) RGB as a JPEG file.

    Args:
        aspect: width to height of the frame's pixels; those of the file are square.
    """
    return encode_jpeg(square_pixels(image, aspect))


def picture(full: bytes, density: np.ndarray, time: float, side: int) -> Picture:
    """Make a picture for the page.

    Args:
        full: a frame, of `full_size`.
        density: (h, w), drawn over it.
        time: seconds since the video's first frame.
        side: pixels of its longer side, at most.
    """
    image = _shrunk(decode_jpeg(full), side)
    heat = overlay(image, density, _STYLE)
    return Picture(time, _data(image), _data(heat), image.shape[1], image.shape[0])


def legend() -> list[tuple[float, list[int]]]:
    """Shares of gaze enclosed, and their RGB colours in the heatmaps."""
    colours = share_colours(np.array(CONTOUR_SHARES), _STYLE).tolist()
    return list(zip(CONTOUR_SHARES, colours, strict=True))


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(1, side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _data(image: np.ndarray) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image, _QUALITY)).decode()
