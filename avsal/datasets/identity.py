"""Digests of recordings, which tell whether a data set is still the same."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from avsal.datasets.recording import Recording

_DIGEST_BYTES = 8


def recording_digest(
    recording: Recording, path_text: Callable[[Path], str], ignored: tuple[str, ...] = ()
) -> str:
    """Return a digest of a recording's fields and of all files that it is read from.

    Args:
        path_text: what counts of a file or folder, for example its name and size.
        ignored: fields that do not count, at any depth.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def add(value: Any) -> None:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Path):
            digest.update(path_text(value).encode("utf-8", "surrogateescape"))
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                if field.name not in ignored:
                    add(getattr(value, field.name))
        elif isinstance(value, tuple | list):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())
        digest.update(b"\n")

    add(recording)
    for path in recording.source_files():
        add(path)
    return digest.hexdigest()
