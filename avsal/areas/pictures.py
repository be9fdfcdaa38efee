"""Pictures for a report: frames with and without their heatmap, as data in the page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from avsal.areas.page import Picture
from avsal.prediction.drawing import CONTOUR_SHARES, overlay, share_colours
from avsal.prediction.style import OverlayStyle

SMALL, WIDE = 480, 1280  # pixels of the longer side: one of many pictures, one across the page
_QUALITY, _FULL_QUALITY = 80, 95
_STYLE = OverlayStyle(legend=False)  # the page explains the colours


def full_size(image: np.ndarray, aspect: float) -> bytes:
    """A frame uint8 (H, W, 3) RGB as a JPEG file.

    Args:
        aspect: width to height of the frame's pixels; those of the file are square.
    """
    height, width = image.shape[:2]
    if aspect != 1:
        image = cv2.resize(image, (max(1, round(width * aspect)), height))
    return _jpeg(image, _FULL_QUALITY)


def picture(full: bytes, density: np.ndarray, time: float, side: int) -> Picture:
    """Make a picture for the page.

    Args:
        full: a frame, of `full_size`.
        density: (h, w), drawn over it.
        time: seconds since the video's first frame.
        side: pixels of its longer side, at most.
    """
    decoded = cv2.imdecode(np.frombuffer(full, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    image = _shrunk(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), side)
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
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(image, _QUALITY)).decode()


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
