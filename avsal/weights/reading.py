"""Files of weights without their tensors: checksum, metadata, what is wrong with them.

Importing this does not import torch, so that looking for weights stays quick.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from avsal.errors import WeightsError

HASH_CHUNK = 1 << 20  # bytes


def sha256_of(path: Path) -> str:
    """Compute the sha256 of a file, as `sha256sum` prints it."""
    require_file(path)
    digest = hashlib.sha256()
    with read_errors(path), path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def require_file(path: Path) -> None:
    """Make sure that a path is a file; opening a pipe or a device could wait for ever.

    Raises:
        WeightsError: it is not.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is no regular file"
        raise WeightsError(f"{path}: {kind if path.exists() else 'no such file'}")


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file, without its tensors.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    require_file(path)
    with read_errors(path), safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Make sure that everything the block reads from a file, it reads from one version of it.

    Raises:
        WeightsError: the file was written to or replaced meanwhile.
    """
    before = _version_of(path)
    yield
    if _version_of(path) != before:
        raise WeightsError(f"{path}: was changed while it was read; try again")


def _version_of(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # whoever reads it says why
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def archive_of(names: list[str]) -> str:
    """What to do with an archive that is no checkpoint, for a message."""
    files = [name for name in names if not name.endswith("/")]
    shown = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    return (
        f"is a zip archive ({shown or 'empty'}), not a checkpoint; unpack it and use a file in it"
    )


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Tell in one line what is wrong with a file that cannot be read.

    Raises:
        WeightsError: the block raised OSError, or found no whole safetensors file.
    """
    try:
        yield
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: damaged safetensors file ({error}); download or import it again"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from None
