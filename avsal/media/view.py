"""What a file says about displaying its pictures: rotation, mirroring and crop.

Also what FFmpeg does not do for still images: their orientation, reading HEIC, AVIF and some kinds
of TIFF, and telling that a JPEG is cut off.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TILEWIDTH, TiffImageFile

from avsal.errors import MediaError

if TYPE_CHECKING:
    from av.container import InputContainer

_JPEG_END = b"\xff\xd9"
# In these kinds of TIFF, FFmpeg shows black, wrong colours or nothing; so it does in tiles.
_TIFF_COMPRESSIONS = frozenset({"jpeg", "tiff_jpeg", "lzma", "webp", "zstd"})  # in Pillow's words
_TIFF_COLOURS = frozenset({6, 8})  # YCbCr and CIE L*a*b*, TIFF 6.0 sections 21 and 23
_HEADER = 8  # bytes: size and type
_LONG_HEADER = 16  # with a size of 64 bits

# (a, b, c, d) in x' = a x + c y, y' = b x + d y, from the stored pixel (x, y) to the displayed one,
# with y pointing down. Only the ratios matter.
Matrix = tuple[int, int, int, int]
UPRIGHT: Matrix = (1, 0, 0, 1)
EXIF: dict[int, Matrix] = {  # by the value of the orientation tag, Exif 2.32 section 4.6.4
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
_SHEAR = 0.02  # largest cosine between the axes of a matrix that counts as a rotation

# PyAV (up to at least 18.1) frees the metadata of side data that the frame still owns. A PNG with a
# colour profile would then crash the process in a later garbage collection. Only the side data of
# these codecs has metadata.
_WITH_METADATA = frozenset({"png", "apng"})
_DESCRIPTIONS = 8  # bytes before the first entry of `stsd`: version, flags, count
_SIZE = 24  # bytes before the width and height of a visual sample entry
_ENTRY = 78  # bytes of a visual sample entry before its boxes

# Matroska's elements, RFC 9559 section 5.1.4.
SEGMENT, TRACKS, TRACK, TRACK_TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0x83
IS_VIDEO = 1  # a track type
_VIDEO, _WIDTH, _HEIGHT = 0xE0, 0xB0, 0xBA
_BOTTOM, _TOP, _LEFT, _RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD

Kind = TypeVar("Kind", bytes, int)  # a box's type, or an element's identity
# Lists the kind, start and end of the boxes or elements between two offsets of a file.
Walk = Callable[[BinaryIO, int, int], Iterator[tuple[Kind, int, int]]]


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of the content, end) of each box between two offsets of a file.

    Stops at a box that is smaller than its own header. The last box may end after `end`.
    """
    while start + _HEADER <= end:
        file.seek(start)
        header = file.read(_LONG_HEADER)
        size, kind, content = int.from_bytes(header[:4], "big"), header[4:8], start + _HEADER
        if size == 1:  # the 64-bit size follows the type
            size, content = int.from_bytes(header[8:], "big"), start + _LONG_HEADER
        elif size == 0:  # to the end
            size = end - start
        if start + size < content:
            return
        yield kind, content, start + size
        start += size


def elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (identity, start of the content, end) of each Matroska element, RFC 8794.

    Stops at an invalid element. An element of unknown size ends at `end`.
    """
    while start < end:
        file.seek(start)
        header = file.read(12)
        length = 9 - header[0].bit_length() if header else 9  # 1 + number of leading zeros
        if length > 4 or len(header) <= length:
            return
        size_length = 9 - header[length].bit_length()
        content = start + length + size_length
        if size_length > 8 or len(header) < length + size_length:
            return
        ones = (1 << 7 * size_length) - 1
        size = int.from_bytes(header[length : length + size_length], "big") & ones
        stop = end if size == ones else content + size
        yield int.from_bytes(header[:length], "big"), content, min(stop, end)
        start = stop


def find(
    walk: Walk[Kind], file: BinaryIO, path: tuple[Kind, ...], start: int, end: int
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the content of each box or element at a path of nested kinds.

    `walk` is `boxes` or `elements`.
    """
    for kind, inner, inner_end in walk(file, start, end):
        if kind == path[0]:
            if len(path) == 1:
                yield inner, inner_end
            else:
                yield from find(walk, file, path[1:], inner, min(inner_end, end))


def carried_matrix(frame: VideoFrame, codec: str) -> Matrix | None:
    """Return the display matrix of a decoded frame; None if it has none."""
    if codec in _WITH_METADATA:
        return _by_rotation(frame)
    try:
        # `frame.side_data` would make a reference cycle that keeps the frame in memory.
        container = SideDataContainer(frame)  # type: ignore[call-arg]  # missing in its stub
    except ValueError:  # a type of side data that PyAV does not know
        return _by_rotation(frame)
    for data in container:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
            return a, b, c, d
    return None


