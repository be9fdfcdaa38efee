"""Files and folders that appear under their name only when they are whole.

Work goes on under a hidden name beside the final one, which says which process made it. Whatever
goes wrong in between, the hidden one is removed; what a killed process left is swept by the next
run that writes in the same folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avsal.errors import AvsalError, OutputError

PARTIAL = ".avsal-partial"
_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
_NAME = re.compile(rf"{re.escape(PARTIAL)}\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.[0-9a-f]{{8}}")


def partial_path(final: Path) -> Path:
    """A hidden place beside `final` for what is not whole yet, with the same suffix.

    Its length does not depend on the final name's, which may be as long as the system allows.
    """
    token = f"{PARTIAL}.{_HOST}.{os.getpid()}.{secrets.token_hex(4)}"
    return final.parent / (token + final.suffix[:20])


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a place to write a file to; it becomes `path` if the block ends well, else it is gone.

    Raises:
        OutputError: the file cannot be written.
    """
    with write_errors(path):
        prepare_folder(path.parent)
        aside = partial_path(path)
        try:
            yield aside
            aside.replace(path)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `folder` if the block ends well, else it is gone.

    An older `folder` is replaced as a whole.

    Raises:
        OutputError: the folder cannot be written.
    """
    with write_errors(folder):
        prepare_folder(folder.parent)
        aside = partial_path(folder)
        aside.mkdir()
        try:
            yield aside
            _replace_folder(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _replace_folder(new: Path, final: Path) -> None:
    """Put a finished folder in its place; an older one there goes once the new one stands."""
    if not final.exists():
        new.replace(final)
        return
    old = partial_path(final)
    final.replace(old)
    try:
        new.replace(final)
    except OSError:
        old.replace(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file.

    Raises:
        OutputError: it cannot be written.
    """
    with new_file(path) as aside:
        aside.write_bytes(data)


def prepare_folder(folder: Path) -> None:
    """Make a folder with those above it, and sweep what killed processes left in it.

    Raises:
        OutputError: it cannot be made.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{PARTIAL}.*"):
            match = _NAME.match(path.name)
            if match and match["host"] == _HOST and not _runs(int(match["pid"])):
                _remove(path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def write_errors(place: Path) -> Iterator[None]:
    """Turn the system's refusal to write into one line that names the place.

    Raises:
        OutputError: the block raised OSError, or the name has characters that cannot be written.
    """
    try:
        yield
    except AvsalError:
        raise
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"{place}: cannot be written ({reason.lower()}); free space or choose another place"
        ) from error
