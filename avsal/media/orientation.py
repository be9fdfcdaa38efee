"""How stored pictures are turned and mirrored on the display."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import cv2
from av.sidedata.sidedata import SideDataContainer

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame

# (a, b, c, d) of x' = a x + c y, y' = b x + d y: where a stored pixel goes on the display, y
# pointing down. Only the ratios matter.
Matrix = tuple[int, int, int, int]
UPRIGHT: Matrix = (1, 0, 0, 1)

EXIF: dict[int, Matrix] = {  # by the value of the tag, Exif 2.32 section 4.6.4
    1: UPRIGHT,
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
_ONE = 2**16  # 1 in a matrix of 16.16 fixed-point numbers
_SHEAR = 0.02  # cosine between the axes of a matrix that still counts as a rotation

# PyAV (up to at least 18.1) frees the metadata of side data that the frame still owns, so that
# every PNG with a colour profile ended the process at some later garbage collection. FFmpeg gives
# no other codec's side data metadata.
_WITH_METADATA = frozenset({"png", "apng"})


def carried_matrix(frame: VideoFrame, codec: str) -> Matrix | None:
    """Return the display matrix that comes with a decoded frame, None where there is none."""
    if codec in _WITH_METADATA:
        return _by_rotation(frame)
    try:
        # Not `frame.side_data`: that makes a circle of references, which keeps the frame in memory.
        container = SideDataContainer(frame)  # type: ignore[call-arg]  # missing in its stub
    except ValueError:  # side data of a type that PyAV does not know
        return _by_rotation(frame)
    for data in container:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
            return a, b, c, d
    return None


def _by_rotation(frame: VideoFrame) -> Matrix | None:
    """The rotation that a frame asks for; its mirroring is not known."""
    if not -360 < frame.rotation < 360 or frame.rotation == 0:  # a matrix of zeros has none
        return None
    angle = math.radians(-frame.rotation)
    cosine, sine = round(_ONE * math.cos(angle)), round(_ONE * math.sin(angle))
    return cosine, sine, -sine, cosine


def is_turn(matrix: Matrix) -> bool:
    """Tell whether a matrix rotates or mirrors, and does not shear or flatten."""
    a, b, c, d = matrix
    lengths = math.hypot(a, b) * math.hypot(c, d)
    return lengths > 0 and abs(a * c + b * d) < _SHEAR * lengths


def turn(image: np.ndarray, matrix: Matrix) -> np.ndarray:
    """Apply a matrix of quarter turns and mirrorings to a picture (H, W, 3)."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image, flip_x, flip_y = cv2.transpose(image), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_x or flip_y:
        image = cv2.flip(image, -1 if flip_x and flip_y else int(flip_x))
    return image


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
