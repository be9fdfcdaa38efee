"""What can be learned about a weights file without its tensors: checksum, metadata, file type.

This module does not import torch, so that finding weights is fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from avsal.errors import WeightsError

START = 512  # bytes at the beginning of a file that identify its type
TEXT_SHOWN = 60  # characters
# Files that are often mistaken for weights: their first bytes, what they are, and the remedy.
FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer, not the file itself", "run git annex get"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"BZh", "compressed by bzip2", "unpack it"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and use a file in it"),
    (b"Rar!", "a RAR archive", "unpack it and use a file in it"),
    (b"\x89HDF", "an HDF5 file, as written by Keras", "get the PyTorch checkpoint"),
    (b"\x93NUMPY", "a NumPy array", "get the PyTorch checkpoint"),
)
TAR_MARK, TAR_BYTES = b"ustar", slice(257, 262)


def sha256_of(path: Path) -> str:
    """Compute the sha256 of a file, as `sha256sum` prints it."""
    require_file(path)
    with read_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: Path) -> None:
    """Check that a path is a regular file; opening a pipe or a device could block for ever.

    Raises:
        WeightsError: it is not.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is not a regular file"
        raise WeightsError(f"{path}: {kind if path.exists() else 'no such file'}")


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file, without its tensors.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    require_file(path)
    with read_errors(path), safe_open(path, "np") as file:
        return dict(file.metadata() or {})


def require_weights(path: Path) -> bytes:
    """Check that a file may contain weights, and return its first bytes.

    Raises:
        WeightsError: it cannot, or it cannot be read.
    """
    require_file(path)
    with read_errors(path), path.open("rb") as file:
        start = file.read(START)
    refuse_foreign(start, str(path))
    return start


def refuse_foreign(start: bytes, name: str) -> None:
    """Refuse a file that is often saved by mistake instead of weights.

    Raises:
        WeightsError: the first bytes are those of another file type.
    """
    for mark, what, remedy in FOREIGN:
        if start.startswith(mark):
            raise WeightsError(f"{name}: is {what}; {remedy}, or download it again")
    if start[TAR_BYTES] == TAR_MARK:
        raise WeightsError(f"{name}: is a tar archive; unpack it and use a file in it")
    if not start:
        raise WeightsError(f"{name}: is empty; download it again")
    text = "" if b"\0" in start else " ".join(start.decode("utf-8", "replace").split())
    if text.startswith("<"):
        raise WeightsError(
            f"{name}: is a web page, neither safetensors nor a PyTorch checkpoint; download it "
            "again, in a browser if a login is needed"
        )
    if text.startswith(("{", "[")) and text.isprintable():
        raise WeightsError(
            f"{name}: is JSON text, not weights ({text[:TEXT_SHOWN]}); check where it is from and "
            "download it again"
        )


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Check that a file does not change while the `with` block reads it.

    Raises:
        WeightsError: the file was written to or replaced in the meantime.
    """
    before = _version_of(path)
    yield
    if _version_of(path) != before:
        raise WeightsError(f"{path}: changed while it was being read; try again")


def _version_of(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # the reader will report why
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def archive_of(names: list[str]) -> str:
    """Describe a zip archive that is not a checkpoint, and the remedy, for an error message."""
    files = listed([name for name in names if not name.endswith("/")]) or "empty"
    return f"is a zip archive ({files}), not a checkpoint; unpack it and use a file in it"


def listed(names: Sequence[str], limit: int = 3) -> str:
    """Join the first names for a message."""
    return ", ".join([*names[:limit], *(["..."] if len(names) > limit else [])])


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into a WeightsError of one line.

    Raises:
        WeightsError: the block raised OSError, or the safetensors file is damaged.
    """
    try:
        yield
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: damaged safetensors file ({error}); download or import it again"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from None
