"""Errors that a person can act on: one line that names the file, the cause and the remedy."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(https?:/+)(?:[^\s/?#]*@)?([^\s?#]*)(?:[?#]\S*?)?(?=[:;,)]*(?:\s|$))", re.I)


def without_keys(text: str) -> str:
    """A text in which http(s) addresses have no user and no query: these often hold a key."""
    return _ADDRESS.sub(r"\1\2", text)


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
