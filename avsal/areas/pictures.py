"""Small pictures for a report: frames with and without their heatmap, as data in the page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from avsal.areas.report import Thumbnail
from avsal.prediction.drawing import overlay
from avsal.prediction.style import OverlayStyle

_SIDE = 480  # pixels of the longer side
_QUALITY = 78


def thumbnail(image: np.ndarray, density: np.ndarray, time: float) -> Thumbnail:
    """Make a thumbnail.

    Args:
        image: uint8 (H, W, 3) RGB, of `shrink`.
        density: (h, w), drawn over it.
        time: seconds since the video's first frame.
    """
    heat = overlay(image, density, OverlayStyle(), (float(density.min()), float(density.max())))
    return Thumbnail(time, _jpeg(image), _jpeg(heat), image.shape[1], image.shape[0])


def shrink(image: np.ndarray, aspect: float) -> np.ndarray:
    """Bring a frame whose pixels have this aspect to square ones and to a thumbnail's size."""
    width, height = image.shape[1] * aspect, image.shape[0]
    scale = min(1, _SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _jpeg(image: np.ndarray) -> str:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
