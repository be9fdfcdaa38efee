"""Errors that a person can act on: one line that names the file, the cause and the remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_ADDRESS = re.compile(r"(https?:/+)(?:[^\s/?#]*@)?([^\s?#]*)(?:[?#]\S*?)?(?=[:;,)]*(?:\s|$))", re.I)


def without_keys(text: str) -> str:
    """A text in which http(s) addresses have no user and no query: these often hold a key."""
    return _ADDRESS.sub(r"\1\2", text)


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """ "; did you mean png?" for the known word that is most similar; empty where none is.

    Args:
        prefix: begins every word and says nothing of how similar they are.
    """
    words = [each.removeprefix(prefix) for each in known]
    matches = get_close_matches(word.lower().removeprefix(prefix), words, 1)
    return f"; did you mean {prefix}{matches[0]}?" if matches else ""


class AvsalError(Exception):
    """Base of every error that avsal raises on purpose; its text is one complete line."""

    exit_code = 1

    def __str__(self) -> str:
        return without_keys(super().__str__())


class UsageError(AvsalError):
    """The request itself cannot be carried out, whatever the files hold."""

    exit_code = 2


class MediaError(AvsalError):
    """A media file cannot be read or written."""


class OutputError(AvsalError):
    """A result cannot be written where it was asked for."""


class WeightsError(AvsalError):
    """Weights are missing, damaged or of another network."""


class DataError(AvsalError):
    """A data set for training or evaluation is incomplete or malformed."""


def path_of(what: str, given: object) -> Path:
    """The path that a caller gave.

    Args:
        what: the argument's name, for the message.

    Raises:
        UsageError: it is something else.
    """
    path = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(path, str):
        raise UsageError(
            f"{what} has the type {type(given).__name__}; give one path, as str or Path"
        )
    if not path or "\0" in path:
        raise UsageError(f"{what} {path!r}: cannot be the name of a file; give another path")
    return Path(path)


def cause_of(error: Exception) -> str:
    """What went wrong, without the number and the path that Python adds to errors of the system."""
    return str(getattr(error, "strerror", None) or error)


def exists(path: Path) -> bool:
    """Whether there is a file or folder that can be reached. In a folder that the user may not
    enter, such as the home of another one, there is none, and `Path.exists` may fail."""
    return os.access(path, os.F_OK)


def require_file(path: Path, what: str) -> None:
    """Refuse a pipe or a device, because reading from it could block forever.

    Args:
        what: what the file should be, for the message.

    Raises:
        DataError: the path exists and is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is not a regular file; put the {what} itself there")
