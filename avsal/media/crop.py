"""Which part of a stored picture is shown, and how: MP4's `clap`, Matroska's PixelCrop."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from avsal.media.boxes import boxes, find, find_elements
from avsal.media.orientation import Matrix

if TYPE_CHECKING:
    from av.container import InputContainer


_DESCRIPTIONS = 8  # bytes before the first entry of `stsd`: version, flags, count
_SIZE = 24  # bytes before the width and height of a visual sample entry
_ENTRY = 78  # bytes of a visual sample entry before its boxes

# Matroska's elements, RFC 9559 section 5.1.4.
_SEGMENT, _TRACKS, _TRACK, _TYPE, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0xE0
_WIDTH, _HEIGHT = 0xB0, 0xBA
_BOTTOM, _TOP, _LEFT, _RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD
_IS_VIDEO = 1


@dataclass(frozen=True)
class Crop:
    """A part of a stored picture.

    Attributes:
        stored: width and height in pixels of the pictures that it is meant for.
        left, top, width, height: the part that is shown, pixels.
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
        """Tell whether the crop is a part of the pictures that it is meant for."""
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
    """How one decoded frame is shown.

    Attributes:
        matrix: its orientation.
        crop: what of it is shown, None for all.
        width, height: its size on the display in pixels.
        aspect: width to height of a displayed pixel, compared with the first frame's.
    """

    matrix: Matrix
    crop: Crop | None
    width: int
    height: int
    aspect: Fraction


def crop_of(path: Path | None, container: InputContainer, stream: Any) -> Crop | None:
    """Return the crop of a video stream, None for the whole picture, an address, other formats."""
    if path is None:
        return None
    name = container.format.name
    with path.open("rb") as file:
        try:
            if name.startswith("mov"):
                return _clean_aperture(file, stream.id)
            if name.startswith("matroska"):
                return _pixel_crop(file, container.streams.video.index(stream))
        except (struct.error, ZeroDivisionError, ValueError):  # cut short or nonsense
            return None
    return None


def _clean_aperture(file: BinaryIO, track: int) -> Crop | None:
    """The `clap` box of a track's first sample description, ISO/IEC 14496-12 section 12.1.4."""
    for start, end in find(file, (b"moov", b"trak"), 0, file.seek(0, 2)):
        for header, _ in find(file, (b"tkhd",), start, end):
            file.seek(header)
            version, *_ = data = file.read(24)
            (number,) = struct.unpack_from(">I", data, 20 if version == 1 else 12)
            if number == track:
                return _described_crop(file, start, end)
    return None


def _described_crop(file: BinaryIO, start: int, end: int) -> Crop | None:
    for table, table_end in find(file, (b"mdia", b"minf", b"stbl", b"stsd"), start, end):
        _, entry, entry_end = next(boxes(file, table + _DESCRIPTIONS, table_end))
        file.seek(entry + _SIZE)
        width, height = struct.unpack(">2H", file.read(4))
        for inside, _ in find(file, (b"clap",), entry + _ENTRY, entry_end):
            file.seek(inside)
            numbers = struct.unpack(">4IiIiI", file.read(32))
            shown_width, shown_height, right, down = (
                Fraction(numbers[i], numbers[i + 1]) for i in range(0, 8, 2)
            )
            left = (width - shown_width) / 2 + right  # the offset is that of the centre
            top = (height - shown_height) / 2 + down
            return Crop((width, height), *map(round, (left, top, shown_width, shown_height)))
    return None


def _pixel_crop(file: BinaryIO, number: int) -> Crop | None:
    """PixelCrop of the video track with a number, counted from 0 among the video tracks."""
    for start, end in find_elements(file, (_SEGMENT, _TRACKS), 0, file.seek(0, 2)):
        videos = list(_videos(file, start, end))
        return _crop_by(videos[number]) if number < len(videos) else None
    return None


def _videos(file: BinaryIO, start: int, end: int) -> Iterator[dict[int, int]]:
    """The numbers that the settings of each video track hold, by element."""
    for track, track_end in find_elements(file, (_TRACK,), start, end):
        numbers = dict.fromkeys((_TYPE, _BOTTOM, _TOP, _LEFT, _RIGHT, _WIDTH, _HEIGHT), 0)
        for setting in numbers:
            way = (setting,) if setting == _TYPE else (_VIDEO, setting)
            for value, value_end in find_elements(file, way, track, track_end):
                numbers[setting] = _number(file, value, value_end)
        if numbers[_TYPE] == _IS_VIDEO:
            yield numbers


def _number(file: BinaryIO, start: int, end: int) -> int:
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
