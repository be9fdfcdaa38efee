"""Files and folders that appear under their name only when they are whole.

What is being written has a hidden name next to the final one, which tells the process that writes
it. Whatever goes wrong in between, it is removed. What a killed process left is removed by the next
process that writes into the same folder.

A command replaces and removes only files that it wrote itself, see `check_replaceable`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath

from avsal.errors import AvsalError, OutputError, UsageError, cause_of

PARTIAL = ".avsal-partial"
_NAME = re.compile(rf"{re.escape(PARTIAL)}\.(?P<host>[\w-]+)\.(?P<pid>\d+)\.[0-9a-f]{{8}}", re.A)
# Gives the names of the files in a folder that a command wrote there: judged by what they hold, not
# only by what they are called. Never raises AvsalError.
Written = Callable[[Path], Collection[str]]

_TRIES = 100  # another process may put its result in the same place between two steps
_LOOKS = 3  # as between two steps of one look
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_FULL = (errno.ENOSPC, errno.EDQUOT)

_swept: set[Path] = set()  # folders that this process has tidied; listing large ones takes time


def _host() -> str:
    """The machine and, where processes are numbered apart in containers, the container."""
    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
    with suppress(OSError):
        return f"{name}-{Path('/proc/self/ns/pid').stat().st_ino}"
    return name


_HOST = _host()


def path_part(name: str) -> str:
    """Return a name that a file or a list gives, once it is safe as one part of a path.

    It is the same on every system, so that results can be moved from one to another.

    Raises:
        UsageError: it is empty, leads to another folder, or has control characters.
    """
    if not name.strip(" .") or PureWindowsPath(name).name != name:
        reason = "it is empty, or leads to another folder"
    elif any(unicodedata.category(character) == "Cc" for character in name):
        reason = "it has control characters"
    else:
        return name
    raise UsageError(f"{name!r}: cannot name a file ({reason}); rename it where it is listed")


def partial_path(final: Path) -> Path:
    """A hidden path next to `final` for a partial file or folder, with the same suffix.

    Its length does not depend on the final name's, which may be as long as the system allows.
    """
    token = f"{PARTIAL}.{_HOST}.{os.getpid()}.{secrets.token_hex(4)}"
    return final.parent / (token + final.suffix[:20])


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a place to write a file to; it becomes `path` if the block ends well, else it is gone.

    Raises:
        OutputError: the file cannot be written; found out before the block where possible.
    """
    with write_errors(path):
        prepare_folder(path.parent)
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if mode is not None and not stat.S_ISREG(mode):
            raise OutputError(f"{path}: is a pipe or a device; give the name of a file")
        aside = partial_path(path)
        try:
            aside.open("xb").close()
            yield aside
            aside.replace(path)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path, written: Written = lambda _folder: ()) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `folder` if the block ends well, else it is gone.

    Args:
        folder: a link to a folder stays one, and the folder that it leads to is replaced.
        written: an older folder is replaced as a whole where it holds nothing but these.

    Raises:
        OutputError: the folder cannot be written, or holds other files; found out before the block
            where possible.
    """
    with write_errors(folder):
        check_replaceable(folder, written)
        final = folder.resolve() if folder.is_symlink() else folder
        prepare_folder(final.parent)
        aside = partial_path(final)
        try:
            aside.mkdir()
            yield aside
            check_replaceable(folder, written)  # the block may have taken hours
            _replace_folder(aside, final, written)
        except OutputError as error:  # of a file inside; nobody knows the hidden name
            raise OutputError(str(error).replace(str(aside), str(folder))) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def check_replaceable(folder: Path, written: Written, names: Collection[str] | None = None) -> None:
    """Refuse to replace or remove what the command did not write.

    Args:
        names: what is to be replaced in the folder; None for the folder as a whole.

    Raises:
        OutputError: there is something else, or a file in the folder's place.
    """
    with write_errors(folder):
        mode = _mode(folder)
        if mode is None:
            return
        if not stat.S_ISDIR(mode):
            raise OutputError(
                f"{folder}: a file is in the way; move it away or choose another output"
            )
        foreign = _foreign(folder, written, names)
        if foreign:
            raise OutputError(
                f"{folder}: holds {foreign[0]}, so it is not an earlier result that may be "
                "replaced; move that away or choose another output"
            )


def _foreign(folder: Path, written: Written, names: Collection[str] | None) -> list[str]:
    """Names of what a command did not write, sorted."""
    for _ in range(_LOOKS):
        there: set[str] = set()
        with suppress(FileNotFoundError):
            there = {path.name for path in folder.iterdir()}
        foreign = (there if names is None else there & set(names)) - set(written(folder))
        if not foreign:
            break
    return sorted(foreign)


def _mode(path: Path) -> int | None:
    """What kind of thing is there, None for nothing; one look, as another process may exchange it.

    Raises OSError for a name that the file system refuses.
    """
    for look in (path.stat, path.lstat):  # the second finds a link that leads nowhere
        with suppress(FileNotFoundError, NotADirectoryError):
            return look().st_mode
    return None


def _replace_folder(new: Path, final: Path, written: Written) -> None:
    """Put a finished folder in its place; an older one there goes once the new one stands."""
    old = partial_path(final)
    for _ in range(_TRIES):
        try:
            new.replace(final)
            break
        except OSError as error:
            if error.errno not in _OCCUPIED:
                _put_back(old, final)
                raise
        _remove_old(old, final, written)
        with suppress(FileNotFoundError):
            final.replace(old)
    else:
        _put_back(old, final)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    _remove_old(old, final, written)


def _remove_old(old: Path, final: Path, written: Written) -> None:
    """Remove a replaced folder; what somebody put there since it was checked moves to the new."""
    if not old.exists():
        return
    own = set(written(old))
    for path in list(old.iterdir()):
        if path.name in own:
            _remove(path)
        elif not os.path.lexists(final / path.name):
            path.replace(final / path.name)
    with suppress(OSError):
        old.rmdir()


def _put_back(old: Path, final: Path) -> None:
    with suppress(OSError):
        old.replace(final)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file.

    Raises:
        OutputError: it cannot be written.
    """
    with new_file(path) as aside:
        aside.write_bytes(data)


def prepare_folder(folder: Path) -> None:
    """Make a folder with those above it, and remove what killed processes left in it.

    Raises:
        OutputError: it cannot be made.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if (place := folder.resolve()) not in _swept:
            _swept.add(place)
            sweep(folder)


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left in a folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(PARTIAL)]
    except FileNotFoundError:
        return
    for name in names:
        match = _NAME.match(name)
        if match and match["host"] == _HOST and not _runs(int(match["pid"])):
            _remove(folder / name)


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process
        return True
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
    except UnicodeEncodeError as error:
        raise OutputError(
            f"{place}: this name cannot be written in the system's encoding ({error.encoding}); "
            "set PYTHONUTF8=1 or choose another place"
        ) from error
    except OSError as error:
        reason = cause_of(error)
        remedy = "free space or choose" if error.errno in _FULL else "choose"
        raise OutputError(
            f"{place}: cannot be written ({reason.lower()}); {remedy} another place"
        ) from error
