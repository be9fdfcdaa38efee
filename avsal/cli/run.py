"""The loop over files that `predict` and `batch` share."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avsal.cli.console import printable, progress_bars, report_error, say, stderr
from avsal.errors import AvsalError

if TYPE_CHECKING:
    from rich.progress import Progress

    from avsal.prediction.predictor import Prediction, Predictor
    from avsal.prediction.settings import OutputSettings, PredictSettings
    from avsal.results.plan import Job

MAX_ROWS = 200  # files that the summary lists


@dataclass(frozen=True)
class Outcome:
    """What became of one file: status is "done", "skipped" or "failed"."""

    source: str
    output: str
    status: str
    frames: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """A list of files to predict with one network.

    Attributes:
        load: makes the predictor; called once, when the first readable file needs it.
        skip_existing: leave complete results of the same settings alone.
        as_json: one JSON line per file on stdout instead of a plain one.
        ray: address of a Ray cluster, None for this process alone.
        threads: cores of each worker there.
    """

    load: Callable[[], Predictor]
    settings: PredictSettings
    written: OutputSettings
    skip_existing: bool = False
    as_json: bool = False
    ray: str | None = None
    threads: int = 1

    def files(self, plan: list[Job]) -> list[Outcome]:
        """Predict every file; one that fails is reported and the rest is done."""
        from avsal.results.plan import check_source
        from avsal.results.table import check_library

        check_library(self.written.format)
        outcomes = []
        readable = []
        for source, folder in plan:
            try:
                check_source(source)
                readable.append((source, folder))
            except AvsalError as error:
                outcomes.append(self._report(_failed(source, folder, error)))
        if not readable:
            return outcomes
        if self.ray is not None:
            return outcomes + self._on_cluster(readable, self.ray)
        predictor = self.load()
        wanted = []
        for source, folder in readable:
            try:
                if not self._is_current(predictor, source, folder):
                    wanted.append((source, folder))
                    continue
                outcome = Outcome(str(source), str(folder), "skipped")
            except Exception as error:
                outcome = _failed(source, folder, error)
            outcomes.append(self._report(outcome))
        outcomes += [self._report(outcome) for outcome in self._predicted(predictor, wanted)]
        return outcomes

    def _is_current(self, predictor: Predictor, source: Path, folder: Path) -> bool:
        from avsal.results.jobs import is_current

        return self.skip_existing and is_current(
            folder, predictor, source, self.settings, self.written
        )

    def _predicted(self, predictor: Predictor, plan: list[Job]) -> Iterator[Outcome]:
        from avsal.prediction.files import predict_files

        with progress_bars() as progress:
            total = progress.add_task("all files", total=len(plan), visible=len(plan) > 1)
            predictions = predict_files(predictor, [source for source, _ in plan], self.settings)
            began = time.monotonic()
            for (source, folder), (_, prediction) in zip(plan, predictions, strict=True):
                try:
                    count = self._write(predictor, source, prediction, folder, progress)
                    seconds = round(time.monotonic() - began, 3)
                    yield Outcome(str(source), str(folder), "done", count, seconds)
                except Exception as error:  # whatever is wrong with one, the next may be fine
                    yield _failed(source, folder, error)
                progress.advance(total)
                began = time.monotonic()

    def _write(
        self,
        predictor: Predictor,
        source: Path,
        prediction: Prediction | Exception,
        folder: Path,
        progress: Progress,
    ) -> int:
        from avsal.results.jobs import write_prediction

        if isinstance(prediction, Exception):
            raise prediction
        task = progress.add_task(printable(source.name), total=prediction.total)
        try:
            return write_prediction(
                predictor,
                source,
                prediction,
                folder,
                self.settings,
                self.written,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        finally:
            progress.remove_task(task)

    def _on_cluster(self, plan: list[Job], address: str) -> list[Outcome]:
        """Predict files on a Ray cluster; they are reported as they are finished."""
        from avsal.results.cluster import STRETCH, Worker, predict_on_cluster

        worker = Worker(self.load, self.settings, self.written, self.skip_existing, STRETCH)
        outcomes = []
        with progress_bars() as progress:
            maps = progress.add_task("maps", total=None)
            total = progress.add_task("all files", total=len(plan))

            def on_maps(done: int, expected: int) -> None:
                progress.update(maps, completed=done, total=max(done, expected))

            finished = predict_on_cluster(plan, worker, address, self.threads, on_maps)
            with closing(finished):
                for number, result, seconds in finished:
                    outcome = _outcome(*plan[number], result, seconds)
                    outcomes.append(self._report(outcome))
                    progress.advance(total)
        return outcomes

    def _report(self, outcome: Outcome) -> Outcome:
        if self.as_json:
            typer.echo(json.dumps(asdict(outcome)))
        elif outcome.status == "done":
            say(f"{outcome.output}: {outcome.frames} maps")
        elif outcome.status == "skipped":
            say(f"{outcome.output}: kept")
        return outcome


def _outcome(source: Path, folder: Path, result: int | Exception | None, seconds: float) -> Outcome:
    """What became of a file: the number of its maps, None where it was kept, or an error."""
    if isinstance(result, Exception):
        return _failed(source, folder, result)
    if result is None:
        return Outcome(str(source), str(folder), "skipped")
    return Outcome(str(source), str(folder), "done", result, seconds)


def _failed(source: Path, folder: Path, error: Exception) -> Outcome:
    report_error(error)
    text = " ".join(str(error).split())
    return Outcome(str(source), str(folder), "failed", error=text)


def exit_code(outcomes: list[Outcome]) -> int:
    """1 if some file failed, else 0."""
    return int(any(outcome.status == "failed" for outcome in outcomes))


def print_summary(outcomes: list[Outcome], folder: Path) -> None:
    """A table of what became of each file, to stderr; of many files, those that failed."""
    from rich.table import Table
    from rich.text import Text

    counts = Counter(outcome.status for outcome in outcomes)
    counted = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    title = Text(f"{printable(str(folder))}: {len(outcomes)} files ({counted or 'none'})")
    if len(outcomes) > MAX_ROWS:
        outcomes = [outcome for outcome in outcomes if outcome.status == "failed"]
    if not outcomes:
        stderr.print(title)
        return
    table = Table(title=title, title_justify="left")
    for heading in ("file", "result", "maps", "seconds"):
        table.add_column(heading, justify="right" if heading in ("maps", "seconds") else "left")
    for outcome in outcomes:
        name = Text(printable(outcome.source))
        table.add_row(name, outcome.status, str(outcome.frames), f"{outcome.seconds:.1f}")
    stderr.print(table)
