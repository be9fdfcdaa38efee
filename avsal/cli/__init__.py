"""The `avsal` command. One file a command; nothing heavy is imported before it is needed."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from avsal.cli import batch, console, evaluate, info, models, overlay, predict, train, weights
from avsal.version import __version__

app = typer.Typer(
    name="avsal",
    help="Tell where people will look in a video, sound included.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("predict")(predict.predict)
app.command("overlay")(overlay.overlay)
app.command("batch")(batch.batch)
app.command("evaluate")(evaluate.evaluate)
app.command("info")(info.info)
app.command("models")(models.models)
app.command("train")(train.train)
app.add_typer(weights.app, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"avsal {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the line.")
    ] = False,
) -> None:
    """Tell where people will look in a video, sound included."""


def main() -> None:
    """Entry point: exit 0 all fine, 1 some input failed, 2 usage, 130 interrupted."""
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--debug" in options:
        arguments.remove("--debug")
        console.debug = True
    logging.getLogger("avsal").handlers = [console.Notes()]
    try:
        app(args=arguments, prog_name="avsal", standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(console.report_error(error))
