"""Files of weights without their tensors: checksum, metadata, and files that are not weights.

Importing this module does not import torch, so that finding weights is quick.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from avsal.errors import WeightsError

HASH_CHUNK = 1 << 20  # bytes
START = 512  # bytes, by which a file is recognised
TEXT_SHOWN = 60  # characters
# First bytes of files that are not weights, what such files are, and the remedy.
FOREIGN = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "git lfs pull it"),
    (b"/annex/objects/", "a pointer of git-annex, not the file itself", "git annex get it"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"BZh", "compressed by bzip2", "unpack it"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and use a file in it"),
    (b"Rar!", "a RAR archive", "unpack it and use a file in it"),
    (b"\x89HDF", "an HDF5 file, as Keras writes them", "get the PyTorch checkpoint"),
    (b"\x93NUMPY", "a NumPy array", "get the PyTorch checkpoint"),
)
TAR_MARK, TAR_BYTES = b"ustar", slice(257, 262)


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


def require_weights(path: Path) -> bytes:
    """Make sure that a path is a file which may hold weights, and give its first bytes.

    Raises:
        WeightsError: it is not, or cannot be read.
    """
    require_file(path)
    with read_errors(path), path.open("rb") as file:
        start = file.read(START)
    refuse_foreign(start, str(path))
    return start


def refuse_foreign(start: bytes, name: str) -> None:
    """Refuse a file that is often saved by mistake in place of weights.

    Raises:
        WeightsError: the first bytes are those of another kind of file.
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
    """Make sure that a file does not change while the block reads it.

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
    """Report in one line why a file cannot be read.

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
