"""Reads single files of data sets: pictures, maps and masks of fixations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from avsal.datasets.gaze import Points
from avsal.datasets.matlab import read_matlab
from avsal.errors import DataError, require_file
from avsal.media.display import over_black
from avsal.media.source import LARGEST_PICTURE
from avsal.media.view import in_8_bits

# Pillow warns above one size and fails above another; LARGEST_PICTURE is the limit here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)  # it is shown as stored

MATLAB = ".mat"
# Names of the fixations inside .mat files, as different data sets have them.
MASK_VARIABLES = ("eyeMap", "fixLocs", "fixation", "fixations", "I")
MOST_MARKED = 0.5  # fraction of a mask's pixels
GRAY = ("L", "I", "I;16", "F")  # Pillow's modes of gray pictures
COLOURFUL = 32  # of 255 levels; in a gray JPEG the channels differ by less
CACHED_MASKS = 50_000  # kept as pixel indices, because the frames of a video are read twice


def read_picture(path: Path) -> np.ndarray:
    """Read a picture as uint8 (H, W, 3) RGB, as `avsal.media` shows it.

    Raises:
        DataError: it is missing or damaged.
    """
    return _decode(path, _shown)


def read_gray(path: Path) -> np.ndarray:
    """Read a map or a mask as (H, W): 8 or 16 bit as in the file, or float32 of a .npy file.

    Raises:
        DataError: see `read_picture`.
    """
    if path.suffix.lower() == ".npy":
        return _read_npy(path)
    return _decode(path, lambda image: _gray(image, path))


def read_density(path: Path) -> np.ndarray:
    """Read a saliency map or a map of recorded gaze as `read_gray` does.

    Raises:
        DataError: see `read_picture`; or it has values that are negative or not finite.
    """
    return _require_density(read_gray(path), path)


def _require_density(values: np.ndarray, path: Path) -> np.ndarray:
    """Refuse negative and non-finite values, for which scores have no meaning."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{path}: has values that are not finite (NaN or infinity); make it again")
    if values.dtype.kind in "if" and values.min() < 0:
        raise DataError(
            f"{path}: has negative values ({values.min():.4g} to {values.max():.4g}); a map is a "
            "density: for log-densities give the exponential, for z-scores the original map"
        )
    return values


def _read_npy(path: Path) -> np.ndarray:
    require_file(path, "map or picture")
    try:
        # With memory mapping, a header that gives a larger size than the file's is an error.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header can cause any
        raise _unreadable(path, error) from None
    if not isinstance(values, np.ndarray):
        raise DataError(f"{path}: holds several arrays (npz); a map is one of (height, width)")
    if values.ndim != 2 or not values.size or values.dtype.kind not in "buif":
        raise DataError(
            f"{path}: an array of shape {values.shape} and type {values.dtype}; a map is (height, "
            "width) numbers"
        )
    _require_usable(path, values.shape)
    return np.array(values, np.float32)


