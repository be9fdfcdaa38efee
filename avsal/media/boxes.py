"""What files are made of: boxes of MP4 and QuickTime (ISO/IEC 14496-12), elements of Matroska."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_HEADER = 8  # bytes: size and type
_LONG_HEADER = 16  # with a size of 64 bits


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of the content, end) of each box between two places of a file.

    Ends before a box that is smaller than its own header. The last box may end after `end`.
    """
    while start + _HEADER <= end:
        file.seek(start)
        header = file.read(_LONG_HEADER)
        size, kind, content = int.from_bytes(header[:4], "big"), header[4:8], start + _HEADER
        if size == 1:  # the real size follows the type
            size, content = int.from_bytes(header[8:], "big"), start + _LONG_HEADER
        elif size == 0:  # up to the end
            size = end - start
        if start + size < content:
            return
        yield kind, content, start + size
        start += size


def find(
    file: BinaryIO, path: tuple[bytes, ...], start: int, end: int
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the content of each box at a path of types, one inside the other."""
    for kind, inner, inner_end in boxes(file, start, end):
        if kind == path[0]:
            if len(path) == 1:
                yield inner, inner_end
            else:
                yield from find(file, path[1:], inner, min(inner_end, end))


def elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (identity, start of the content, end) of each element of Matroska, RFC 8794.

    Ends before an element that is no valid one. One of unknown size ends at `end`.
    """
    while start < end:
        file.seek(start)
        header = file.read(12)
        length = 9 - header[0].bit_length() if header else 9  # zeros before the first bit, and 1
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


def find_elements(
    file: BinaryIO, path: tuple[int, ...], start: int, end: int
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the content of each element of Matroska at a path of identities."""
    for identity, inner, inner_end in elements(file, start, end):
        if identity == path[0]:
            if len(path) == 1:
                yield inner, inner_end
            else:
                yield from find_elements(file, path[1:], inner, inner_end)
