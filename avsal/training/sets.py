"""The [[data.train]] and [[data.validation]] tables to recordings."""

from __future__ import annotations

import os
from pathlib import Path

from avsal.datasets import DatasetSpec, Recording, open_dataset
from avsal.errors import DataError
from avsal.training.config import SetSettings


def expand(text: str) -> Path:
    """A path as a person writes it, with ~ and environment variables."""
    return Path(os.path.expandvars(text)).expanduser()


def open_sets(sets: tuple[SetSettings, ...], split: str) -> list[Recording]:
    """List the recordings of sets, those of repeated sets several times.

    Args:
        split: the STAViS list of sets that name none, "train" or "test".

    Raises:
        DataError: a folder, a list or a file is missing or malformed.
    """
    return [recording for each in sets for recording in open_set(each, split) * each.repeat]


def open_set(settings: SetSettings, split: str) -> list[Recording]:
    """List the recordings of one set once; see `open_sets`."""
    root = expand(settings.root)
    recordings = open_dataset(
        DatasetSpec(
            root,
            settings.databases,
            settings.split or split,
            settings.fold,
            _path(settings.names),
            _path(settings.without),
            _path(settings.maps),
            _path(settings.fixations),
            settings.units,
            settings.degree or None,
        )
    )
    if not recordings:
        raise DataError(f"{root}: the lists leave nothing of this set; check names and without")
    return recordings


def _path(text: str) -> Path | None:
    return expand(text) if text else None
