"""From a decoded frame to an upright RGB picture."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

if TYPE_CHECKING:
    from av.buffer import Buffer
    from av.video.frame import VideoFrame

# (a, b, c, d) of x' = a x + c y, y' = b x + d y: where a stored pixel goes on the display.
Matrix = tuple[int, int, int, int]
UPRIGHT: Matrix = (1, 0, 0, 1)

_HDR_TRANSFERS = frozenset({16, 18})  # ITU-T H.273: PQ (SMPTE ST 2084) and HLG (ARIB STD-B67)
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG: luma 16..235
_GRAYS = frozenset({"gray", "gray10le", "gray12le", "gray16le", "gray10be", "gray12be", "gray16be"})
_PALETTES = frozenset({"pal8"})  # may hold transparent entries

# swscale converts these with code of their own, exact to a level; everything else passes through
# its general path, which is 2 levels too dark unless asked for precision.
_FAST_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuva420p"})
# SWS_BILINEAR, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT; PyAV names the last two from version 18 on.
_PRECISE = 0x2 | 0x40000 | 0x2000


class RgbConverter:
    """Convert frames to RGB; keeps its scaler, which is costly to build, between frames.

    The frame's own colour matrix and range are applied. An unspecified matrix is BT.601 and an
    unspecified range is limited, as everywhere in FFmpeg. High bit depths are reduced to 8 bit,
    HDR transfer curves stay as they are, transparency is laid over black.
    """

    def __init__(self) -> None:
        self._reformatter: VideoReformatter | None = None

    def __call__(self, frame: VideoFrame, matrix: Matrix = UPRIGHT) -> np.ndarray:
        """Return the picture as displayed, uint8 (H, W, 3), contiguous."""
        transparent = frame.format.name in _PALETTES or any(
            component.is_alpha for component in frame.format.components
        )
        if self._reformatter is None:
            self._reformatter = VideoReformatter()
        rgb: np.ndarray = self._reformatter.reformat(
            frame,
            format="rgba" if transparent else "rgb24",
            interpolation=None if frame.format.name in _FAST_FORMATS else _PRECISE,
            src_color_range=frame.color_range,
            dst_color_range="JPEG",
        ).to_ndarray()
        if frame.format.name in _GRAYS and frame.color_range == _LIMITED_RANGE:
            rgb = cv2.LUT(rgb, _full_range())  # swscale takes every gray for full range
        return turn(over_black(rgb) if transparent else rgb, matrix)

    def close(self) -> None:
        """End the scaler's threads; the next call builds a new one."""
        self._reformatter = None


@lru_cache
def _full_range() -> np.ndarray:
    levels = (np.arange(256) - 16) * 255 / 219
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def over_black(rgba: np.ndarray) -> np.ndarray:
    """Lay an uint8 (H, W, 4) picture with straight alpha over black, giving (H, W, 3)."""
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(colour)
    return ((colour.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)


def turn(image: np.ndarray, matrix: Matrix) -> np.ndarray:
    """Apply a display matrix of quarter turns and mirrorings to a picture (H, W, 3)."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image, flip_x, flip_y = cv2.transpose(image), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_x or flip_y:
        image = cv2.flip(image, -1 if flip_x and flip_y else int(flip_x))
    return image


def display_matrix(frame: VideoFrame) -> Matrix:
    """Return how the container wants the frame turned for display."""
    try:
        stored = cast("Buffer | None", frame.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # PyAV does not know the kind of another side datum, as Exif
        angle = math.radians(-frame.rotation)
        return (
            round(math.cos(angle)),
            round(math.sin(angle)),
            -round(math.sin(angle)),
            round(math.cos(angle)),
        )
    if stored is None:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(stored))
    return a, b, c, d


def rotation_of(matrix: Matrix) -> int:
    """Return the clockwise turn of a display matrix in whole degrees, 0..359.

    Where the matrix mirrors too, the turn is the one after mirroring left and right.
    """
    a, b, c, d = matrix
    side = 1 if a * d - b * c > 0 else -1
    return round(math.degrees(math.atan2(side * b, side * a))) % 360


def swaps_sides(matrix: Matrix) -> bool:
    """Tell whether a display matrix exchanges width and height."""
    return abs(matrix[1]) > abs(matrix[0])


def is_hdr(frame: VideoFrame) -> bool:
    """Tell whether a frame has a high-dynamic-range transfer curve (PQ or HLG)."""
    return frame.color_trc in _HDR_TRANSFERS
