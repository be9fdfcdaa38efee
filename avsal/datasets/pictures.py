"""Single files of data sets: pictures, maps and MATLAB fixations, with errors that name them."""

from __future__ import annotations

import io
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from avsal.datasets.gaze import Points
from avsal.errors import DataError

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MATLAB = ".mat"
# Names that data sets give the fixations inside a .mat file.
MASK_VARIABLES = ("eyeMap", "fixLocs", "fixation", "fixations", "I")
HELD_MASKS = 50_000  # masks kept as pixel indices: the frames of a video are asked for twice


def read_picture(source: Path | bytes, name: str = "") -> np.ndarray:
    """Read a picture as uint8 (H, W, 3) RGB.

    Args:
        source: a file, or a file's content.
        name: what an error calls the content.

    Raises:
        DataError: it is missing or damaged.
    """
    return _decode(source, name, "RGB")


def read_gray(source: Path | bytes, name: str = "") -> np.ndarray:
    """Read a map or a mask as (H, W) of its own type: 8 or 16 bit, or float32 of a .npy file.

    Raises:
        DataError: see `read_picture`.
    """
    if isinstance(source, Path) and source.suffix == ".npy":
        return _read_npy(source)
    return _decode(source, name, None)


def _read_npy(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from None
    if values.ndim != 2:
        raise DataError(f"{path}: an array of shape {values.shape}; a map is (height, width)")
    return np.asarray(values, np.float32)


def _decode(source: Path | bytes, name: str, mode: str | None) -> np.ndarray:
    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as image:
            if mode is None:
                mode = image.mode if image.mode in ("L", "I", "I;16") else "L"
            return np.array(image.convert(mode))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise _unreadable(source if isinstance(source, Path) else name, error) from None


def _unreadable(place: Path | str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{place}: missing; complete the data set or leave this item out")
    text = " ".join(str(error).split())[:120]
    return DataError(f"{place}: cannot be read ({text}); get the file again")


@lru_cache(maxsize=HELD_MASKS)
def _mask_pixels(path: Path, _changed: int) -> tuple[tuple[int, int], np.ndarray]:
    """Shape and flat indices of the marked pixels of a mask in a .mat file."""
    variables = _load_mat(path)
    values = next((variables[name] for name in MASK_VARIABLES if name in variables), None)
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "buif":
        found = ", ".join(name for name in variables if not name.startswith("__")) or "nothing"
        raise DataError(
            f"{path}: holds {found}; a mask called {' or '.join(MASK_VARIABLES[:2])} is needed"
        )
    return (values.shape[0], values.shape[1]), np.flatnonzero(values).astype(np.int32)


def read_mask(path: Path) -> np.ndarray:
    """Read fixations, bool (H, W), from a .mat or .npy file or a picture of white points.

    Raises:
        DataError: see `read_picture`; or a .mat file without a mask.
    """
    if path.suffix != MATLAB:
        gray = read_gray(path)
        # Points drawn into a JPEG have weak halos, a PNG's are as bright as they were written.
        return gray > (gray.max() / 2 if path.suffix.lower() in (".jpg", ".jpeg") else 0)
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

    Returns None for a .mat file that is not of this kind.
    """
    variables = _load_mat(path)
    if "gaze" not in variables or "resolution" not in variables:
        return None
    height, width = (int(n) for n in variables["resolution"].ravel())
    places, observers = [], []
    for observer, each in enumerate(variables["gaze"].ravel()):
        found = np.asarray(each["fixations"], np.float64).reshape(-1, 2)
        places.append((found - 0.5) / (width, height))  # counted from 1, at pixel centres
        observers.append(np.full(len(found), observer))
    everything = np.concatenate([np.zeros((0, 2)), *places])
    return Points.inside(everything, np.concatenate([np.zeros(0, int), *observers])), (
        height,
        width,
    )


def _load_mat(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError:
        raise DataError(f'{path}: reading it needs scipy; pip install "avsal[train]"') from None
    try:
        variables: dict[str, Any] = loadmat(path)
    except NotImplementedError:
        raise DataError(f"{path}: MATLAB 7.3 files are not read; save it with -v7") from None
    except (
        MatReadError,
        OSError,
        ValueError,
        TypeError,
        IndexError,
        zlib.error,
    ) as error:
        raise _unreadable(path, error) from None
    return variables
