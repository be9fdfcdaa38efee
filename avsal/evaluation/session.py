"""A whole evaluation: all groups, what is finished already, and the files of the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avsal.errors import AvsalError
from avsal.evaluation.baselines import MeanMaps
from avsal.evaluation.protocol import Outcome, evaluate, mean_map
from avsal.evaluation.report import as_csv, summary
from avsal.evaluation.sources import MapSource
from avsal.evaluation.stimulus import Group, Stimulus
from avsal.evaluation.store import Result, ResultStore
from avsal.outputs import write_file

# Part of every record: change it when scores of the same maps change.
PROTOCOL = 1
BASELINES_LABEL = "model"  # heads no row: without a source there are baselines alone


@dataclass(frozen=True)
class Watch:
    """What a person wants to see on the way.

    Attributes:
        stage: called with what is done next and the number of stimuli.
        finished: called after a stimulus: scored, kept from before, or failed.
        frame: called after each frame.
    """

    stage: Callable[[str, int], None] = lambda _text, _total: None
    finished: Callable[[Outcome, bool], None] = lambda _outcome, _kept: None
    frame: Callable[[Stimulus], None] = lambda _stimulus: None


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
    _label: str = BASELINES_LABEL
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
            write_file(self.store.folder / "scores.csv", self._csv().encode())
            text = json.dumps(summed, indent=1, ensure_ascii=False)
            write_file(self.store.folder / "summary.json", text.encode())
        return summed

    def _csv(self) -> str:
        return as_csv(self.results, self._label)

    def _group(self, group: Group) -> None:
        source = self.source_for(group.fold)
        made_with = {"protocol": PROTOCOL, "source": source.record() if source else None}
        if source is not None:
            self._label = source.label
        self._made_with = made_with
        identities = {stimulus.name: stimulus.identity() for stimulus in group.stimuli}
        together = {**made_with, "group": group.name, "stimuli": _digest(identities)}
        waiting = []
        for stimulus in group.stimuli:
            kept = self._finished(group, stimulus, together)
            if kept is None:
                waiting.append(stimulus)
            else:
                self._keep(kept, Outcome(stimulus, kept.frames, kept.scores), True)
        if waiting:
            self._score(group, waiting, source, together)

    def _finished(
        self, group: Group, stimulus: Stimulus, together: dict[str, Any]
    ) -> Result | None:
        """The result of an earlier call, or of an earlier fold with the same weights and videos."""
        found = self.store.load(group.name, group.fold, stimulus.name, together)
        if found is not None:
            return found
        known = self._known.get(_key(together, stimulus))
        if known is None:
            return None
        result = Result(group.name, group.fold, stimulus.name, known.frames, known.scores)
        self.store.save(result, together)
        return result

    def _score(
        self,
        group: Group,
        waiting: list[Stimulus],
        source: MapSource | None,
        together: dict[str, Any],
    ) -> None:
        means, broken = self._means(group)
        whole = [stimulus for stimulus in waiting if stimulus.name not in broken]
        for stimulus in waiting:
            if stimulus.name in broken:
                self._fail(Outcome(stimulus, error=broken[stimulus.name]))
        self.watch.stage(" ".join(filter(None, (group.name, group.fold))), len(whole))
        for outcome in evaluate(whole, source, means, self.watch.frame):
            if outcome.error is not None:
                self._fail(outcome)
                continue
            name = outcome.stimulus.name
            result = Result(group.name, group.fold, name, outcome.frames, outcome.scores)
            self.store.save(result, together)
            self._known[_key(together, outcome.stimulus)] = result
            self._keep(result, outcome, False)

    def _means(self, group: Group) -> tuple[MeanMaps, dict[str, AvsalError]]:
        """Mean maps of the group's stimuli, and the stimuli whose annotations cannot be read."""
        maps: dict[str, np.ndarray] = {}
        broken: dict[str, AvsalError] = {}
        if len(group.stimuli) > 1:
            self.watch.stage(f"{group.name}: mean maps", len(group.stimuli))
            for stimulus, found in _mean_maps(group.stimuli):
                if isinstance(found, AvsalError):
                    broken[stimulus.name] = found
                else:
                    maps[stimulus.name] = found
                self.watch.frame(stimulus)
        return MeanMaps(maps), broken

    def _keep(self, result: Result, outcome: Outcome, kept: bool) -> None:
        self.results.append(result)
        self.watch.finished(outcome, kept)

    def _fail(self, outcome: Outcome) -> None:
        self.failed.append(outcome)
        self.watch.finished(outcome, False)


def _mean_maps(stimuli: tuple[Stimulus, ...]) -> Iterator[tuple[Stimulus, np.ndarray | AvsalError]]:
    for stimulus in stimuli:
        try:
            yield stimulus, mean_map(stimulus)
        except AvsalError as error:
            yield stimulus, error


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _key(together: dict[str, Any], stimulus: Stimulus) -> str:
    return _digest({**together, "name": stimulus.name})