def _by_rotation(frame: VideoFrame) -> Matrix | None:
    """Return a frame's rotation as a matrix; mirroring is unknown."""
    if not -360 < frame.rotation < 360 or frame.rotation == 0:  # out of range for a zero matrix
        return None
    angle = math.radians(-frame.rotation)
    cosine, sine = round(_ONE * math.cos(angle)), round(_ONE * math.sin(angle))
    return cosine, sine, -sine, cosine


def is_turn(matrix: Matrix) -> bool:
    """Tell whether a matrix rotates or mirrors, without shearing or flattening."""
    a, b, c, d = matrix
    lengths = math.hypot(a, b) * math.hypot(c, d)
    return lengths > 0 and abs(a * c + b * d) < _SHEAR * lengths


def turn(image: np.ndarray, matrix: Matrix) -> np.ndarray:
    """Apply quarter turns and mirroring to a picture (H, W, 3)."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image, flip_x, flip_y = cv2.transpose(image), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_x or flip_y:
        image = cv2.flip(image, -1 if flip_x and flip_y else int(flip_x))
    return image


def rotation_of(matrix: Matrix) -> int:
    """Return the clockwise rotation of a display matrix in whole degrees, 0..359.

    If the matrix also mirrors, the rotation follows a horizontal flip.
    """
    a, b, c, d = matrix
    side = 1 if a * d - b * c > 0 else -1
    return round(math.degrees(math.atan2(side * b, side * a))) % 360


def swaps_sides(matrix: Matrix) -> bool:
    """Tell whether a display matrix exchanges width and height."""
    return abs(matrix[1]) > abs(matrix[0])


@dataclass(frozen=True)
class Crop:
    """A part of a stored picture.

    Attributes:
        stored: width and height, in pixels, of the pictures that it applies to.
        left, top, width, height: the part that is shown, in pixels.
    """

    stored: tuple[int, int]
    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def is_inside(self) -> bool:
        """Tell whether the crop is inside the pictures that it applies to."""
        width, height = self.stored
        return (
            0 <= self.left < self.left + self.width <= width
            and 0 <= self.top < self.top + self.height <= height
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and the columns that are shown."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True)
class View:
    """How a decoded frame is displayed.

    Attributes:
        matrix: its orientation.
        crop: the part that is shown; None for all.
        width, height: its displayed size in pixels.
        aspect: pixel aspect ratio relative to that of the first frame.
    """

    matrix: Matrix
    crop: Crop | None
    width: int
    height: int
    aspect: Fraction


def crop_of(path: Path | None, container: InputContainer, stream: Any) -> Crop | None:
    """Return the crop of a video stream; None if it has none, and for addresses."""
    if path is None:
        return None
    name = container.format.name
    with path.open("rb") as file:
        try:
            if name.startswith("mov"):
                return _clean_aperture(file, stream.id)
            if name.startswith("matroska"):
                return _pixel_crop(file, container.streams.video.index(stream))
        except (struct.error, ZeroDivisionError, ValueError):  # truncated or invalid
            return None
    return None


def _clean_aperture(file: BinaryIO, track: int) -> Crop | None:
    """Read the `clap` box of a track's first sample entry, ISO/IEC 14496-12 section 12.1.4."""
    for start, end in find(boxes, file, (b"moov", b"trak"), 0, file.seek(0, 2)):
        for header, _ in find(boxes, file, (b"tkhd",), start, end):
            file.seek(header)
            version, *_ = data = file.read(24)
            (number,) = struct.unpack_from(">I", data, 20 if version == 1 else 12)
            if number == track:
                return _described_crop(file, start, end)
    return None


def _described_crop(file: BinaryIO, start: int, end: int) -> Crop | None:
    for table, table_end in find(boxes, file, (b"mdia", b"minf", b"stbl", b"stsd"), start, end):
        _, entry, entry_end = next(boxes(file, table + _DESCRIPTIONS, table_end))
        file.seek(entry + _SIZE)
        width, height = struct.unpack(">2H", file.read(4))
        for clap, _ in find(boxes, file, (b"clap",), entry + _ENTRY, entry_end):
            file.seek(clap)
            numbers = struct.unpack(">4IiIiI", file.read(32))
            shown_width, shown_height, right, down = (
                Fraction(numbers[i], numbers[i + 1]) for i in range(0, 8, 2)
            )
            left = (width - shown_width) / 2 + right  # the offset is that of the centre
            top = (height - shown_height) / 2 + down
            return Crop((width, height), *map(round, (left, top, shown_width, shown_height)))
    return None


def _pixel_crop(file: BinaryIO, number: int) -> Crop | None:
    """Read the PixelCrop elements of the n-th video track, counted from 0."""
    for start, end in find(elements, file, (SEGMENT, TRACKS), 0, file.seek(0, 2)):
        videos = list(_videos(file, start, end))
        return _crop_by(videos[number]) if number < len(videos) else None
    return None


