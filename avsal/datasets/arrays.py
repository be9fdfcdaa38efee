"""Reading the files that data sets are made of, with errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avsal.errors import DataError

FIXATION_LEVEL = 127  # gray level above which a pixel of a picture of fixations counts as one
MAT_FIXATIONS = ("eyeMap", "fixLocs", "fixMap", "fixationPts", "I")  # variables with 0/1 matrices


def read_image(path: Path) -> np.ndarray:
    """Read a picture, uint8 (H, W, 3) RGB.

    Raises:
        DataError: the file is missing or damaged.
    """
    return cv2.cvtColor(_decoded(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_map(path: Path) -> np.ndarray:
    """Read a map of saliency, (H, W): gray levels of a picture, or the numbers of a .npy file.

    Raises:
        DataError: the file is missing or damaged, or holds no map.
    """
    if path.suffix != ".npy":
        return _decoded(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    try:
        values = np.load(_existing(path))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as an array; write it again") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2:
        raise DataError(f"{path}: holds no (height, width) array; save one map a file")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: holds values that are not finite; write it again")
    return values


def read_fixations(path: Path) -> np.ndarray:
    """Read fixations that are stored as a matrix or picture, bool (H, W).

    Args:
        path: .mat (a 0/1 matrix under one of `MAT_FIXATIONS`), .npy, or a picture whose fixated
            pixels are bright.

    Raises:
        DataError: the file is missing or damaged, or holds no fixations.
    """
    if path.suffix == ".mat":
        content = read_mat(path)
        name = next((name for name in MAT_FIXATIONS if name in content), None)
        if name is None:
            raise DataError(f"{path}: has no variable eyeMap; fixations are a 0/1 matrix of it")
        return _matrix(path, content[name]) > 0
    values = read_map(path)
    return values > 0 if path.suffix == ".npy" or values.max() <= 1 else values > FIXATION_LEVEL


def read_mat(path: Path) -> Mapping[str, Any]:
    """Read the variables of a MATLAB file.

    Raises:
        DataError: the file is missing or damaged, or SciPy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(f'{path}: .mat files need SciPy; pip install "avsal[train]"') from None
    try:
        return loadmat(_existing(path))
    except NotImplementedError:
        raise DataError(f"{path}: MATLAB 7.3 files are not read; save with -v7") from None
    except DataError:
        raise
    except Exception as error:  # SciPy raises whatever the broken bytes lead to
        raise DataError(f"{path}: damaged MATLAB file; get it again") from error


def read_lines(path: Path) -> list[str]:
    """Read a text file's lines, without empty ones.

    Raises:
        DataError: the file is missing or no text.
    """
    try:
        text = _existing(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text; check the file") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: missing; check the data set's layout")
    return path


def _decoded(path: Path, flags: int) -> np.ndarray:
    data = np.frombuffer(_existing(path).read_bytes(), np.uint8)
    picture = cv2.imdecode(data, flags) if data.size else None
    if picture is None:
        raise DataError(f"{path}: damaged picture; get it again")
    return picture


def _matrix(path: Path, values: Any) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype == object:
        raise DataError(f"{path}: its fixations are no (height, width) matrix of numbers")
    return values