def _decode(path: Path, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    require_file(path, "map or picture")
    try:
        with Image.open(path) as image:
            _require_usable(path, image.size)
            return convert(image)
    except DataError:
        raise
    except Exception as error:  # a damaged file can cause any
        raise _unreadable(path, error) from None


def _shown(image: Image.Image) -> np.ndarray:
    """RGB of a picture that is turned, with 8 bits, and over black where it is transparent."""
    pixels = in_8_bits(ImageOps.exif_transpose(image))
    return over_black(pixels) if pixels.shape[2] == 4 else np.array(pixels)


def _gray(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode in GRAY:
        return np.array(image)
    if image.mode.startswith("I;16"):  # with another byte order
        return np.array(image.convert("I"))
    channels = np.array(image.convert("RGB")).astype(np.int16)
    if np.ptp(channels, axis=2).max() > COLOURFUL:
        raise DataError(f"{path}: is in colour; give the map as gray levels, not as a heatmap")
    return np.array(image.convert("L"))


def require_size(path: Path, values: np.ndarray, size: tuple[int, ...], other: object) -> None:
    """Refuse a map or mask that is not of the (height, width) of `other`, which belongs to it."""
    if values.shape != size:
        raise DataError(
            f"{path}: {values.shape[1]}x{values.shape[0]} pixels, but {other} has "
            f"{size[1]}x{size[0]}; get both from the same source"
        )


def _require_usable(path: Path, size: tuple[int, ...]) -> None:
    if min(size) < 1:
        raise DataError(f"{path}: {size[0]}x{size[1]} values; an empty map cannot be used")
    if size[0] * size[1] > LARGEST_PICTURE:
        raise DataError(
            f"{path}: {size[0]}x{size[1]} values; at most {LARGEST_PICTURE} can be used"
        )


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: missing; complete the data set or omit this item")
    text = " ".join(str(error).split())[:120]
    return DataError(f"{path}: cannot be read ({text}); get the file again")


@lru_cache(maxsize=CACHED_MASKS)
def _mask_pixels(path: Path, _changed: int) -> tuple[tuple[int, int], np.ndarray]:
    """Shape and flat indices of the marked pixels of a mask in a .mat file."""
    variables = _load_mat(path)
    values = next((variables[name] for name in MASK_VARIABLES if name in variables), None)
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "buif":
        names = ", ".join(variables) or "nothing"
        raise DataError(
            f"{path}: holds {names}; a mask called {' or '.join(MASK_VARIABLES[:2])} is needed"
        )
    _require_usable(path, values.shape)
    marked = _marked(_require_density(values, path), path)
    return (values.shape[0], values.shape[1]), np.flatnonzero(marked).astype(np.int32)


def _marked(values: np.ndarray, path: Path) -> np.ndarray:
    """The fixated pixels of a mask, bool; refuses an array that is not a mask of points."""
    # JPEG compression adds weak halos around points; other formats keep the written values.
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    marked: np.ndarray = values > (values.max() / 2 if jpeg else 0)
    count = np.count_nonzero(marked)
    if count > MOST_MARKED * marked.size:
        raise DataError(
            f"{path}: marks {count} of {marked.size} pixels; a mask of fixations has single points "
            "and is 0 elsewhere (is it a map, or inverted?)"
        )
    return marked


def read_mask(path: Path) -> np.ndarray:
    """Read fixations, bool (H, W), from a .mat or .npy file or a picture of white points.

    Raises:
        DataError: see `read_picture`; or it has no mask.
    """
    if path.suffix.lower() != MATLAB:
        return _marked(read_density(path), path)
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise _unreadable(path, error) from None
    shape, marked = _mask_pixels(path, changed)
    mask = np.zeros(shape, bool)
    mask.ravel()[marked] = True
    return mask


def read_salicon(path: Path) -> tuple[Points, tuple[int, int]] | None:
    """Read the observers' fixations of a SALICON .mat file, and the picture's (H, W).

    Returns None for other .mat files.

    Raises:
        DataError: it is damaged.
    """
    variables = _load_mat(path)
    if "gaze" not in variables or "resolution" not in variables:
        return None
    try:
        height, width = (int(n) for n in variables["resolution"].ravel())
        _require_usable(path, (height, width))
        places, observers = [np.zeros((0, 2))], [np.zeros(0, int)]
        for observer, record in enumerate(variables["gaze"]):
            pixels = np.asarray(record["fixations"], np.float64).reshape(-1, 2)
            places.append((pixels - 0.5) / (width, height))  # pixel centres, numbered from 1
            observers.append(np.full(len(pixels), observer))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unreadable(path, error) from None
    points = Points.inside(np.concatenate(places), np.concatenate(observers))
    return points, (height, width)


def _load_mat(path: Path) -> dict[str, Any]:
    require_file(path, "map or picture")
    try:
        return read_matlab(path)
    except (OSError, MemoryError) as error:
        raise _unreadable(path, error) from None
