"""Pictures for people: heatmaps over frames, contour lines, side by side."""

from __future__ import annotations

import cv2
import numpy as np

from avsal.results.formats import levels
from avsal.results.style import OverlayStyle

CONTOUR_SHARES = (0.25, 0.5, 0.75)  # of all gaze, inside each line
_CONTOUR_COLOURS = ((255, 255, 255), (255, 220, 0), (0, 200, 255))  # RGB, innermost line first


def overlay(
    image: np.ndarray,
    density: np.ndarray,
    style: OverlayStyle,
    span: tuple[float, float] = (0.0, 1.0),
) -> np.ndarray:
    """Draw a map over a frame.

    Args:
        image: uint8 (H, W, 3) RGB.
        density: float (h, w), brought to the frame's size if it has another one.
        span: the densities that are drawn as nothing and as full heat. Contours do not need it:
            they enclose shares of the density itself.

    Returns:
        uint8 RGB, (H, W, 3), or (H, 2 W, 3) side by side.
    """
    height, width = image.shape[:2]
    if density.shape != (height, width):
        density = cv2.resize(density, (width, height), interpolation=cv2.INTER_LINEAR)
    if style.contours:
        drawn = _draw_contours(image, density)
    else:
        drawn = _blend_heat(image, levels(density, *span, 255), style)
    return np.hstack([image, drawn]) if style.side_by_side else drawn


def _blend_heat(image: np.ndarray, gray: np.ndarray, style: OverlayStyle) -> np.ndarray:
    code = getattr(cv2, f"COLORMAP_{style.colormap.upper()}")
    heat = cv2.cvtColor(cv2.applyColorMap(gray, code), cv2.COLOR_BGR2RGB)
    opacity = (gray * (style.alpha / 255)).astype(np.float32)
    return cv2.blendLinear(heat, image, opacity, 1 - opacity)


def _draw_contours(image: np.ndarray, density: np.ndarray) -> np.ndarray:
    drawn = image.copy()
    thickness = max(1, round(image.shape[0] / 360))
    for share, colour in zip(CONTOUR_SHARES, _CONTOUR_COLOURS, strict=True):
        inside = (density >= mass_level(density, share)).astype(np.uint8)
        lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, lines, -1, colour, thickness, cv2.LINE_AA)
    return drawn


def mass_level(density: np.ndarray, share: float) -> float:
    """The value above which a map holds `share` of its total (its smallest such region)."""
    values = np.sort(density, axis=None)[::-1]
    total = np.cumsum(values, dtype=np.float64)
    return float(values[min(np.searchsorted(total, share * total[-1]), values.size - 1)])
