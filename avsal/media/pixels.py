"""From a decoded frame to an upright RGB picture."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from avsal.media.orientation import UPRIGHT, Matrix, turn

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

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

    def __call__(
        self,
        frame: VideoFrame,
        matrix: Matrix = UPRIGHT,
        part: tuple[slice, slice] | None = None,
    ) -> np.ndarray:
        """Return the picture as displayed, uint8 (H, W, 3), contiguous.

        Args:
            frame: as decoded.
            matrix: its orientation.
            part: the rows and columns of it that are shown, None for all.
        """
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
        if part:
            rgb = np.ascontiguousarray(rgb[part])
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


def is_hdr(frame: VideoFrame | VideoCodecContext) -> bool:
    """Tell whether a frame or a stream has a high-dynamic-range transfer curve (PQ or HLG)."""
    return frame.color_trc in _HDR_TRANSFERS
