"""`avsal export`: maps and crop paths for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avsal.cli.console import progress_bars, say
from avsal.errors import UsageError


def export(
    source: Annotated[
        Path, typer.Argument(help="Folder of maps, or a .reframe.json file with a crop path.")
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            help="File to write. Maps: .csv or .parquet. Crop path: .sendcmd (FFmpeg), .csv, "
            ".fcpxml, .edl or .otio.",
        ),
    ],
    video: Annotated[
        Path | None,
        typer.Option(
            help="Video of the crop path (default: the file that it names, in the same folder)."
        ),
    ] = None,
) -> None:
    """Write maps as a table of numbers, or a crop path for FFmpeg or an editor.

    A table has a row for every frame: time, peak, centroid, spread, entropy
    and shot. Editors get a clip for every shot, with the crop as key frames
    where the format has them.
    """
    if to.exists() and source.exists() and to.samefile(source):
        raise UsageError(f"{to}: this is the input itself; choose another --to")
    if not source.is_dir():
        from avsal.crops.export import write_export

        write_export(source, to, video)
    elif video is not None:
        raise UsageError("--video belongs to a crop path; omit it for maps")
    else:
        from avsal.results.folder import read_result

        with progress_bars() as bars:
            task = bars.add_task(source.name, total=None)
            result = read_result(source)
            result.to_table(to, lambda count: bars.update(task, completed=count))
    say(str(to))
