"""How the stored pictures of a stream are shown: which part of them, which way up, in one size."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from av.error import FFmpegError

from avsal.errors import MediaError
from avsal.media.crop import Crop, View, crop_of
from avsal.media.orientation import (
    UPRIGHT,
    Matrix,
    carried_matrix,
    is_turn,
    rotation_of,
    swaps_sides,
)
from avsal.media.pixels import RgbConverter
from avsal.media.source import Source
from avsal.media.stills import is_image, still_orientation

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

_SAME_SHAPE = 0.01  # relative difference of proportions that no black bars are worth


class Display:
    """Turns the frames of one stream into upright pictures that all have the first one's size.

    Attributes:
        first: how the first frame is shown; the size of all pictures.
        notes: one line for each thing that a person should know, without the file's name.
    """

    def __init__(self, path: Source, container: InputContainer, stream: Any, codec: str) -> None:
        self._path = path
        self._codec = codec
        local = path if isinstance(path, Path) else None
        self._still = is_image(container)
        self._exif = still_orientation(local) if local and self._still else None
        self._crop = None if self._still else crop_of(local, container, stream)
        self._matrix = UPRIGHT
        self._first_aspect = Fraction(1)
        self._first: View | None = None
        self._changed = False
        self.notes: list[str] = []

    @property
    def first(self) -> View:
        assert self._first is not None, "no frame was viewed yet"
        return self._first

    def view(self, frame: VideoFrame, time: Fraction, aspect: Fraction) -> View:
        """Tell how the next frame in order of presentation is shown.

        Args:
            frame: as decoded.
            time: when it is shown, seconds.
            aspect: width to height of its stored pixels.
        """
        matrix = self._orientation(frame)
        crop = self._crop_for(frame)
        width, height = crop.size if crop else (frame.width, frame.height)
        if self._first is None:
            self._first_aspect = aspect
        aspect /= self._first_aspect
        if swaps_sides(matrix):
            width, height, aspect = height, width, 1 / aspect
        view = View(matrix, crop, width, height, aspect)
        if self._first is None:
            self._first, self._start = view, time
            self._remark(matrix)
        elif (width, height) != (self.first.width, self.first.height) and not self._changed:
            self._changed = True
            self.notes.append(
                f"the picture's size changes from {self.first.width}x{self.first.height} to "
                f"{width}x{height} at {float(time - self._start):.1f} s; all pictures are fitted "
                "into the first size"
            )
        return view

    def picture(self, frame: VideoFrame, view: View, convert: RgbConverter) -> np.ndarray:
        """Return a frame as displayed, uint8 (H, W, 3) RGB; H and W are those of the first.

        Raises:
            MediaError: its pixels cannot be turned into RGB.
        """
        try:
            image = convert(frame, view.matrix, view.crop.slices if view.crop else None)
        except (FFmpegError, ValueError) as error:
            raise MediaError(
                f"{self._path}: its pixel format {frame.format.name} with colour matrix "
                f"{frame.colorspace} (ITU-T H.273) cannot be turned into RGB; "
                f"convert it to {'PNG' if self._still else 'H.264'}"
            ) from error
        size = self.first.width, self.first.height
        return image if (view.width, view.height) == size else fitted(image, *size, view.aspect)

    def _crop_for(self, frame: VideoFrame) -> Crop | None:
        crop = self._crop
        if crop is None or crop.stored != (frame.width, frame.height):
            return None  # none, or one for pictures of another size
        if not crop.is_inside():
            self.notes.append("its crop is no part of the picture; ignored")
            self._crop = None
            return None
        return crop

    def _orientation(self, frame: VideoFrame) -> Matrix:
        """A frame's orientation: the file's, or the latest that the video stream has given.

        An encoder tells it with the first picture, or with every keyframe.
        """
        if self._exif:
            return self._exif
        found = carried_matrix(frame, self._codec)
        if found and is_turn(found):
            self._matrix = found
        elif found and not any("display matrix" in note for note in self.notes):
            self.notes.append("its display matrix is neither a rotation nor a mirroring; ignored")
        return self._matrix

    def _remark(self, matrix: Matrix) -> None:
        if rotation_of(matrix) % 90:
            self.notes.append("turned by the nearest quarter turn, not by its odd angle")


def fitted(image: np.ndarray, width: int, height: int, aspect: Fraction) -> np.ndarray:
    """Scale a picture to fit a size, in the middle, black around it.

    Args:
        image: uint8 (H, W, 3).
        width, height: size of the result in pixels.
        aspect: width to height of a pixel of `image`, compared with one of the result.
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
