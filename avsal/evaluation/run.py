"""A whole evaluation: databases fold by fold, what is finished already, the files of the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from avsal import atomic
from avsal.datasets import DatasetSpec, open_dataset
from avsal.datasets.gaze_check import Reading
from avsal.datasets.recording import Recording
from avsal.datasets.stavis import is_stavis
from avsal.errors import DataError, UsageError
from avsal.evaluation.baselines import MEAN_GRID, BaselineMaps
from avsal.evaluation.maps import MapSource
from avsal.evaluation.protocol import OnFrames, mean_map, score_recordings
from avsal.evaluation.report import as_csv, csv_head, summary
from avsal.evaluation.scoring import (
    MODEL,
    RecordingScores,
    digest,
    load_scores,
    mean_scores,
    recording_identity,
    relative_path,
    save_scores,
)

SCORES, SUMMARY = "scores.csv", "summary.json"
PROTOCOL = 4  # part of every record: raise it when scores of the same maps or baselines change


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
        fit_prior: whether a prior is fitted to the recordings that the list of names omits.

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


@dataclass
class Evaluation:
    """Evaluates databases one after the other and keeps what is finished.

    Attributes:
        folder: where the results go.
        source_for: gives the maps' source of a fold; None for baselines alone.
        on_stage: called with what is done next and the number of its recordings.
        on_recording: called after each recording of the stage, with the error of one that failed.
        on_frames: called with the recording that is scored and how many of its frames have a map.
        results: of the recordings that have scores.
        failed: how many recordings have none.
    """

    folder: Path
    source_for: Callable[[str], MapSource | None]
    on_stage: Callable[[str, int], None] = lambda _text, _total: None
    on_recording: Callable[[Exception | None], None] = lambda _error: None
    on_frames: OnFrames = lambda _recording, _done: None
    results: list[RecordingScores] = field(default_factory=list)
    failed: int = 0
    _label: str = MODEL  # heads no row: without a source there are baselines alone
    _made_with: dict[str, Any] = field(default_factory=dict)
    _by_conditions: dict[str, RecordingScores] = field(default_factory=dict)
    _readings: dict[str, list[Reading]] = field(default_factory=dict)  # by database

    def run(self, sets: list[EvaluationSet]) -> dict[str, Any]:
        """Evaluate all sets and write scores.csv and summary.json.

        Returns:
            What summary.json says.

        Raises:
            AvsalError: the maps' source cannot be opened, or the results cannot be written.
        """
        atomic.check_replaceable(self.folder, written_names, (SCORES, SUMMARY))
        for wanted in sets:
            self._evaluate(wanted)
        read = {name: str(Reading.of_all(parts)) for name, parts in self._readings.items()}
        summed = summary(self.results, self._label, self._made_with, read)
        if self.results:
            scores = as_csv(self.results, self._label)
            atomic.write_bytes(self.folder / SCORES, scores.encode())
            text = json.dumps(summed, indent=1, ensure_ascii=False, allow_nan=False)
            atomic.write_bytes(self.folder / SUMMARY, text.encode())
        return summed

    def _evaluate(self, wanted: EvaluationSet) -> None:
        source = self.source_for(wanted.fold)
        made_with = {"protocol": PROTOCOL, "source": source.record() if source else None}
        if source is not None:
            self._label = source.label
        self._made_with[wanted.fold] = made_with
        conditions = {
            **made_with,
            "group": wanted.database,
            "recordings": _identities(wanted.recordings),
        }
        if wanted.prior_from:
            conditions["fitted_to"] = _identities(wanted.prior_from)
        missing = [
            recording
            for recording in wanted.recordings
            if self._can_be_named(recording) and not self._reuse(wanted, recording, conditions)
        ]
        if missing:
            self._score(wanted, missing, source, conditions)
        scored = {result.name for result in self.results if result.database == wanted.database}
        for recording in wanted.recordings:
            if recording.name in scored and (reading := recording.reading) is not None:
                self._readings.setdefault(wanted.database, []).append(reading)

    def _can_be_named(self, recording: Recording) -> bool:
        """Whether its scores can be written under its name, which files of the data set give."""
        try:
            relative_path(recording.database, recording.name)
        except UsageError as error:
            self._fail(error)
            return False
        return True

    def _reuse(
        self, wanted: EvaluationSet, recording: Recording, conditions: dict[str, Any]
    ) -> bool:
        """Take the scores of an earlier call, or of an earlier fold under the same conditions."""
        key = digest({**conditions, "name": recording.name})
        place = wanted.database, wanted.fold, recording.name
        found = load_scores(self.folder, *place, conditions)
        if found is None and key in self._by_conditions:
            found = replace(self._by_conditions[key], fold=wanted.fold)
            save_scores(self.folder, found, conditions)
        if found is None:
            return False
        self._by_conditions[key] = found
        self.results.append(found)
        return True

    def _score(
        self,
        wanted: EvaluationSet,
        recordings: list[Recording],
        source: MapSource | None,
        conditions: dict[str, Any],
    ) -> None:
        mean_maps, broken = self._mean_maps(wanted)
        for recording in recordings:
            if recording.name in broken:
                self._fail(broken[recording.name])
        baselines = BaselineMaps(mean_maps, self._fitted_prior(wanted))
        whole = [recording for recording in recordings if recording.name not in broken]
        self.on_stage(" ".join(filter(None, (wanted.database, wanted.fold))), len(whole))
        for recording, frames in score_recordings(whole, source, baselines, self.on_frames):
            if isinstance(frames, Exception):
                self._fail(frames)
                continue
            place = wanted.database, wanted.fold, recording.name
            result = RecordingScores(*place, len(frames), mean_scores(frames))
            save_scores(self.folder, result, conditions)
            self._by_conditions[digest({**conditions, "name": recording.name})] = result
            self.results.append(result)
            self.on_recording(None)

    def _mean_maps(
        self, wanted: EvaluationSet
    ) -> tuple[dict[str, np.ndarray], dict[str, Exception]]:
        """Mean maps of a set's recordings, and the errors of those that cannot be read."""
        maps: dict[str, np.ndarray] = {}
        broken: dict[str, Exception] = {}
        if len(wanted.recordings) == 1:
            return maps, broken  # there are no others to predict it from
        self.on_stage(f"{wanted.database}: mean maps", len(wanted.recordings))
        for recording in wanted.recordings:
            try:
                maps[recording.name] = mean_map(recording)
            except Exception as error:  # one recording never stops the others
                broken[recording.name] = error
            self.on_recording(None)
        return maps, broken

    def _fitted_prior(self, wanted: EvaluationSet) -> np.ndarray | None:
        """Prior on the grid: the mean of the mean maps of the recordings that are not scored."""
        if not wanted.prior_from:
            return None
        self.on_stage(f"{wanted.database}: fitted prior", len(wanted.prior_from))
        total = np.zeros(MEAN_GRID)
        for recording in wanted.prior_from:
            total += mean_map(recording)
            self.on_recording(None)
        return total / len(wanted.prior_from)

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        self.on_recording(error)


def written_names(folder: Path) -> set[str]:
    """Which of its two tables in a folder an evaluation wrote."""
    names = set()
    with suppress(OSError, ValueError, TypeError, RecursionError):
        if {"made_with", "groups"} <= set(json.loads((folder / SUMMARY).read_bytes())):
            names.add(SUMMARY)
    with suppress(OSError):
        if (folder / SCORES).read_bytes().startswith(csv_head().encode()):
            names.add(SCORES)
    return names


def _identities(recordings: tuple[Recording, ...]) -> str:
    return digest([recording_identity(recording) for recording in recordings])
