"""What a run was trained on, so that it resumes on the same data wherever they are stored."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avsal.datasets.recording import Recording
from avsal.errors import UsageError

DIGEST_BYTES = 8
# Fields that do not count: the gaze of other recordings, and the path of a table that was read.
IGNORED = ("elsewhere", "table")

Identities = list[list[str]]  # name and digest of each recording


def identities(recordings: Sequence[Recording]) -> Identities:
    """The recordings' names and digests, in order.

    A digest holds the recorded gaze that is in memory and the names and sizes of all files, but not
    their place and time: data may be moved or copied.
    """
    known: dict[int, list[str]] = {}
    for recording in recordings:
        if id(recording) not in known:
            name = f"{recording.database}/{recording.name}"
            known[id(recording)] = [name, _digest(recording)]
    return [known[id(recording)] for recording in recordings]


def require_same(before: Identities, now: Identities, kind: str, place: Path) -> None:
    """Refuse to resume a run with other data.

    Args:
        kind: "training" or "validation".
        place: of the checkpoint that is resumed from.

    Raises:
        UsageError: the data are others; the text names the first recording that differs.
    """
    if before == now:
        return
    if len(before) != len(now):
        found = f"{len(before)} {kind} recordings, not {len(now)}"
    else:
        old, new = next((a, b) for a, b in zip(before, now, strict=True) if a != b)
        found = f"other contents of {new[0]}" if old[0] == new[0] else f"{old[0]}, not {new[0]}"
        found = f"other {kind} data ({found})"
    raise UsageError(
        f"{place}: was made with {found}; resume with the same data, or start over with --fresh"
    )


def _digest(recording: Recording) -> str:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    _feed(digest, recording)
    for path in recording.source_files():
        _feed(digest, path)
    return digest.hexdigest()


def _feed(digest: Any, value: object) -> None:
    """Add a value to a digest: numbers and texts, arrays, files, and what is made of them."""
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Path):
        _feed_path(digest, value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.name not in IGNORED:
                _feed(digest, getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            _feed(digest, item)
    else:
        digest.update(repr(value).encode())
    digest.update(b"\n")


def _feed_path(digest: Any, path: Path) -> None:
    """Add names and sizes: of a file, or of the files in a folder."""
    if path.is_dir():
        for inside in sorted(path.iterdir()):
            if inside.is_file():
                digest.update(f"{inside.name} {inside.stat().st_size}\n".encode())
    elif path.is_file():
        digest.update(f"{path.name} {path.stat().st_size}".encode())
