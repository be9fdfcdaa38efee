"""An evaluation of whole databases, fold by fold; finished recordings are not scored again."""

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
from avsal.evaluation.maps import ScoredMaps
from avsal.evaluation.protocol import MEAN_GRID, Baselines, OnFrames, mean_map, score_recordings
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
PROTOCOL = 5  # saved with every score: raise it when the same maps or baselines score differently


@dataclass(frozen=True)
class EvaluationSet:
    """Recordings that are averaged together.

    Attributes:
        database: database, image set or table of gaze.
        fold: "1", "2" or "3"; empty where there are no folds.
        prior_from: other recordings of the database, to which a centre prior is fitted; none for
            no such prior.
    """

    database: str
    recordings: tuple[Recording, ...]
    fold: str = ""
    prior_from: tuple[Recording, ...] = ()


def open_unfolded(
    spec: DatasetSpec, fit_prior: bool = False, pictures: bool = True
) -> list[EvaluationSet]:
    """Open a data set without folds.

    Args:
        fit_prior: fit a centre prior to the recordings that the list of names omits.
        pictures: see `open_dataset`.

    Raises:
        DataError: something is missing or malformed, or nothing is left to fit a prior to.
    """
    sets = _by_database(spec, pictures=pictures)
    if not fit_prior:
        return sets
    return _with_prior(sets, spec.model_copy(update={"names": None, "without": spec.names}))


def open_folds(
    spec: DatasetSpec, folds: tuple[int, ...], fit_prior: bool = False
) -> list[EvaluationSet]:
    """Open the test videos of folds of the STAViS layout.

    Args:
        fit_prior: fit a centre prior to each fold's training videos.

    Raises:
        DataError: see `open_unfolded`.
    """
    if not is_stavis(spec.root):
        raise DataError(f"{spec.root / 'fold_lists'}: missing; --data needs the STAViS layout")
    sets = []
    for fold in folds:
        test = spec.model_copy(update={"fold": fold})
        found = _by_database(test, str(fold))
        train = test.model_copy(update={"split": "train"})
        sets += _with_prior(found, train) if fit_prior else found
    return sets


def _with_prior(sets: list[EvaluationSet], spec: DatasetSpec) -> list[EvaluationSet]:
    """Fit the prior of each set to the recordings of `spec` from the same database."""
    others = {other.database: other.recordings for other in _by_database(spec)}
    for one in sets:
        if one.database not in others:
            lists = f"{spec.without}: names" if spec.without else f"{spec.root}: lists"
            raise DataError(f"{lists} all of {one.database}; nothing is left to fit a prior to")
    return [replace(one, prior_from=others[one.database]) for one in sets]


def _by_database(spec: DatasetSpec, fold: str = "", pictures: bool = True) -> list[EvaluationSet]:
    gathered: dict[str, list[Recording]] = {}
    for recording in open_dataset(spec, pictures=pictures):
        gathered.setdefault(recording.database, []).append(recording)
    return [EvaluationSet(name, tuple(members), fold) for name, members in gathered.items()]


