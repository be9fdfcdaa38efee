"""The orientation tag of a JPEG photograph.

FFmpeg hands on at most the rotation of it (since version 8), never the mirroring.
"""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112  # tag number, Exif 2.32 section 4.6.4
_MARKER, _SCAN, _APP1 = 0xFF, 0xDA, 0xE1

# Exif orientation -> (a, b, c, d) of x' = a x + c y, y' = b x + d y, y pointing down.
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def orientation(jpeg: bytes) -> int:
    """Return the Exif orientation 1..8 of a JPEG file; 1, upright, where it has none."""
    position = 2
    while position + 4 <= len(jpeg) and jpeg[position] == _MARKER and jpeg[position + 1] != _SCAN:
        (size,) = struct.unpack_from(">H", jpeg, position + 2)
        segment = jpeg[position + 4 : position + 2 + size]
        if jpeg[position + 1] == _APP1 and segment.startswith(b"Exif\0\0"):
            try:
                return _from_tiff(segment[6:])
            except struct.error:  # cut short
                return 1
        position += 2 + size
    return 1


def _from_tiff(tiff: bytes) -> int:
    order = "<" if tiff.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == _ORIENTATION:
            return value if value in MATRICES else 1
    return 1
