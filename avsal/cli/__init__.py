"""The `avsal` command. One file per command; nothing heavy is imported before it is needed."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Annotated, Any

import typer

from avsal.cli import (
    console,
    evaluate,
    export,
    info,
    measure,
    overlay,
    predict,
    reframe,
    train,
    weights,
)
from avsal.cli.defaults import NAME, read_defaults
from avsal.cli.options import show_types_plainly
from avsal.errors import OutputError, UsageError, nearest
from avsal.version import __version__

_WrongUse: Any = typer.BadParameter.__base__  # what typer raises for any wrong command line
_HELP = "NoArgsIsHelpError"  # whose making has shown the help
_NO_CHOICE = re.compile(r"'([^']*)' is not one of (.*)")
_EMPTY = re.compile(r"(--[a-z-]+=)?")
M_ARENA_MAX = -8  # in glibc's malloc.h
COLLECT_AFTER = 100_000  # objects; importing libraries makes many, and none of them is garbage
_UNWRITABLE = (errno.ENOSPC, errno.EIO, errno.EBADF)

app = typer.Typer(
    name="avsal",
    help="Predict where people will look in a video.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("predict")(predict.predict)
app.command("overlay")(overlay.overlay)
app.command("reframe")(reframe.reframe)
app.command("measure")(measure.measure)
app.command("export")(export.export)
app.command("batch", cls=predict.BatchCommand)(predict.batch)
app.command("evaluate")(evaluate.evaluate)
app.command("info")(info.info)
app.command("models")(info.models)
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
        bool, typer.Option("--debug", help="Show tracebacks; works anywhere on the command line.")
    ] = False,
) -> None:
    """Predict where people will look in a video."""


def main() -> None:
    """Entry point: exit 0 all fine, 1 some input failed, 2 usage, 128 + n stopped by signal n."""
    _prepare_process()
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--debug" in options:
        arguments.remove("--debug")
        console.debug = True
    logging.getLogger("avsal").handlers = [console.Notes()]
    console.quiet = False
    console.prepare_streams()
    signals: list[int] = []
    code = 128 + signal.SIGINT  # unless it returns: a signal may come when all is done
    with suppress(KeyboardInterrupt), _stopped_by(signals):
        code = _run(arguments, signals)
        gc.freeze()  # the end of the interpreter need not look through everything for garbage
    if signals:
        exec("")  # Python ends by SIGINT if the last code that it ran from text was interrupted
        code = 128 + signals[0]
    sys.exit(code)


def _prepare_process() -> None:
    """Spare the process what it does not need.

    glibc gives each thread a heap of its own, where nothing of what one thread has freed serves
    another; here they wait for each other so rarely that 40 MB are better. NumPy's
    threads serve large matrix products only, and avsal has none.
    """
    gc.set_threshold(COLLECT_AFTER)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _run(arguments: list[str], signals: list[int]) -> int:
    """Run a command; turn any error into one line and an exit code.

    Args:
        signals: those that arrived. Errors that follow from them are not reported: a library that
            is interrupted while it is imported says that it cannot be.
    """
    code = 1
    failure: Exception | None = None
    try:
        _refuse_empty(arguments)
        group: Any = typer.main.get_command(app)
        show_types_plainly(group)
        helps = {"-h", "--help"} & set(arguments)
        defaults = None if helps else read_defaults(group)
        code = int(group.main(arguments, "avsal", standalone_mode=False, default_map=defaults) or 0)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except typer.Abort:  # Ctrl-C at a question
        console.note("stopped; nothing was changed")
    except _WrongUse as error:
        failure = None if type(error).__name__ == _HELP else _one_line(error)
        code = UsageError.exit_code
    except Exception as error:
        failure = error
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        failure = error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again
    return code if failure is None or signals else console.report_error(_named(failure))


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse what a shell makes of a variable that is not set: as a path, it would mean the working
    folder."""
    for before, argument in pairwise(["avsal", *arguments]):
        if _EMPTY.fullmatch(argument):
            where = argument or before
            raise UsageError(f"an empty argument follows '{where}'; give a value or remove it")


def _one_line(error: Any) -> UsageError:
    """What is wrong with a command line, without the box that typer draws around it."""
    text = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    where = error.ctx.command_path if error.ctx else "avsal"
    if similar := getattr(error, "possibilities", None):
        text = error.message + nearest(error.option_name, similar, "--")
    if ". Did you mean " in text:
        return UsageError(text.replace(". Did you mean ", "; did you mean "))
    with suppress(AttributeError):  # most errors are not about an option's value
        source = error.ctx.get_parameter_source(error.param.name)
        text += f" (from {NAME})" if source.name == "DEFAULT_MAP" else ""
    if refused := _NO_CHOICE.search(text):
        text += nearest(refused[1], re.findall(r"'([^']*)'", refused[2]))
    return UsageError(text if text.endswith("?") else f"{text}; see {where} --help")


def _named(error: Exception) -> Exception:
    """Name standard output in an error that names no file."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        reason = os.strerror(error.errno).lower()
        return OutputError(f"standard output: cannot be written ({reason}); free some space")
    return error


@contextmanager
def _stopped_by(arrived: list[int]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP clean up as Ctrl-C does; `arrived` gets the signals that arrived.

    Those that the caller ignores, as nohup does, stay ignored.
    """

    def stop(number: int, _frame: Any) -> None:
        if number != signal.SIGINT:
            for other in handled.keys() - {signal.SIGINT}:
                signal.signal(other, signal.SIG_IGN)  # cleaning up is not to be interrupted
        arrived.append(number)
        raise KeyboardInterrupt

    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    usual = (signal.SIG_DFL, signal.default_int_handler)
    handled = {number: signal.getsignal(number) for number in numbers}
    handled = {number: handler for number, handler in handled.items() if handler in usual}
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