@dataclass
class Evaluation:
    """Evaluates databases one after the other and saves the scores of each finished recording.

    Attributes:
        folder: where the results go.
        source_for: returns a fold's source of maps; None scores the baselines alone.
        on_stage: called with the name of the next stage and its number of recordings.
        on_recording: called after each recording of the stage, with its error if it failed.
        on_frames: called with the current recording and how many of its frames have a map.
        results: of the recordings that were scored.
        failed: number of recordings that failed.
    """

    folder: Path
    source_for: Callable[[str], ScoredMaps | None]
    on_stage: Callable[[str, int], None] = lambda _text, _total: None
    on_recording: Callable[[Exception | None], None] = lambda _error: None
    on_frames: OnFrames = lambda _recording, _done: None
    results: list[RecordingScores] = field(default_factory=list)
    failed: int = 0
    _label: str = MODEL  # not shown without a source: the baselines have their own names
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
        for one in sets:
            self._evaluate(one)
        readings = {name: str(Reading.of_all(parts)) for name, parts in self._readings.items()}
        summed = summary(self.results, self._label, self._made_with, readings)
        if self.results:
            scores = as_csv(self.results, self._label)
            atomic.write_bytes(self.folder / SCORES, scores.encode())
            text = json.dumps(summed, indent=1, ensure_ascii=False, allow_nan=False)
            atomic.write_bytes(self.folder / SUMMARY, text.encode())
        return summed

    def _evaluate(self, one: EvaluationSet) -> None:
        source = self.source_for(one.fold)
        made_with = {"protocol": PROTOCOL, "source": source.record() if source else None}
        if source is not None:
            self._label = source.label
        self._made_with[one.fold] = made_with
        conditions = {
            **made_with,
            "group": one.database,
            "recordings": _identities(one.recordings),
        }
        if one.prior_from:
            conditions["fitted_to"] = _identities(one.prior_from)
        missing = [
            recording
            for recording in one.recordings
            if self._has_valid_name(recording) and not self._reuse(one, recording, conditions)
        ]
        if missing:
            self._score(one, missing, source, conditions)
        scored = {result.name for result in self.results if result.database == one.database}
        for recording in one.recordings:
            if recording.name in scored and (reading := recording.reading) is not None:
                self._readings.setdefault(one.database, []).append(reading)

    def _has_valid_name(self, recording: Recording) -> bool:
        """Whether the name, which comes from a file of the data set, can name a file of scores."""
        try:
            relative_path(recording.database, recording.name)
        except UsageError as error:
            self._fail(error)
            return False
        return True

    def _reuse(self, one: EvaluationSet, recording: Recording, conditions: dict[str, Any]) -> bool:
        """Take over the scores of an earlier call, or of an earlier fold with equal conditions."""
        key = digest({**conditions, "name": recording.name})
        saved = load_scores(self.folder, one.database, one.fold, recording.name, conditions)
        if saved is None and key in self._by_conditions:
            saved = replace(self._by_conditions[key], fold=one.fold)
            save_scores(self.folder, saved, conditions)
        if saved is None:
            return False
        self._by_conditions[key] = saved
        self.results.append(saved)
        return True

    def _score(
        self,
        one: EvaluationSet,
        recordings: list[Recording],
        source: ScoredMaps | None,
        conditions: dict[str, Any],
    ) -> None:
        mean_maps, errors = self._mean_maps(one)
        for recording in recordings:
            if recording.name in errors:
                self._fail(errors[recording.name])
        baselines = Baselines(mean_maps, self._fitted_prior(one))
        readable = [recording for recording in recordings if recording.name not in errors]
        self.on_stage(" ".join(filter(None, (one.database, one.fold))), len(readable))
        for recording, frames in score_recordings(readable, source, baselines, self.on_frames):
            if isinstance(frames, Exception):
                self._fail(frames)
                continue
            name, scores = recording.name, mean_scores(frames)
            result = RecordingScores(one.database, one.fold, name, len(frames), scores)
            save_scores(self.folder, result, conditions)
            self._by_conditions[digest({**conditions, "name": name})] = result
            self.results.append(result)
            self.on_recording(None)

    def _mean_maps(self, one: EvaluationSet) -> tuple[dict[str, np.ndarray], dict[str, Exception]]:
        """Mean maps of a set's recordings by name, and the errors of unreadable ones."""
        maps: dict[str, np.ndarray] = {}
        errors: dict[str, Exception] = {}
        if len(one.recordings) == 1:
            return maps, errors  # a mean of the others needs others
        self.on_stage(f"{one.database}: mean maps", len(one.recordings))
        for recording in one.recordings:
            try:
                maps[recording.name] = mean_map(recording)
            except Exception as error:  # one recording never stops the others
                errors[recording.name] = error
            self.on_recording(None)
        return maps, errors

    def _fitted_prior(self, one: EvaluationSet) -> np.ndarray | None:
        """Mean of the mean maps of the recordings that are not scored."""
        if not one.prior_from:
            return None
        self.on_stage(f"{one.database}: fitted prior", len(one.prior_from))
        total = np.zeros(MEAN_GRID)
        for recording in one.prior_from:
            total += mean_map(recording)
            self.on_recording(None)
        return total / len(one.prior_from)

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        self.on_recording(error)


def written_names(folder: Path) -> set[str]:
    """Which of the files scores.csv and summary.json of a folder an evaluation wrote."""
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
