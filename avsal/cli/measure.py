"""`avsal measure`: what share of the predicted gaze falls in each area, over time."""

from __future__ import annotations

import functools
import re
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from avsal.cli import options

in_areas, in_compare = options.panel("Areas"), options.panel("Compare")
CHANGE_NOTHING = {"batch", "device", "offline"}  # options that give the same result

AreaTexts = Annotated[
    list[str] | None,
    in_areas(
        "--area",
        metavar="NAME:X,Y,W,H",
        help="A box in pixels or per cent (logo:5%,5%,20%,10%) or a polygon (roof:0,0;99,0;50,40); "
        "NAME@SECONDS:... makes a key frame. May be given several times.",
    ),
]
AreaFile = Annotated[
    Path | None,
    in_areas(
        "--areas", help="File of areas: CSV with name, time, and x, y, w, h or points; or JSON."
    ),
]
Grid = Annotated[str | None, in_areas(help="Use the cells of a grid, such as 3x3, as areas.")]
Compare = Annotated[
    Path | None, in_compare(help="Another version of the video, measured for comparison.")
]
CompareSaliency = Annotated[Path | None, in_compare(help="Use these maps of the other version.")]
CompareAreas = Annotated[
    Path | None,
    in_compare(
        help="File of the areas that are elsewhere in the other version, by name, as for --areas."
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
    from avsal.results.plan import MEASURED

    windows.settings()  # what is wrong here is wrong for every file
    files = replace(files, force=files.force or output is not None)  # only its own is replaced
    options: dict[str, Any] = {
        "areas": area or (),
        "areas_file": areas,
        "grid": grid,
        "compare": compare,
        "compare_saliency": compare_saliency,
        "compare_areas_file": compare_areas,
        **windows.keywords(),
    }
    decisive = options | network.keywords()
    given = {name: value for name, value in decisive.items() if name not in CHANGE_NOTHING}
    function = functools.partial(measure_to_folder, command=_command_line(), given=given, **options)
    current = functools.partial(is_measured, given=given)
    code = run_on_files(
        function, inputs, output, MEASURED, files, network, saliency, is_current=current
    )
    raise typer.Exit(code)


def measure_to_folder(
    video: Path,
    output: Path,
    *,
    force: bool,
    command: str,
    given: Mapping[str, Any],
    saliency: Path | None = None,
    **options: Any,
) -> Path:
    """Measure one file and return the place of its report.

    Args:
        given: see `is_measured`.

    Raises:
        AvsalError: see `avsal.measure`; the folder cannot be written, or holds something else.
    """
    from avsal import atomic
    from avsal.areas.api import measure as measured
    from avsal.areas.measurement import written_names
    from avsal.results.checks import ExistsError

    if output.exists() and not force:
        raise ExistsError(output)
    deciding = _deciding(video, saliency, given)
    # The folder is begun first: that it cannot be written is found out before the network runs.
    with atomic.new_folder(output, written_names) as partial:
        measured(video, saliency=saliency, **options).write(partial, command, deciding)
    return output / "report.html"


def is_measured(
    folder: Path, video: Path, saliency: Path | None, *, given: Mapping[str, Any]
) -> bool:
    """Whether a folder holds the measurement of these files with these options.

    Args:
        given: options of `avsal.measure` as they were given; those that change no result omitted.
    """
    from avsal.areas.measurement import is_current

    return is_current(folder, _deciding(video, saliency, given))


def _deciding(video: Path, saliency: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a measurement, as JSON values: files by their names, sizes and times."""
    from avsal.media.source import file_identity, is_address
    from avsal.results.description import DESCRIPTION
    from avsal.version import __version__

    def identified(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return list(value)
        if not isinstance(value, str | Path):
            return value
        path = Path(value)
        with suppress(OSError):
            if is_address(path) or path.is_file():
                return file_identity(path)
            if (path / DESCRIPTION).is_file():  # maps
                return file_identity(path / DESCRIPTION)
        return str(value)

    files = {"video": video, "saliency": saliency, **given}
    return {"avsal": __version__, **{name: identified(value) for name, value in files.items()}}


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
