"""What a person sees: errors in one line, notes, progress, and the lines on stdout."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from avsal.errors import AvsalError, without_keys

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

PIPE_WIDTH = 1000  # columns of a table that is not for a terminal
stderr = Console(stderr=True, highlight=False, soft_wrap=True)
debug = False  # set by --debug: errors come with their traceback
quiet = False  # set by --quiet: only errors are printed
spool: Path | None = None  # temporary file with what was piped in; it is shown as "-"


def as_given(text: str) -> str:
    """Text as a person gave it: "-" for what was piped in, and addresses without their query,
    which may hold a key."""
    return without_keys(text if spool is None else text.replace(str(spool), "-"))


def printable(text: str) -> str:
    """Text, see `as_given`, in which line breaks, escape sequences and the like are written out as
    \\x1b.

    File names may hold anything; on a terminal they could move the cursor and hide lines.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in as_given(text)
    )


def say(text: str) -> None:
    """Print a line of results on stdout."""
    if not quiet:
        typer.echo(printable(text))


def counted(count: int, word: str) -> str:
    """ "1 map", "2 maps"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def report_error(error: BaseException, source: Path | None = None) -> int:
    """Print an error as one line and return the exit code that belongs to it.

    Args:
        source: the file that was worked on; errors that avsal did not foresee do not name it.
    """
    if debug:
        from rich.traceback import Traceback

        stderr.print(Traceback.from_exception(type(error), error, error.__traceback__))
    if isinstance(error, AvsalError):
        stderr.print(f"[bold red]error:[/] {plain(str(error))}")
        return error.exit_code
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    where = "" if source is None else f"{source}: "
    stderr.print(f"[bold red]error:[/] {plain(where + text)} (unexpected; --debug shows where)")
    return 1


def note(text: str) -> None:
    """Print something worth knowing."""
    if not quiet:
        stderr.print(f"[yellow]note:[/] {plain(text)}")


class Notes(logging.Handler):
    """Shows what the library logs as notes, each text once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._shown:
            self._shown.add(text)
            note(text)


def plain(text: str) -> str:
    """Printable text in which rich finds no markup."""
    return escape(printable(text))


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain text; names and paths may hold what rich takes for markup."""
    table.add_row(*map(plain, cells))


def print_table(table: Table) -> None:
    """Print to stdout; in a pipe or a file, each row is one line of any length."""
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def prepare_streams() -> None:
    """Write what the terminal's encoding lacks as escapes, and open standard streams that whoever
    started this process has closed: a file would get their number, and what a library prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the least number is free
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Progress with rate and remaining time, unless --quiet or no terminal at stderr."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, disable=quiet or not stderr.is_terminal) as progress:
        yield progress
