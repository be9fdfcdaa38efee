"""File name suffixes: which files are taken for media in a folder, and what can be written."""

from __future__ import annotations

from pathlib import Path

from avsal.errors import UsageError

VIDEOS = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .webm .wmv".split()
)
PLAIN_STILLS = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())  # also in data sets
STILLS = PLAIN_STILLS | {".avif", ".heic", ".heif"}

# FFmpeg's muxers that keep arbitrary frame times and hold H.264.
MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
WRITABLE_STILLS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


def muxer_of(path: Path) -> str:
    """Return the name of FFmpeg's muxer for a video to be written.

    Raises:
        UsageError: videos cannot be written with this suffix.
    """
    try:
        return MUXERS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(MUXERS)
        raise UsageError(
            f"{path}: a video cannot be written with this suffix; use one of {known}"
        ) from None
