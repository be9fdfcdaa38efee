"""Caffe2 pickles of the SlowFast project, read without letting the pickle run code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsal.errors import WeightsError
from avsal.weights.reading import read_errors
from avsal.weights.state import State


def _to_bytes(text: str, encoding: str) -> bytes:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes in Python 2's pickle format."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding}")
    return text.encode(encoding)


# Everything that a pickled array of numbers needs; whatever else a file names is refused.
ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _to_bytes,
    **{(module, "_reconstruct"): np.empty(0).__reduce__()[0] for module in ARRAY_MODULES},
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows numpy arrays and plain containers, nothing else."""

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
    with read_errors(path), path.open("rb") as file:
        try:
            content = _ArrayUnpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError as error:
            raise WeightsError(
                f"{path}: is no pickle of plain arrays ({error}), and others can run code, so it "
                "is refused; use the project's .pyth file"
            ) from None
        except (EOFError, LookupError, ValueError, TypeError, AttributeError, UnicodeError):
            raise WeightsError(f"{path}: damaged pickle; download it again") from None
    blobs = content.get("blobs") if isinstance(content, Mapping) else None
    if not isinstance(blobs, Mapping):
        raise WeightsError(f"{path}: holds no Caffe2 blobs; use the project's .pyth file")
    return {
        str(name): torch.from_numpy(np.array(array, dtype=np.float32))
        for name, array in blobs.items()
        if isinstance(array, np.ndarray) and array.dtype.kind == "f"
    }
