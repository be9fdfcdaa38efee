"""The loop over files that `predict` and `batch` share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avsal.cli import console
from avsal.cli.console import counted, printable, progress_bars, report_error, say, stderr
from avsal.errors import AvsalError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from avsal.prediction.predictor import Predictor
    from avsal.prediction.settings import OutputSettings, PredictSettings
    from avsal.results.isolated import Finished
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


class Bars:
    """Progress of all files, and of the maps of each file or of all of them."""

    def __init__(self, progress: Progress, plan: list[Job]) -> None:
        self._progress, self._plan = progress, plan
        self._all = progress.add_task("all files", total=len(plan), visible=len(plan) > 1)
        self._maps: dict[int, TaskID] = {}

    def maps_of_file(self, number: int, done: int, total: int | None) -> None:
        """Show how far a file is."""
        self._update(number, printable(self._plan[number][0].name), done, total)

    def maps_of_all(self, done: int, expected: int) -> None:
        """Show how far all files together are."""
        self._update(-1, "maps", done, max(done, expected))

    def _update(self, key: int, text: str, done: int, total: int | None) -> None:
        if key not in self._maps:
            self._maps[key] = self._progress.add_task(text, total=total)
        self._progress.update(self._maps[key], completed=done, total=total)

    def finished(self, number: int) -> None:
        """Count a file."""
        self._progress.advance(self._all)
        if number in self._maps:
            self._progress.remove_task(self._maps.pop(number))


@dataclass(frozen=True)
class Run:
    """A list of files to predict with one network.

    Attributes:
        load: makes the predictor; called where a readable file needs it.
        isolated: predict in another process, so that a file that crashes it costs only itself.
        skip_existing: leave complete results of the same settings alone.
        as_json: one JSON line per file on stdout instead of a plain one.
        ray: address of a Ray cluster, None for this machine alone.
        threads: cores of each worker there.
    """

    load: Callable[[], Predictor]
    settings: PredictSettings
    written: OutputSettings
    isolated: bool = False
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
        with progress_bars() as progress:
            bars = Bars(progress, readable)
            run = self._finished if self.ray is None else self._finished_on_cluster
            with closing(run(readable, bars)) as finished:
                for number, result, seconds in finished:
                    outcome = _outcome(*readable[number], result, seconds)
                    outcomes.append(self._report(outcome))
                    bars.finished(number)
        return outcomes

    def _finished(self, plan: list[Job], bars: Bars) -> Generator[Finished, None, None]:
        from avsal.results.isolated import Task, Work, predict_isolated

        work = Work(self.load, self.settings, self.written, self.skip_existing, console.debug)
        if self.isolated:
            yield from predict_isolated(plan, work, bars.maps_of_file)
        else:
            tasks = [Task(number, *job) for number, job in enumerate(plan)]
            yield from work.run(self.load(), tasks, on_map=bars.maps_of_file)

    def _finished_on_cluster(self, plan: list[Job], bars: Bars) -> Generator[Finished, None, None]:
        from avsal.results.cluster import STRETCH, Worker, predict_on_cluster

        assert self.ray is not None
        worker = Worker(self.load, self.settings, self.written, self.skip_existing, STRETCH)
        yield from predict_on_cluster(plan, worker, self.ray, self.threads, bars.maps_of_all)

    def _report(self, outcome: Outcome) -> Outcome:
        if self.as_json:
            typer.echo(json.dumps(asdict(outcome)))
        elif outcome.status == "done":
            say(f"{outcome.output}: {counted(outcome.frames, 'map')}")
        elif outcome.status == "skipped":
            say(f"{outcome.output}: kept")
        return outcome


def _outcome(source: Path, folder: Path, result: int | Exception | None, seconds: float) -> Outcome:
    """What became of a file: the number of its maps, None where it was kept, or an error."""
    from avsal.results.description import count_records

    if isinstance(result, Exception):
        return _failed(source, folder, result)
    if result is None:
        return Outcome(str(source), str(folder), "skipped", count_records(folder))
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
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    files = f"{counted(len(outcomes), 'file')} ({statuses or 'none'})"
    title = Text(f"{printable(str(folder))}: {files}")
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
