"""Caffe2 pickles of the SlowFast project, read without letting the pickle run code."""

from __future__ import annotations

import mmap
import pickle
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsal.errors import WeightsError
from avsal.weights.pickles import globals_of
from avsal.weights.reading import read_errors, require_weights
from avsal.weights.state import State


class _NumberType:
    """Stand-in for `numpy.dtype`, of plain numbers only."""

    def __init__(self, name: str, *_options: bool) -> None:
        self.dtype = np.dtype(str(name))
        if self.dtype.kind not in "fiub":
            raise pickle.UnpicklingError(f"values of type {self.dtype}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stand-in for `numpy.ndarray`: takes what a pickle says of an array, and makes none.

    numpy's own way back would believe whatever a file says about its memory.
    """

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, self.shape, number_type, self.by_columns, self.data = state
        self.dtype: np.dtype = number_type.dtype

    def values(self) -> np.ndarray:
        """The array, float32; raises ValueError where the data is not of its shape."""
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        flat = np.frombuffer(data, self.dtype).astype(np.float32)
        return flat.reshape(self.shape, order="F" if self.by_columns else "C")


def _reconstruct(_kind: Any, _shape: Any, _number_type: Any) -> _Array:
    return _Array()


def _to_bytes(text: str, encoding: str) -> Any:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes in Python 2's pickle format."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding}")
    return text  # `_Array` takes both


# Everything that a pickled array of numbers names; whatever else a file names is refused.
ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _NumberType,
    ("_codecs", "encode"): _to_bytes,
    **{(module, "_reconstruct"): _reconstruct for module in ARRAY_MODULES},
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows arrays of numbers and plain containers, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def read_blobs(path: Path) -> State:
    """Read the arrays of a Caffe2 checkpoint, {"blobs": {name: array}}, as tensors.

    Raises:
        WeightsError: the file cannot be read, is something else, or names other objects.
    """
    require_weights(path)
    with read_errors(path):
        try:
            return _tensors(_unpickled(path), path)
        except (WeightsError, OSError):
            raise
        except pickle.UnpicklingError as error:
            raise WeightsError(
                f"{path}: is no pickle of plain arrays ({error}), and others can run code, so it "
                "is refused; use the project's .pyth file"
            ) from None
        except Exception:  # whatever a damaged pickle may lead to
            raise WeightsError(f"{path}: damaged pickle; download it again") from None


def _unpickled(path: Path) -> Any:
    # A declared length is believed by `file.read`, but not by that of a mapped file.
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        deque(globals_of(content), maxlen=0)  # raises where it asks for too much
        content.seek(0)
        return _ArrayUnpickler(content, encoding="latin1").load()


def _tensors(content: Any, path: Path) -> State:
    blobs = content.get("blobs") if isinstance(content, Mapping) else None
    if not isinstance(blobs, Mapping):
        raise WeightsError(f"{path}: holds no Caffe2 blobs; use the project's .pyth file")
    arrays = {str(name): array for name, array in blobs.items() if isinstance(array, _Array)}
    if sum(len(array.data) for array in arrays.values()) > path.stat().st_size:
        raise WeightsError(f"{path}: its arrays are larger than the file; download it again")
    return {
        name: torch.from_numpy(array.values())
        for name, array in arrays.items()
        if array.dtype.kind == "f"
    }
