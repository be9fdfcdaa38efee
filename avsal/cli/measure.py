"""`avsal measure`: what share of the predicted gaze falls in each area, over time."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from avsal.cli import options
from avsal.cli.console import StepBars, progress_bars, say
from avsal.errors import UsageError
from avsal.prediction.settings import EngineName, Precision

AREAS = "Areas"  # headings in --help
COMPARE = "Compare"

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Folder for the results (default: NAME.measure next to the video)."
    ),
]
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
Saliency = Annotated[
    Path | None,
    typer.Option(help="Use the maps in this folder, written by avsal predict; no network runs."),
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


def measure(
    video: Annotated[Path, typer.Argument(help="Video or still image.")],
    output: Output = None,
    area: AreaTexts = None,
    areas: AreaFile = None,
    grid: Grid = None,
    saliency: Saliency = None,
    compare: Compare = None,
    compare_saliency: CompareSaliency = None,
    compare_areas: CompareAreas = None,
    stride: options.Stride = None,
    audio_context: options.AudioContext = options.SoundFrames.INFERENCE,
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = Precision.AUTO,
    batch: options.Batch = None,
    offline: options.Offline = False,
    revision: options.Revision = None,
    engine: options.Engine = EngineName.AUTO,
) -> None:
    """Measure what share of the predicted gaze falls in each area, over time.

    Writes report.html, shares.csv, summary.json and thumbnails. It cannot give the
    time to first fixation, the percentage of people who saw something, or gaze
    paths: a map says where gaze is at a moment, not who looked or in which order.
    """
    from avsal import atomic
    from avsal.areas.api import measure as measured
    from avsal.areas.measurement import written_names
    from avsal.media.source import name_of
    from avsal.results.plan import check_source

    check_source(video)
    out = output or _beside(video)
    network = options.Network(model, weights, device, precision, offline, revision, engine)
    # Begin the folder before the network runs, to find out early if it cannot be written.
    with atomic.new_folder(out, written_names) as partial, progress_bars() as bars:
        measurement = measured(
            video,
            area or (),
            areas_file=areas,
            grid=grid,
            saliency=saliency,
            compare=compare,
            compare_saliency=compare_saliency,
            compare_areas_file=compare_areas,
            stride=stride,
            audio_context=int(audio_context),
            batch=batch,
            progress=StepBars(bars, name_of(video)),
            **asdict(network),
        )
        measurement.write(partial, _command_line())
    say(str(out / "report.html"))


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


def _beside(video: Path) -> Path:
    from avsal.media.source import is_address

    if is_address(video):
        raise UsageError(
            f"{video}: is a web address, so there is no folder to write next to; give --output"
        )
    return video.with_name(f"{video.stem}.measure")
