"""The loop over files that `predict` and `batch` share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avsal.cli.console import printable, progress_bars, report_error, say, stderr
from avsal.errors import AvsalError

if TYPE_CHECKING:
    from rich.progress import Progress

    from avsal.prediction.predictor import Predictor
    from avsal.prediction.settings import OutputSettings, PredictSettings
    from avsal.results.plan import Job


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
        as_json: one JSON line a file on stdout instead of a plain one.
    """

    load: Callable[[], Predictor]
    settings: PredictSettings
    written: OutputSettings
    skip_existing: bool = False
    as_json: bool = False

    def files(self, plan: list[Job]) -> list[Outcome]:
        """Predict every file; one that fails is reported and the rest is done."""
        from avsal.results.plan import check_source

        readable = []
        outcomes = []
        for source, folder in plan:
            try:
                check_source(source)
                readable.append((source, folder))
            except AvsalError as error:
                outcomes.append(self._report(_failed(source, folder, error)))
        if not readable:
            return outcomes
        predictor = self.load()
        with progress_bars() as progress:
            total = progress.add_task("all files", total=len(readable), visible=len(readable) > 1)
            for source, folder in readable:
                outcomes.append(self._report(self._file(predictor, source, folder, progress)))
                progress.advance(total)
        return outcomes

    def _file(
        self, predictor: Predictor, source: Path, folder: Path, progress: Progress
    ) -> Outcome:
        from avsal.results import jobs

        began = time.monotonic()
        task = progress.add_task(printable(source.name), total=None)

        def on_map(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        try:
            if self.skip_existing and jobs.is_current(
                folder, predictor, source, self.settings, self.written
            ):
                return Outcome(str(source), str(folder), "skipped")
            count = jobs.predict_to_folder(
                predictor, source, folder, self.settings, self.written, on_map
            )
        except Exception as error:  # whatever is wrong with one file, the next one may be fine
            return _failed(source, folder, error)
        finally:
            progress.remove_task(task)
        seconds = round(time.monotonic() - began, 3)
        return Outcome(str(source), str(folder), "done", count, seconds)

    def _report(self, outcome: Outcome) -> Outcome:
        if self.as_json:
            typer.echo(json.dumps(asdict(outcome)))
        elif outcome.status == "done":
            say(f"{outcome.output}: {outcome.frames} maps")
        elif outcome.status == "skipped":
            say(f"{outcome.output}: kept")
        return outcome


def _failed(source: Path, folder: Path, error: Exception) -> Outcome:
    report_error(error)
    text = " ".join(str(error).split())
    return Outcome(str(source), str(folder), "failed", error=text)


def exit_code(outcomes: list[Outcome]) -> int:
    """1 if some file failed, else 0."""
    return int(any(outcome.status == "failed" for outcome in outcomes))


def print_summary(outcomes: list[Outcome], folder: Path) -> None:
    """A table of what became of each file, to stderr."""
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{printable(str(folder))}: {len(outcomes)} files")
    table = Table(title=title, title_justify="left")
    for heading in ("file", "result", "maps", "seconds"):
        table.add_column(heading, justify="right" if heading in ("maps", "seconds") else "left")
    for outcome in outcomes:
        name = Text(printable(outcome.source))
        table.add_row(name, outcome.status, str(outcome.frames), f"{outcome.seconds:.1f}")
    stderr.print(table)
