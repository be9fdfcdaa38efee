"""The boxes that an MP4 or QuickTime file is made of, ISO/IEC 14496-12 section 4.2."""

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
