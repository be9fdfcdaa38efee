"""`avsal measure`: what share of the predicted gaze falls in each area, over time."""

from __future__ import annotations

import functools
import re
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from avsal.cli import options

AREAS = "Areas"  # headings in --help
COMPARE = "Compare"

AreaTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--area",
        metavar="NAME:X,Y,W,H",
        help="A box in pixels or per cent (logo:5%,5%,20%,10%) or a polygon (roof:0,0;99,0;50,40); "
        "NAME@SECONDS:... makes a key frame. May be given several times.",
        rich_help_panel=AREAS,
    ),
]
AreaFile = Annotated[
    Path | None,
    typer.Option(
        "--areas",
        help="File of areas: CSV with name, time, and x, y, w, h or points; or JSON.",
        rich_help_panel=AREAS,
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(help="Use the cells of a grid, such as 3x3, as areas.", rich_help_panel=AREAS),
]
Compare = Annotated[
    Path | None,
    typer.Option(
        help="Another version of the video, measured for comparison.", rich_help_panel=COMPARE
    ),
]
CompareSaliency = Annotated[
    Path | None, typer.Option(help="Use these maps of the other version.", rich_help_panel=COMPARE)
]
CompareAreas = Annotated[
    Path | None,
    typer.Option(
        help="File of the areas that are elsewhere in the other version, by name, as for --areas.",
        rich_help_panel=COMPARE,
    ),
]


@options.grouped
def measure(
    *,
    inputs: options.Inputs,
    output: options.Output = None,
    files: options.Files,
    area: AreaTexts = None,
    areas: AreaFile = None,
    grid: Grid = None,
    saliency: options.Saliency = None,
    compare: Compare = None,
    compare_saliency: CompareSaliency = None,
    compare_areas: CompareAreas = None,
    windows: options.Windows,
    network: options.Network,
) -> None:
    """Measure what share of the predicted gaze falls in each area, over time.

    Writes report.html, shares.csv, summary.json and thumbnails to the folder
    NAME.measure next to NAME.mp4. It cannot give the time to first fixation, the
    percentage of people who saw something, or gaze paths: a map says where gaze is
    at a moment, not who looked or in which order.
    """
    from avsal.cli.run import run_on_files

    windows.settings()  # what is wrong here is wrong for every file
    files = replace(files, force=files.force or output is not None)  # only its own is replaced
    function = functools.partial(
        measure_to_folder,
        areas=area or (),
        areas_file=areas,
        grid=grid,
        compare=compare,
        compare_saliency=compare_saliency,
        compare_areas_file=compare_areas,
        command=_command_line(),
        **windows.keywords(),
        **asdict(network),
    )
    raise typer.Exit(run_on_files(function, inputs, output, ".measure", files, network, saliency))


def measure_to_folder(
    video: Path, output: Path, *, force: bool, command: str, **options: Any
) -> Path:
    """Measure one file and return the place of its report.

    Raises:
        AvsalError: see `avsal.measure`; the folder cannot be written, or holds something else.
    """
    from avsal import atomic
    from avsal.areas.api import measure as measured
    from avsal.areas.measurement import written_names
    from avsal.results.plan import ExistsError

    if output.exists() and not force:
        raise ExistsError(output)
    # The folder is begun first: that it cannot be written is found out before the network runs.
    with atomic.new_folder(output, written_names) as partial:
        measured(video, **options).write(partial, command)
    return output / "report.html"


def _command_line() -> str:
    """The command line as it was typed, but for the keys in addresses."""
    from avsal.media.source import without_query

    def shown(word: str) -> str:
        start = re.search(r"https?:/", word, re.IGNORECASE)
        if start is None:
            return word
        try:
            return word[: start.start()] + without_query(word[start.start() :])
        except ValueError:  # no address after all
            return word[: start.end()] + "..."

    return shlex.join(["avsal", *map(shown, sys.argv[1:])])
