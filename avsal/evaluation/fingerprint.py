"""What tells a recording and its files from changed ones, without reading videos or pictures."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avsal.datasets import Recording


def fingerprint(recording: Recording) -> str:
    """Digest of a recording's fields; files among them count by path, size and time of change."""
    digest = hashlib.sha256()
    for part in _parts(recording):
        digest.update(part + b"\0")
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Path):
        yield str(value.resolve()).encode()
        if value.is_file():
            status = value.stat()
            yield f"{status.st_size} {status.st_mtime_ns}".encode()
    elif isinstance(value, np.ndarray):
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, dict):
        return  # arrays of a packed file, which counts by its path
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _parts(each)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield field.name.encode()
            yield from _parts(getattr(value, field.name))
    else:
        yield repr(value).encode()
