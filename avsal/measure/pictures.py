"""Small pictures for a report: frames with and without their heatmap, as data in the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from avsal.errors import MediaError
from avsal.media.video import VideoReader
from avsal.results.render import overlay
from avsal.results.style import OverlayStyle

_SIDE = 480  # pixels of the longer side
_QUALITY = 78


@dataclass(frozen=True)
class Thumbnail:
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


def thumbnails(video: VideoReader, maps: Sequence[tuple[int, np.ndarray]]) -> list[Thumbnail]:
    """Make thumbnails of some frames in one pass.

    Args:
        maps: frame number and the density (h, w) to draw over it; a frame may come twice.

    Raises:
        MediaError: the video lacks one of the frames, or cannot be read.
    """
    wanted: dict[int, list[int]] = {}
    for place, (index, _density) in enumerate(maps):
        wanted.setdefault(index, []).append(place)
    made: dict[int, Thumbnail] = {}
    for frame in video:
        places = wanted.pop(frame.index, [])
        image = _shrink(frame.image, float(video.info.sample_aspect)) if places else frame.image
        for place in places:
            density = maps[place][1]
            span = float(density.min()), float(density.max())
            heat = overlay(image, density, OverlayStyle(), span)
            time = float(frame.pts - video.origin)
            made[place] = Thumbnail(time, _jpeg(image), _jpeg(heat), image.shape[1], image.shape[0])
        if not wanted:
            break
    if wanted:
        raise MediaError(
            f"{video.info.path}: has no frame {min(wanted)}, of which there is a map; give the "
            "maps of this video"
        )
    return [made[place] for place in range(len(maps))]


def _shrink(image: np.ndarray, aspect: float) -> np.ndarray:
    """Bring a frame to square pixels and `_SIDE`."""
    width, height = image.shape[1] * aspect, image.shape[0]
    scale = min(1, _SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _jpeg(image: np.ndarray) -> str:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
