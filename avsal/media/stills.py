"""What FFmpeg does not do for still images: their orientation, and reading HEIC and AVIF."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from avsal.errors import MediaError
from avsal.media.view import EXIF, UPRIGHT, Matrix


def still_orientation(path: Path) -> Matrix | None:
    """Return the Exif orientation of a still image; None if Pillow cannot read it."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return EXIF.get(image.getexif().get(Base.Orientation, 1), UPRIGHT)
    except Exception:  # for damaged files, Pillow raises almost anything
        return None


def heif_picture(path: Path | str) -> VideoFrame:
    """Decode a HEIC or AVIF still image to 8-bit RGB, or RGBA if it has transparency.

    Large images, as from an iPhone, consist of tiles, which FFmpeg treats as separate streams. It
    also ignores mirroring.

    Raises:
        MediaError: it cannot be decoded, or is an address.
    """
    if not isinstance(path, Path):
        raise MediaError(f"{path}: is a HEIC or AVIF image; download the file and use that")
    _read_heic_too()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            mode = "RGBA" if image.has_transparency_data else "RGB"
            pixels = np.asarray(image.convert(mode))
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)
        cause = "damaged, or of an unknown type" if unknown else " ".join(str(error).split())
        raise MediaError(f"{path}: cannot be decoded ({cause}); convert it to PNG") from error
    frame = VideoFrame.from_ndarray(pixels, format="rgba" if mode == "RGBA" else "rgb24")
    frame.pts = 0
    return frame


@lru_cache(maxsize=1)
def _read_heic_too() -> None:
    """Register HEIC with Pillow, which omits it because of the format's patents."""
    import pi_heif

    pi_heif.register_heif_opener()
