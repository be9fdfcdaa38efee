"""`avsal train`: train the network, or its image saliency encoder alone, from a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import console

if TYPE_CHECKING:
    from rich.progress import TaskID

    from avsal.training.batches import Report
    from avsal.training.config import Config

MAX_PROBLEMS = 50  # that are listed


def train(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG", help="TOML file; examples/training/ has the paper's recipes."
        ),
    ],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change one setting of the file."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Read all data once and report what is wrong with it; do not train."
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over even if run.output holds a run.")
    ] = False,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Processes on this machine, one per GPU.")
    ] = 1,
) -> None:
    """Train a network; run the same command again to resume exactly where it stopped.

    On several machines, start it by torchrun: torchrun ... -m avsal train FILE.
    """
    if processes > 1 and not dry_run:
        from avsal.training.engine import launch

        arguments = ["train", str(config)]
        arguments += [word for text in change or () for word in ("--set", text)]
        arguments += ["--fresh"] if fresh else []
        raise typer.Exit(launch(processes, arguments))
    from avsal.training.config import read_config
    from avsal.training.engine import ReportedElsewhereError, reported_once

    try:
        with reported_once():
            settings = read_config(config, change or ())
            if dry_run:
                raise typer.Exit(_inspect(settings))
        _train(settings, fresh)
    except ReportedElsewhereError as error:
        raise typer.Exit(error.exit_code) from None


def _train(settings: Config, fresh: bool) -> None:
    from avsal.training.loop import train

    with console.progress_bars() as bars:
        bar: TaskID | None = None

        def step(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = bars.add_task("training")
            bars.update(bar, completed=done, total=total)

        def epoch(row: dict[str, float]) -> None:
            typer.echo(_line(row, settings.schedule.epochs))

        def end(folder: Path) -> None:
            console.say(f"{folder}: best.safetensors, last.pt, steps.csv, epochs.csv")

        train(settings, fresh, step, epoch, end)


def _line(row: dict[str, float], epochs: int) -> str:
    shown = ("loss", "kl", "cc", "alignment", "val_cc", "val_nss")
    values = "  ".join(f"{key} {row[key]:.4f}" for key in shown if key in row)
    return f"epoch {int(row['epoch'])}/{epochs}  {values}  {row['seconds']:.0f} s"


def _inspect(settings: Config) -> int:
    from avsal.training.batches import inspect

    broken = False
    with console.progress_bars() as bars:
        tasks = {split: bars.add_task(split, total=None) for split in ("train", "validation")}

        def progress(split: str, done: int, total: int) -> None:
            bars.update(tasks[split], completed=done, total=total)

        for report in inspect(settings, progress):
            broken = broken or bool(report.problems)
            _print(report)
    return 1 if broken else 0


def _print(report: Report) -> None:
    typer.echo(
        f"{report.split}: {console.counted(report.recordings, 'recording')}, {report.stills} of "
        f"them pictures, {report.heard} with sound, "
        f"{console.counted(len(report.problems), 'problem')}"
    )
    for shapes, count in report.shapes.items():
        typer.echo(f"  {count} give {shapes}")
    for problem in report.problems[:MAX_PROBLEMS]:
        console.say(f"  {problem}")
    if len(report.problems) > MAX_PROBLEMS:
        typer.echo(f"  ... and {len(report.problems) - MAX_PROBLEMS} more")
