"""Scores of single recordings on disk, so that an evaluation resumes, and what makes them stale."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avsal import atomic
from avsal.datasets.recording import Recording
from avsal.evaluation.scoring import MethodScores


@dataclass(frozen=True)
class RecordingScores:
    """Scores of one video or picture.

    Attributes:
        database: or image set, or table of gaze.
        fold: "1", "2" or "3"; empty where there are no folds.
        frames: how many were scored; those without fixations are omitted.
        scores: means over the frames, by method and metric.
    """

    database: str
    fold: str
    name: str
    frames: int
    scores: MethodScores


def load_scores(
    folder: Path, database: str, fold: str, name: str, made_with: dict[str, Any]
) -> RecordingScores | None:
    """The scores of a recording that are in `folder`; None if there are none with `made_with`."""
    try:
        found = json.loads(_path(folder, database, fold, name).read_text(encoding="utf-8"))
        if found["made_with"] == json.loads(json.dumps(made_with)):
            return RecordingScores(**found["result"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def save_scores(folder: Path, result: RecordingScores, made_with: dict[str, Any]) -> None:
    """Write the scores of a recording into `folder`; raises OutputError."""
    content = {"made_with": made_with, "result": asdict(result)}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path = _path(folder, result.database, result.fold, result.name)
    atomic.check_replaceable(path.parent, lambda _folder: _written(path), (path.name,))
    atomic.write_bytes(path, text.encode())


def _written(path: Path) -> set[str]:
    """The name of a file if it holds the scores of a recording."""
    try:
        found = json.loads(path.read_bytes())
        return {path.name} if {"made_with", "result"} <= set(found) else set()
    except (OSError, ValueError, TypeError, RecursionError):
        return set()


def _path(folder: Path, database: str, fold: str, name: str) -> Path:
    return folder / "results" / (f"fold{fold}" if fold else "") / relative_path(database, name)


def relative_path(database: str, name: str) -> Path:
    """Where the scores of a recording are below those of its fold.

    Raises:
        UsageError: a name leads out of there, or cannot name a file.
    """
    parts = [part for text in (database, f"{name}.json") for part in text.split("/")]
    return Path(*map(atomic.path_part, parts))


def digest(values: Any) -> str:
    """sha256 of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def file_identities(paths: Iterable[Path]) -> str:
    """Digest of files by path, size and time of change; none of them is read."""
    found = hashlib.sha256()
    for path in paths:
        found.update(_identity(path) + b"\0")
    return found.hexdigest()


def recording_identity(recording: Recording) -> str:
    """Digest of a recording's fields and of the identities of all files that it is read from."""
    found = hashlib.sha256()
    for part in _parts(recording):
        found.update(part + b"\0")
    for path in recording.source_files():
        found.update(_identity(path) + b"\0")
    return found.hexdigest()


def _identity(path: Path) -> bytes:
    name = str(path.absolute()).encode("utf-8", "surrogateescape")
    try:
        status = path.stat()
    except OSError:
        return name  # a missing file is told by whoever reads it
    return name + f" {status.st_size} {status.st_mtime_ns}".encode()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Path):
        # The time of a folder says nothing about what is in it.
        yield str(value.absolute()).encode() if value.is_dir() else _identity(value)
    elif isinstance(value, np.ndarray):
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield field.name.encode()
            yield from _parts(getattr(value, field.name))
    else:
        yield repr(value).encode()
