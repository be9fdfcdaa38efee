"""Converting decoded frames to the pictures that a player shows: upright, cropped, RGB."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from avsal.errors import MediaError
from avsal.media.source import Source, is_image, is_raw
from avsal.media.view import (
    UPRIGHT,
    Crop,
    Matrix,
    View,
    carried_matrix,
    crop_of,
    is_turn,
    rotation_of,
    still_orientation,
    swaps_sides,
    turn,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

_HDR_TRANSFERS = frozenset({16, 18})  # ITU-T H.273: PQ (SMPTE ST 2084) and HLG (ARIB STD-B67)
_LINEAR = frozenset({"exr", "hdr", "pfm", "phm"})  # codecs whose values are amounts of light
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG: luma 16..235
_GRAYS = frozenset({"gray", "gray10le", "gray12le", "gray16le", "gray10be", "gray12be", "gray16be"})
_PALETTES = frozenset({"pal8"})  # may have transparent entries

# swscale has special code for these, which is exact to one level. Its general code is 2 levels too
# dark unless precision is asked for.
_FAST_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuva420p"})
# SWS_BILINEAR, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT; PyAV names the last two from version 18 on.
_PRECISE = 0x2 | 0x40000 | 0x2000
_TRANSPARENT = (
    "its transparent parts are used as black; if it is shown on another colour, save it with that"
)
_SAME_SHAPE = 0.01  # relative difference of aspect ratios that is not worth black bars


class RgbConverter:
    """Converts frames to RGB; reuses its scaler, which is slow to build.

    The frame's colour matrix and range are applied. As in FFmpeg, an unspecified matrix means
    BT.601 and an unspecified range means limited. High bit depths are reduced to 8 bits, HDR
    transfer curves are not changed, and transparent pictures are composited over black.

    Attributes:
        blended: a picture had transparent parts.
    """

    def __init__(self) -> None:
        self.blended = False
        self._reformatter: VideoReformatter | None = None

    def __call__(
        self,
        frame: VideoFrame,
        matrix: Matrix = UPRIGHT,
        part: tuple[slice, slice] | None = None,
    ) -> np.ndarray:
        """Return the picture as displayed, uint8 (H, W, 3), contiguous.

        Args:
            frame: the decoded frame.
            matrix: its orientation.
            part: the rows and columns that are shown; None for all.
        """
        transparent = frame.format.name in _PALETTES or any(
            component.is_alpha for component in frame.format.components
        )
        if self._reformatter is None:
            self._reformatter = VideoReformatter()
        converted = self._reformatter.reformat(
            frame,
            format="rgba" if transparent else "rgb24",
            interpolation=None if frame.format.name in _FAST_FORMATS else _PRECISE,
            src_color_range=frame.color_range,
            dst_color_range="JPEG",
            threads=1,  # several wait for each other longer than they compute
        )
        # The decoder may still need its own frame.
        rgb = converted.to_ndarray() if converted is frame else pixels_of(converted)
        if frame.format.name in _GRAYS and frame.color_range == _LIMITED_RANGE:
            rgb = cv2.LUT(rgb, _full_range())  # swscale treats all gray formats as full range
        if part:
            rgb = np.ascontiguousarray(rgb[part])
        if transparent and rgb[..., 3].min() < 255:
            self.blended, rgb = True, over_black(rgb)
        elif transparent:
            rgb = np.ascontiguousarray(rgb[..., :3])
        return turn(rgb, matrix)

    def close(self) -> None:
        """Let go of the scaler; the next call builds a new one."""
        self._reformatter = None


def pixels_of(frame: VideoFrame) -> np.ndarray:
    """The pixels of an RGB or RGBA frame, uint8 (H, W, channels), contiguous; not copied if its
    rows have no padding, because copying takes as long as converting."""
    (plane,) = frame.planes
    channels = len(frame.format.components)
    if plane.line_size != frame.width * channels:
        return frame.to_ndarray()
    return np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, frame.width, channels)


@lru_cache
def _full_range() -> np.ndarray:
    levels = (np.arange(256) - 16) * 255 / 219
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def over_black(rgba: np.ndarray) -> np.ndarray:
    """Composite an uint8 (H, W, 4) picture with straight alpha over black, giving (H, W, 3)."""
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return ((colour.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)


def remarks(path: Source, frame: VideoFrame, codec: VideoCodecContext) -> list[str]:
    """What to know about the colours of a video, from its first frame; one line each."""
    notes = []
    if {frame.color_trc, codec.color_trc} & _HDR_TRANSFERS:
        notes.append(f"{path}: HDR colours are used without tone mapping")
    if codec.name in _LINEAR:
        notes.append(
            f"{path}: its values are linear light and are used as they are, so it looks dark; "
            "export it as PNG or JPEG"
        )
    if is_raw(path):
        notes.append(
            f"{path}: a camera raw file; FFmpeg may show its preview or undeveloped colours, so "
            "export it as JPEG or PNG"
        )
    return notes


class Display:
    """Converts the frames of a stream to upright pictures that all have the size of the first.

    Attributes:
        first: how the first frame is displayed; its size is that of all pictures.
        notes: warnings for the user, one line each, without the file's name.
    """

    def __init__(self, path: Source, container: InputContainer, stream: Any, codec: str) -> None:
        self._path = path
        self._codec = codec
        local = path if isinstance(path, Path) else None
        self._still = is_image(container)
        self._exif = still_orientation(local) if local and self._still else None
        self._crop = None if self._still else crop_of(local, container, stream)
        self._matrix = UPRIGHT
        self._first_aspect = self._aspect = Fraction(1)
        self._first: View | None = None
        self._changed = False
        self.notes: list[str] = []

    @property
    def first(self) -> View:
        assert self._first is not None, "no frame was viewed"
        return self._first

    def view(self, frame: VideoFrame, time: Fraction, aspect: Fraction) -> View:
        """Determine how the next frame in presentation order is displayed.

        Args:
            frame: the decoded frame.
            time: its presentation time, seconds.
            aspect: ratio of width to height of its pixels by the decoder, which may be ahead.
        """
        matrix = self._orientation(frame)
        crop = self._crop_for(frame)
        width, height = crop.size if crop else (frame.width, frame.height)
        if self._first is None:
            self._first_aspect = self._aspect = aspect
        elif frame.key_frame:  # others have the pixels of the one before
            self._aspect = aspect
        aspect = self._aspect / self._first_aspect
        if swaps_sides(matrix):
            width, height, aspect = height, width, 1 / aspect
        view = View(matrix, crop, width, height, aspect)
        if self._first is None:
            self._first, self._start = view, time
            if rotation_of(matrix) % 90:
                self.notes.append("rotated to the nearest quarter turn, not by its exact angle")
        elif not (self._changed or self._is_like_first(view)):
            self._changed = True
            self.notes.append(self._change(view, float(time - self._start)))
        return view

    def _is_like_first(self, view: View) -> bool:
        same_size = (view.width, view.height) == (self.first.width, self.first.height)
        return same_size and (view.aspect == 1 or abs(view.aspect - 1) < _SAME_SHAPE)

    def _change(self, view: View, seconds: float) -> str:
        before, after = (f"{each.width}x{each.height}" for each in (self.first, view))
        if before == after:
            return (
                f"the shape of the picture's pixels changes at {seconds:.1f} s; all pictures are "
                "fitted into the first shape"
            )
        return (
            f"the picture's size changes from {before} to {after} at {seconds:.1f} s; all pictures "
            "are fitted into the first size"
        )

    def picture(self, frame: VideoFrame, view: View, convert: RgbConverter) -> np.ndarray:
        """Return a frame as displayed, uint8 (H, W, 3) RGB; H and W are those of the first frame.

        Raises:
            MediaError: its pixels cannot be converted to RGB.
        """
        try:
            image = convert(frame, view.matrix, view.crop.slices if view.crop else None)
        except (FFmpegError, ValueError) as error:
            raise MediaError(
                f"{self._path}: its pixel format {frame.format.name} with colour matrix "
                f"{frame.colorspace} (ITU-T H.273) cannot be converted to RGB; "
                f"convert it to {'PNG' if self._still else 'H.264'}"
            ) from error
        if convert.blended and _TRANSPARENT not in self.notes:
            self.notes.append(_TRANSPARENT)
        if self._is_like_first(view):
            return image
        return fitted(image, self.first.width, self.first.height, view.aspect)

    def _crop_for(self, frame: VideoFrame) -> Crop | None:
        crop = self._crop
        if crop is None or crop.stored != (frame.width, frame.height):
            return None  # no crop, or a crop for pictures of another size
        if not crop.is_inside():
            self.notes.append("its crop is outside the picture and was ignored")
            self._crop = None
            return None
        return crop

    def _orientation(self, frame: VideoFrame) -> Matrix:
        """Return the orientation of the file, or the latest one in the video stream.

        Encoders store it with the first picture or with every keyframe.
        """
        if self._exif:
            return self._exif
        matrix = carried_matrix(frame, self._codec)
        if matrix and is_turn(matrix):
            self._matrix = matrix
        elif matrix and not any("display matrix" in note for note in self.notes):
            self.notes.append("its display matrix is neither a rotation nor a mirroring; ignored")
        return self._matrix


def fitted(image: np.ndarray, width: int, height: int, aspect: Fraction) -> np.ndarray:
    """Fit a picture into a size, centred, with black bars.

    Args:
        image: uint8 (H, W, 3).
        width, height: size of the result in pixels.
        aspect: pixel aspect ratio of `image` relative to that of the result.
    """
    shown_width, shown_height = image.shape[1] * float(aspect), image.shape[0]
    scale = min(width / shown_width, height / shown_height)
    inner = [max(1, round(shown_width * scale)), max(1, round(shown_height * scale))]
    if abs(shown_width * height / (shown_height * width) - 1) < _SAME_SHAPE:
        inner = [width, height]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=method
    )
    return canvas
