"""Which recordings are averaged together: the databases of a data set, fold by fold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from avsal.datasets import DatasetSpec, open_dataset
from avsal.datasets.recording import Recording
from avsal.datasets.stavis import is_stavis
from avsal.errors import DataError


@dataclass(frozen=True)
class EvaluationSet:
    """Recordings that are averaged together.

    Attributes:
        database: database, image set or table of gaze.
        fold: "1", "2" or "3"; empty where there are no folds.
        prior_from: recordings of the same database that are not scored, to fit a prior to; empty
            where none is wanted.
    """

    database: str
    recordings: tuple[Recording, ...]
    fold: str = ""
    prior_from: tuple[Recording, ...] = ()


def open_unfolded(spec: DatasetSpec, fit_prior: bool = False) -> list[EvaluationSet]:
    """A data set without folds.

    Args:
        fit_prior: whether a prior is fitted to what the list of names leaves out.

    Raises:
        DataError: something is missing or malformed, or nothing is left to fit a prior to.
    """
    sets = _by_database(spec, "")
    if not fit_prior:
        return sets
    return _with_prior(sets, replace(spec, names=None, without=spec.names))


def open_folds(
    spec: DatasetSpec, folds: tuple[int, ...], fit_prior: bool = False
) -> list[EvaluationSet]:
    """The test parts of a STAViS layout.

    Args:
        fit_prior: whether a prior is fitted to each fold's training part.

    Raises:
        DataError: see `open_unfolded`.
    """
    if not is_stavis(spec.root):
        raise DataError(f"{spec.root / 'fold_lists'}: missing; --data needs the STAViS layout")
    sets = []
    for fold in folds:
        test = replace(spec, fold=fold)
        found = _by_database(test, str(fold))
        sets += _with_prior(found, replace(test, split="train")) if fit_prior else found
    return sets


def _with_prior(sets: list[EvaluationSet], spec: DatasetSpec) -> list[EvaluationSet]:
    """Add the recordings of `spec`, database by database, as those to fit a prior to."""
    rest = {found.database: found.recordings for found in _by_database(spec, "")}
    for wanted in sets:
        if wanted.database not in rest:
            place = f"{spec.without}: names" if spec.without else f"{spec.root}: lists"
            raise DataError(f"{place} all of {wanted.database}; nothing is left to fit a prior to")
    return [replace(wanted, prior_from=rest[wanted.database]) for wanted in sets]


def _by_database(spec: DatasetSpec, fold: str) -> list[EvaluationSet]:
    gathered: dict[str, list[Recording]] = {}
    for recording in open_dataset(spec):
        gathered.setdefault(recording.database, []).append(recording)
    return [EvaluationSet(name, tuple(found), fold) for name, found in gathered.items()]
