"""Still images, as far as FFmpeg does not do them: orientation, and HEIC and AVIF as a whole."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from avsal.errors import MediaError
from avsal.media.view import EXIF, UPRIGHT, Matrix

if TYPE_CHECKING:
    from av.container import InputContainer

_HEIF_BRANDS = frozenset({"avif", "heic", "heix", "heim", "heis", "mif1", "mif2"})
_STILL_BRANDS = _HEIF_BRANDS | {"crx"}  # Canon's camera raw
_PICTURES = frozenset({"image2", "ico", "alias_pix", "brender_pix", "msp", "fits"})


def is_image(container: InputContainer) -> bool:
    """Tell whether a container is a still image."""
    name = container.format.name  # most of FFmpeg's image demuxers are png_pipe, jpeg_pipe, ...
    return name.endswith("_pipe") or name in _PICTURES or _brand(container) in _STILL_BRANDS


def is_heif(container: InputContainer) -> bool:
    """Tell whether a container is a still image of the HEIF family: HEIC or AVIF, no sequence."""
    return _brand(container) in _HEIF_BRANDS


def _brand(container: InputContainer) -> str:
    return container.metadata.get("major_brand", "").strip()


def still_orientation(path: Path) -> Matrix | None:
    """Return what the Exif tag of a still image asks for, None where Pillow cannot read it."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return EXIF.get(image.getexif().get(Base.Orientation, 1), UPRIGHT)
    except Exception:  # damaged files make Pillow raise almost anything
        return None


def heif_picture(path: Path | str) -> VideoFrame:
    """Decode a HEIC or AVIF still, RGB or with transparency RGBA, 8 bit.

    FFmpeg takes the tiles that a large one is made of, as those of an iPhone, for streams of their
    own, and hands on no mirroring.

    Raises:
        MediaError: it cannot be decoded, or is an address.
    """
    if not isinstance(path, Path):
        raise MediaError(f"{path}: is a HEIC or AVIF still; download the file and name that")
    _read_heic_too()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            mode = "RGBA" if image.has_transparency_data else "RGB"
            pixels = np.asarray(image.convert(mode))
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)
        cause = "damaged, or of an unknown kind" if unknown else " ".join(str(error).split())
        raise MediaError(f"{path}: cannot be decoded ({cause}); convert it to PNG") from error
    frame = VideoFrame.from_ndarray(pixels, format="rgba" if mode == "RGBA" else "rgb24")
    frame.pts = 0
    return frame


@lru_cache(maxsize=1)
def _read_heic_too() -> None:
    """Teach Pillow HEIC, which it omits because of the format's patents."""
    import pi_heif

    pi_heif.register_heif_opener()
