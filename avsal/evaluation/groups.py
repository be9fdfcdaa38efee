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
        rest: recordings of the same database that are not scored, for the fitted prior; empty
            where none is wanted.
        pictures: whether what was shown is at hand, not the gaze alone.
    """

    name: str
    recordings: tuple[Recording, ...]
    fold: str = ""
    rest: tuple[Recording, ...] = ()
    pictures: bool = True


def open_groups(spec: DatasetSpec, fit: bool = False) -> list[Group]:
    """A data set without folds.

    Args:
        fit: whether a prior is fitted to what the list of names leaves out.

    Raises:
        DataError: something is missing or malformed, or nothing is left to fit a prior to.
    """
    groups = _by_database(open_dataset(spec), "")
    groups = [replace(group, pictures=spec.pictures) for group in groups]
    return _with_rest(groups, replace(spec, names=None, without=spec.names)) if fit else groups


def open_folds(spec: DatasetSpec, folds: tuple[int, ...], fit: bool = False) -> list[Group]:
    """The test parts of a STAViS layout.

    Args:
        fit: whether a prior is fitted to each fold's training part.

    Raises:
        DataError: see `open_groups`.
    """
    if not is_stavis(spec.root):
        raise DataError(f"{spec.root / 'fold_lists'}: missing; --data needs the STAViS layout")
    groups = []
    for fold in folds:
        test = replace(spec, fold=fold)
        found = _by_database(open_dataset(test), str(fold))
        groups += _with_rest(found, replace(test, split="train")) if fit else found
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


def _with_rest(groups: list[Group], spec: DatasetSpec) -> list[Group]:
    rest = {group.name: group.recordings for group in _by_database(open_dataset(spec), "")}
    for group in groups:
        if group.name not in rest:
            place = f"{spec.without}: names" if spec.without else f"{spec.root}: lists"
            raise DataError(f"{place} all of {group.name}; nothing is left to fit a prior to")
    return [replace(group, rest=rest[group.name]) for group in groups]


def _by_database(recordings: list[Recording], fold: str) -> list[Group]:
    gathered: dict[str, list[Recording]] = {}
    for recording in recordings:
        gathered.setdefault(recording.database, []).append(recording)
    return [Group(name, tuple(each), fold) for name, each in gathered.items()]
