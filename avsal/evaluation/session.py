"""A whole evaluation: all groups, what is finished already, and the files of the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avsal.datasets import Recording
from avsal.errors import AvsalError
from avsal.evaluation.baselines import MEAN_GRID, Known, MeanMaps
from avsal.evaluation.fingerprint import fingerprint
from avsal.evaluation.groups import Group
from avsal.evaluation.protocol import MODEL, Outcome, evaluate, mean_map
from avsal.evaluation.report import as_csv, summary
from avsal.evaluation.saved_scores import Result, ResultStore
from avsal.evaluation.sources import MapSource
from avsal.results.writer import write_file

PROTOCOL = 2  # part of every record: raise it when scores of the same maps or baselines change


@dataclass(frozen=True)
class Watch:
    """What a person wants to see on the way.

    Attributes:
        stage: called with what is done next and the number of recordings.
        finished: called after each recording of the stage.
    """

    stage: Callable[[str, int], None] = lambda _text, _total: None
    finished: Callable[[Outcome], None] = lambda _outcome: None


@dataclass
class Session:
    """Evaluates groups one after the other and keeps what is finished.

    Attributes:
        source_for: gives the maps' source of a fold; None for baselines alone.
    """

    store: ResultStore
    source_for: Callable[[str], MapSource | None]
    watch: Watch = field(default_factory=Watch)
    results: list[Result] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)
    _label: str = MODEL  # heads no row: without a source there are baselines alone
    _made_with: dict[str, Any] = field(default_factory=dict)
    _known: dict[str, Result] = field(default_factory=dict)  # by record: folds may repeat one

    def run(self, groups: list[Group]) -> dict[str, Any]:
        """Evaluate all groups and write scores.csv and summary.json.

        Returns:
            What summary.json says.

        Raises:
            AvsalError: the maps' source cannot be opened, or the results cannot be written.
        """
        for group in groups:
            self._group(group)
        summed = summary(self.results, self._label, self._made_with)
        if self.results:
            scores = as_csv(self.results, self._label)
            write_file(self.store.folder / "scores.csv", scores.encode())
            text = json.dumps(summed, indent=1, ensure_ascii=False)
            write_file(self.store.folder / "summary.json", text.encode())
        return summed

    def _group(self, group: Group) -> None:
        source = self.source_for(group.fold)
        made_with = {"protocol": PROTOCOL, "source": source.record() if source else None}
        if source is not None:
            self._label = source.label
        self._made_with[group.fold] = made_with
        together = {**made_with, "group": group.name, "recordings": _prints(group.recordings)}
        if group.rest:
            together["fitted_to"] = _prints(group.rest)
        waiting = []
        for recording in group.recordings:
            kept = self._finished(group, recording, together)
            if kept is None:
                waiting.append(recording)
            else:
                self.results.append(kept)
                self._known[_key(together, recording)] = kept
        if waiting:
            self._score(group, waiting, source, together)

    def _finished(
        self, group: Group, recording: Recording, together: dict[str, Any]
    ) -> Result | None:
        """The result of an earlier call, or of an earlier fold with the same weights and videos."""
        found = self.store.load(group.name, group.fold, recording.name, together)
        if found is not None:
            return found
        known = self._known.get(_key(together, recording))
        if known is None:
            return None
        result = Result(group.name, group.fold, recording.name, known.frames, known.scores)
        self.store.save(result, together)
        return result

    def _score(
        self,
        group: Group,
        waiting: list[Recording],
        source: MapSource | None,
        together: dict[str, Any],
    ) -> None:
        means, broken = self._means(group)
        whole = [recording for recording in waiting if recording.name not in broken]
        for recording in waiting:
            if recording.name in broken:
                self._fail(Outcome(recording, error=broken[recording.name]))
        known = Known(means, self._fitted(group), group.pictures)
        self.watch.stage(" ".join(filter(None, (group.name, group.fold))), len(whole))
        for outcome in evaluate(whole, source, known):
            if outcome.error is not None:
                self._fail(outcome)
                continue
            name = outcome.recording.name
            result = Result(group.name, group.fold, name, outcome.frames, outcome.scores)
            self.store.save(result, together)
            self._known[_key(together, outcome.recording)] = result
            self.results.append(result)
            self.watch.finished(outcome)

    def _means(self, group: Group) -> tuple[MeanMaps, dict[str, AvsalError]]:
        """Mean maps of a group's recordings, and those whose annotations cannot be read."""
        maps: dict[str, np.ndarray] = {}
        broken: dict[str, AvsalError] = {}
        if len(group.recordings) > 1:
            self.watch.stage(f"{group.name}: mean maps", len(group.recordings))
            for recording, found in _mean_maps(group.recordings):
                if isinstance(found, AvsalError):
                    broken[recording.name] = found
                else:
                    maps[recording.name] = found
                self.watch.finished(Outcome(recording))
        return MeanMaps(maps), broken

    def _fitted(self, group: Group) -> np.ndarray | None:
        """Prior on the grid: the mean of the mean maps of the recordings that are not scored."""
        if not group.rest:
            return None
        self.watch.stage(f"{group.name}: fitted prior", len(group.rest))
        total = np.zeros(MEAN_GRID)
        for recording in group.rest:
            total += mean_map(recording)
            self.watch.finished(Outcome(recording))
        return total / len(group.rest)

    def _fail(self, outcome: Outcome) -> None:
        self.failed.append(outcome)
        self.watch.finished(outcome)


def _mean_maps(
    recordings: tuple[Recording, ...],
) -> Iterator[tuple[Recording, np.ndarray | AvsalError]]:
    for recording in recordings:
        try:
            yield recording, mean_map(recording)
        except AvsalError as error:
            yield recording, error


def _prints(recordings: tuple[Recording, ...]) -> str:
    return _digest([fingerprint(recording) for recording in recordings])


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _key(together: dict[str, Any], recording: Recording) -> str:
    return _digest({**together, "name": recording.name})
