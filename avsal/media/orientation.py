"""How stored pictures lie on the display: quarter turns and mirrorings.

A frame's side data, where FFmpeg puts the display matrix, is never touched: PyAV (7 up to at least
18.1) frees the metadata of side data that the frame still owns, so that every PNG with a colour
profile ends the process at some later garbage collection.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import cv2

from avsal.media.boxes import boxes

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


def turned(frame: VideoFrame) -> Matrix:
    """Return the rotation that a decoded frame asks for; its mirroring is not known."""
    if frame.rotation == 0:
        return UPRIGHT
    angle = math.radians(-frame.rotation)
    cosine, sine = round(_ONE * math.cos(angle)), round(_ONE * math.sin(angle))
    return cosine, sine, -sine, cosine


def track_mirroring(path: Path, track: int) -> Matrix | None:
    """Return the matrix of a track of an MP4 or QuickTime file if it mirrors, else None."""
    with path.open("rb") as file:
        for kind, start, end in boxes(file, 0, file.seek(0, 2)):
            if kind == b"moov":
                matrix = _track_matrix(file, start, end, track)
                mirrors = matrix and matrix[0] * matrix[3] < matrix[1] * matrix[2]
                return matrix if mirrors else None
    return None


def _track_matrix(file: BinaryIO, start: int, end: int, track: int) -> Matrix | None:
    for kind, inner, inner_end in boxes(file, start, end):
        if kind != b"trak":
            continue
        for inner_kind, content, _ in boxes(file, inner, inner_end):
            if inner_kind == b"tkhd":
                number, matrix = _track_header(file, content)
                if number == track:
                    return matrix
    return None


def _track_header(file: BinaryIO, start: int) -> tuple[int, Matrix | None]:
    """The number and the matrix of a track, ISO/IEC 14496-12 section 8.3.2."""
    file.seek(start)
    data = file.read(96)
    longer = 8 if data[:1] == b"\1" else 0  # version 1 has times of 64 bits
    try:
        (number,) = struct.unpack_from(">I", data, 12 + longer)
        a, b, _, c, d = struct.unpack_from(">5i", data, 40 + 12 * (longer // 8))
    except struct.error:  # cut short
        return 0, None
    return number, (a, b, c, d)


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
