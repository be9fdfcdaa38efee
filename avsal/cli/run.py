"""The loop over files that `predict`, `batch`, `overlay`, `reframe` and `measure` share."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avsal.cli import console, options
from avsal.cli.console import (
    as_given,
    counted,
    note,
    printable,
    progress_bars,
    report_error,
    say,
    stderr,
)
from avsal.errors import AvsalError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from avsal.results.isolated import FileWork, Finished
    from avsal.results.plan import Job

MAX_ROWS = 200  # files that the summary lists


@dataclass(frozen=True)
class Outcome:
    """What became of one file: status is "done", "skipped" or "failed".

    Attributes:
        frames: None where they are unknown, in a video that was kept.
        code: that a command for this file alone ends with.
    """

    source: str
    output: str
    status: str
    frames: int | None = 0
    seconds: float = 0.0
    error: str | None = None
    code: int = 0

    def record(self) -> dict[str, object]:
        """What is printed as JSON."""
        from avsal.media.source import as_source

        record = asdict(self)
        record["source"] = as_given(str(as_source(self.source)))
        record["error"] = self.error and as_given(self.error)
        del record["code"]
        if self.frames is None:
            del record["frames"]
        return record


_ALL = -1  # in place of the number of a file


class Bars:
    """Progress of all files, and of the steps of each file or of all of them."""

    def __init__(self, progress: Progress, plan: list[Job]) -> None:
        self._progress, self._plan = progress, plan
        self._all = progress.add_task("all files", total=len(plan), visible=len(plan) > 1)
        self._steps: dict[int, dict[str, TaskID]] = {}
        self._done: dict[int, dict[str, int]] = {}

    def maps_of_file(self, number: int, done: int, total: int | None, step: str = "") -> None:
        """Show how far a file, or one of the steps of its job, is."""
        self._done.setdefault(number, {})[step] = done
        self._update(number, step, done, total)

    def maps_of_all(self, done: int, expected: int) -> None:
        """Show how far all files together are."""
        self._update(_ALL, "", done, max(done, expected))

    def _update(self, number: int, step: str, done: int, total: int | None) -> None:
        steps = self._steps.setdefault(number, {})
        if step not in steps:
            name = "maps" if number == _ALL else printable(self._plan[number][0].name)
            steps[step] = self._progress.add_task(f"{name}: {step}" if step else name, total=total)
        self._progress.update(steps[step], completed=done, total=total)

    def finished(self, number: int) -> int:
        """Count a file; return how many of its frames were done, in the first step."""
        self._progress.advance(self._all)
        for task in self._steps.pop(number, {}).values():
            self._progress.remove_task(task)
        return next(iter(self._done.pop(number, {}).values()), 0)


@dataclass(frozen=True)
class Run:
    """A list of files to work on.

    Attributes:
        work: what is done with each file; its network is loaded where a readable file needs it.
        isolated: work in another process, so that a file that crashes it costs only itself.
        as_json: one JSON line per file on stdout instead of a plain one.
        on_cluster: predicts a plan on a cluster; None for this machine alone.
        details: gives more values of a new result for its JSON line.
    """

    work: FileWork
    isolated: bool = False
    as_json: bool = False
    on_cluster: Callable[[list[Job], Bars], Generator[Finished, None, None]] | None = None
    details: Callable[[Path], dict[str, object]] | None = None

    def files(self, plan: list[Job]) -> list[Outcome]:
        """Work on every file; one that fails is reported and the rest is done."""
        from avsal.results.checks import check_source

        if not plan:
            note("no videos or images found in the inputs")
        outcomes = []
        readable = []
        for source, place in plan:
            try:
                check_source(source)
                readable.append((source, place))
            except AvsalError as error:
                outcomes.append(self._report(_failed(source, place, error)))
        if not readable:
            return outcomes
        with progress_bars() as progress:
            bars = Bars(progress, readable)
            with closing((self.on_cluster or self._finished)(readable, bars)) as finished:
                for number, result, seconds in finished:
                    frames = bars.finished(number)
                    outcome = _outcome(*readable[number], result, seconds, frames)
                    outcomes.append(self._report(outcome))
        return outcomes

    def _finished(self, plan: list[Job], bars: Bars) -> Generator[Finished, None, None]:
        from avsal.results.isolated import Task, predict_isolated

        if self.isolated or len(plan) > 1:
            yield from predict_isolated(plan, self.work, bars.maps_of_file)
        else:
            yield from self.work.run_one(Task(0, *plan[0]), bars.maps_of_file)

    def _report(self, outcome: Outcome) -> Outcome:
        if self.as_json:
            details = self.details if outcome.status == "done" else None
            more = {} if details is None else details(Path(outcome.output))
            typer.echo(json.dumps({**outcome.record(), **more}))
        elif outcome.status == "skipped":
            say(f"{outcome.output}: kept")
        elif outcome.status == "done":
            say(f"{outcome.output}: {counted(outcome.frames or 0, self.work.counted)}")
        return outcome


def _outcome(
    source: Path, place: Path, result: int | Path | Exception | None, seconds: float, frames: int
) -> Outcome:
    """What became of a file: the number of its maps or the place of its result, that it was kept,
    or an error."""
    from avsal.results.description import count_records
    from avsal.results.work import KeptError

    if isinstance(result, KeptError):
        return Outcome(str(source), str(result.place), "skipped", frames=None)
    if isinstance(result, Exception):
        return _failed(source, place, result)
    if result is None:
        return Outcome(str(source), str(place), "skipped", count_records(place))
    if isinstance(result, Path):
        return Outcome(str(source), str(result), "done", frames, seconds)
    return Outcome(str(source), str(place), "done", result, seconds)


def _failed(source: Path, place: Path, error: Exception) -> Outcome:
    from avsal.results.plan import BY_KIND

    place = getattr(error, "place", place)
    place = place.with_suffix("") if place.suffix == BY_KIND else place  # never opened
    code = report_error(error, source)
    text = " ".join(str(error).split())
    if not isinstance(error, AvsalError):
        text = f"{source}: {type(error).__name__}: {text}"
    return Outcome(str(source), str(place), "failed", error=text, code=code)


def exit_code(outcomes: list[Outcome]) -> int:
    """That of the only file; of several 1 if one failed, else 0."""
    if len(outcomes) == 1:
        return outcomes[0].code
    return int(any(outcome.status == "failed" for outcome in outcomes))


def run_on_files(
    function: Callable[..., Path],
    inputs: list[Path],
    output: Path | None,
    ending: str,
    files: options.Files,
    network: options.Network | None,
    saliency: Path | None = None,
    *,
    is_current: Callable[[Path, Path, Path | None], bool] | None = None,
    on_kept: Callable[[Path, Path], None] | None = None,
    made_of: tuple[Path, ...] = (),
    details: Callable[[Path], dict[str, object]] | None = None,
) -> int:
    """Call a function such as `avsal.overlay` for every file of the inputs.

    Args:
        ending: see `avsal.results.plan.plan_inputs`.
        network: None where none runs.
        saliency: the folder with the maps of one file, or the folder in which each file's maps are
            in a folder that is named as `avsal predict` and `avsal batch` name it.
        is_current: see `avsal.results.work.Calls`.
        on_kept, made_of: see `avsal.results.work.Calls`.
        details: see `Run`.

    Returns:
        The exit code.
    """
    from avsal.results.description import is_result
    from avsal.results.plan import plan_inputs
    from avsal.results.work import Calls, no_network

    console.quiet = files.quiet
    with (
        piped(inputs, needs_output=output is None) as named,
        left_out(inputs, files.as_json) as on_omitted,
    ):
        plan = plan_inputs(named, output, ending, on_omitted)
        maps = {}
        sources = [source for source, _place in plan]
        if saliency is not None:
            maps = dict(plan_inputs(named, saliency, ""))
            if len(named) == 1 and sources == named and not is_result(maps[named[0]]):
                maps = {named[0]: saliency}
        load = no_network if network is None or maps else network.load
        keywords = {} if network is None else network.keywords()
        policy = (files.force, files.skip_existing)
        work = Calls(
            function, load, keywords, *policy, console.debug, maps, is_current, on_kept, made_of
        )
        return exit_code(Run(work, as_json=files.as_json, details=details).files(plan))


@contextmanager
def left_out(inputs: list[Path], as_json: bool = False) -> Iterator[Callable[[str], None]]:
    """Count files of folders that are omitted, by their reasons, and report them at the end."""
    omitted: Counter[str] = Counter()
    yield lambda reason: omitted.update([reason])
    if not omitted:
        return
    source = ", ".join(map(str, inputs))
    if as_json:
        typer.echo(json.dumps({"source": source, "status": "omitted", "reasons": omitted}))
    reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(omitted.items()))
    note(f"{source}: {counted(omitted.total(), 'file')} omitted ({reasons})")


@contextmanager
def piped(inputs: list[Path], needs_output: bool) -> Iterator[list[Path]]:
    """Inputs in which a temporary file takes the place of "-", with what comes through the pipe.

    Readers of video move about in their file, which a pipe does not allow.

    Raises:
        UsageError: nothing is piped in, or there is no folder for the result.
    """
    from avsal.atomic import write_errors
    from avsal.results.plan import STREAM

    if STREAM not in inputs:
        yield inputs
        return
    if needs_output:
        raise UsageError("-: a pipe has no folder to write next to; give --output")
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "-: nothing is piped in; for example: ffmpeg ... -f matroska - | avsal ..."
        )
    with tempfile.TemporaryDirectory(prefix="avsal-") as folder:
        spool = Path(folder) / "stdin"
        with write_errors(spool.parent), spool.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
        console.spool = spool
        try:
            yield [spool if path == STREAM else path for path in inputs]
        finally:
            console.spool = None


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
