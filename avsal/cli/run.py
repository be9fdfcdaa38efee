"""The loop over files that `predict` and `batch` share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avsal.cli.console import progress_bars, report_error, stderr
from avsal.errors import AvsalError

if TYPE_CHECKING:
    from rich.progress import Progress

    from avsal.prediction.predictor import Predictor
    from avsal.prediction.settings import OutputSettings, PredictSettings
    from avsal.results.jobs import Job


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
        """Predict every file; one that fails is reported and the rest goes on."""
        from avsal.results import jobs

        readable = []
        outcomes = []
        for job in plan:
            try:
                jobs.check_source(job.source)
                readable.append(job)
            except AvsalError as error:
                outcomes.append(self._failed(job, error))
        if not readable:
            return outcomes
        predictor = self.load()
        with progress_bars() as progress:
            total = progress.add_task("all files", total=len(readable), visible=len(readable) > 1)
            for job in readable:
                outcomes.append(self._file(predictor, job, progress))
                progress.advance(total)
        return outcomes

    def _file(self, predictor: Predictor, job: Job, progress: Progress) -> Outcome:
        from avsal import media
        from avsal.results import jobs

        began = time.monotonic()
        task = progress.add_task(job.source.name, total=None)
        try:
            if self.skip_existing and jobs.is_current(
                job.folder, predictor, job.source, self.settings, self.written
            ):
                return self._report(Outcome(str(job.source), str(job.folder), "skipped"))
            progress.update(task, total=media.probe(job.source).frames)
            count = jobs.predict_to_folder(
                predictor,
                job.source,
                job.folder,
                self.settings,
                self.written,
                lambda done: progress.update(task, completed=done),
            )
        except Exception as error:  # whatever is wrong with one file, the next one may be fine
            return self._failed(job, error)
        finally:
            progress.remove_task(task)
        seconds = round(time.monotonic() - began, 3)
        return self._report(Outcome(str(job.source), str(job.folder), "done", count, seconds))

    def _failed(self, job: Job, error: Exception) -> Outcome:
        report_error(error)
        text = " ".join(str(error).split())
        return self._report(Outcome(str(job.source), str(job.folder), "failed", error=text))

    def _report(self, outcome: Outcome) -> Outcome:
        if self.as_json:
            typer.echo(json.dumps(asdict(outcome), ensure_ascii=False))
        elif outcome.status == "done":
            typer.echo(f"{outcome.output}: {outcome.frames} maps")
        elif outcome.status == "skipped":
            typer.echo(f"{outcome.output}: kept")
        return outcome


def exit_code(outcomes: list[Outcome]) -> int:
    """1 if some file failed, else 0."""
    return int(any(outcome.status == "failed" for outcome in outcomes))


def print_summary(outcomes: list[Outcome], folder: Path) -> None:
    """A table of what became of each file, to stderr."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{folder}: {len(outcomes)} files", title_justify="left")
    for heading in ("file", "result", "maps", "seconds"):
        table.add_column(heading, justify="right" if heading in ("maps", "seconds") else "left")
    for outcome in outcomes:
        name = escape(outcome.source)
        table.add_row(name, outcome.status, str(outcome.frames), f"{outcome.seconds:.1f}")
    stderr.print(table)
