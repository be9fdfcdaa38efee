"""Which recordings are averaged together: the databases of a data set, fold by fold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from avsal.datasets import DatasetSpec, Recording, open_dataset
from avsal.datasets.stavis import DATABASES, FOLDS, is_stavis
from avsal.errors import DataError, UsageError

ALL = "all"


@dataclass(frozen=True)
class Group:
    """Recordings that are averaged together.

    Attributes:
        name: database, image set or table of gaze.
        fold: "1", "2" or "3"; empty where there are no folds.
    """

    name: str
    recordings: tuple[Recording, ...]
    fold: str = ""


def open_groups(spec: DatasetSpec) -> list[Group]:
    """A data set without folds; raises DataError."""
    return _by_database(open_dataset(spec), "")


def open_folds(spec: DatasetSpec, folds: tuple[int, ...]) -> list[Group]:
    """The test parts of a STAViS layout; raises DataError."""
    if not is_stavis(spec.root):
        raise DataError(f"{spec.root / 'fold_lists'}: missing; --data needs the STAViS layout")
    groups = []
    for fold in folds:
        groups += _by_database(open_dataset(replace(spec, fold=fold)), str(fold))
    return groups


def parse_databases(text: str) -> tuple[str, ...]:
    """Read the name of a database; "all" gives none, which stands for those that are there.

    Raises:
        UsageError: no such database.
    """
    if text == ALL:
        return ()
    if text not in DATABASES:
        raise UsageError(f"database {text}: give {', '.join(DATABASES)} or {ALL}")
    return (text,)


def parse_folds(text: str) -> tuple[int, ...]:
    """Read "1", "2", "3" or "all"; raises UsageError."""
    if text == ALL:
        return FOLDS
    if text not in map(str, FOLDS):
        raise UsageError(f"fold {text}: give {', '.join(map(str, FOLDS))} or {ALL}")
    return (int(text),)


def _by_database(recordings: list[Recording], fold: str) -> list[Group]:
    gathered: dict[str, list[Recording]] = {}
    for recording in recordings:
        gathered.setdefault(recording.database, []).append(recording)
    return [Group(name, tuple(each), fold) for name, each in gathered.items()]
