"""What a run was trained on, so that it resumes on the same data wherever they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avsal.datasets.identity import recording_digest
from avsal.datasets.recording import Recording
from avsal.errors import UsageError

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
            known[id(recording)] = [name, recording_digest(recording, _path_text, IGNORED)]
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


def _path_text(path: Path) -> str:
    """Name and size of a file, or of the files in a folder."""
    if path.is_dir():
        files = (inside for inside in sorted(path.iterdir()) if inside.is_file())
        return "".join(f"{inside.name} {inside.stat().st_size}\n" for inside in files)
    return f"{path.name} {path.stat().st_size}" if path.is_file() else ""