def _videos(file: BinaryIO, start: int, end: int) -> Iterator[dict[int, int]]:
    """Yield size and crop of each video track, by element."""
    for track, track_end in find(elements, file, (TRACK,), start, end):
        numbers = dict.fromkeys((TRACK_TYPE, _BOTTOM, _TOP, _LEFT, _RIGHT, _WIDTH, _HEIGHT), 0)
        for setting in numbers:
            path = (setting,) if setting == TRACK_TYPE else (_VIDEO, setting)
            for value, value_end in find(elements, file, path, track, track_end):
                numbers[setting] = read_number(file, value, value_end)
        if numbers[TRACK_TYPE] == IS_VIDEO:
            yield numbers


def read_number(file: BinaryIO, start: int, end: int) -> int:
    """Read an unsigned integer of up to 8 bytes."""
    file.seek(start)
    return int.from_bytes(file.read(min(end - start, 8)), "big")


def _crop_by(numbers: dict[int, int]) -> Crop | None:
    if not any(numbers[side] for side in (_BOTTOM, _TOP, _LEFT, _RIGHT)):
        return None
    return Crop(
        (numbers[_WIDTH], numbers[_HEIGHT]),
        numbers[_LEFT],
        numbers[_TOP],
        numbers[_WIDTH] - numbers[_LEFT] - numbers[_RIGHT],
        numbers[_HEIGHT] - numbers[_TOP] - numbers[_BOTTOM],
    )


def still_orientation(path: Path) -> Matrix | None:
    """Return the orientation in which a still image is decoded; None if Pillow cannot read it."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if _is_tiff_for_pillow(image):  # which turns it
                return UPRIGHT
            return EXIF.get(image.getexif().get(Base.Orientation, 1), UPRIGHT)
    except Exception:  # for damaged files, Pillow raises almost anything
        return None


def is_cut_off(path: Path) -> bool:
    """Whether a JPEG picture ends before its end. FFmpeg fills the rest with gray, silently."""
    try:
        if _ends_as_jpeg(path):
            return False
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.format not in ("JPEG", "MPO"):
                return False
            image.draft("L", (1, 1))  # the smallest scale is the fastest to decode
            image.load()
    except OSError as error:
        return str(error).startswith("image file is truncated")
    except Exception:  # for damaged files, Pillow raises almost anything
        return False
    return False


def _ends_as_jpeg(path: Path) -> bool:
    """Whether a file ends with a JPEG's last marker; some cameras write zeros after it."""
    with path.open("rb") as file:
        file.seek(-len(_JPEG_END), os.SEEK_END)
        return file.read() == _JPEG_END


def is_tiff_for_pillow(path: Path) -> bool:
    """Tell whether a file is a TIFF picture that Pillow reads and FFmpeg does not, or wrongly."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return _is_tiff_for_pillow(image)
    except Exception:  # for damaged files, Pillow raises almost anything
        return False


def _is_tiff_for_pillow(image: Image.Image) -> bool:
    return isinstance(image, TiffImageFile) and (
        TILEWIDTH in image.tag_v2
        or image.info.get("compression") in _TIFF_COMPRESSIONS
        or image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) in _TIFF_COLOURS
    )


def pillow_picture(path: Path | str) -> VideoFrame:
    """Decode a still image upright to 8-bit RGB, or RGBA if it has transparency, with Pillow.

    For HEIC and AVIF: large images, as from an iPhone, consist of tiles, which FFmpeg treats as
    separate streams, and it ignores mirroring. For some kinds of TIFF, see `is_tiff_for_pillow`.

    Raises:
        MediaError: it cannot be decoded, or is an address.
    """
    if not isinstance(path, Path):
        raise MediaError(f"{path}: is a HEIC or AVIF image; download the file and use that")
    _read_heic_too()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            pixels = in_8_bits(image)
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)
        cause = "damaged, or of an unknown type" if unknown else " ".join(str(error).split())
        raise MediaError(f"{path}: cannot be decoded ({cause}); convert it to PNG") from error
    frame = VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[2] == 4 else "rgb24")
    frame.pts = 0
    return frame


def in_8_bits(image: Image.Image) -> np.ndarray:
    """The values of a picture, uint8 (H, W, 3) RGB, or (H, W, 4) RGBA if it has transparency.

    Raises:
        ValueError: they have 32 bits, of which nobody knows the range.
    """
    if image.mode.startswith("I;16"):  # Pillow would clip its values
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("its values have 32 bits")
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


@lru_cache(maxsize=1)
def _read_heic_too() -> None:
    """Register HEIC with Pillow, which omits it because of the format's patents."""
    import pi_heif

    pi_heif.register_heif_opener()
