"""`avsal export`: maps, crop paths and networks for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avsal.cli import options
from avsal.cli.console import counted, progress_bars, say
from avsal.errors import MediaError, UsageError

ONNX = "onnx"  # in the source's place; a file or folder of this name comes first


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of maps, .reframe.json file with a crop path, or the word onnx for a "
            "network.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="After onnx: name of a network or of weights (default: avsal-small).",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "-o",
            help="File to write. Maps: .csv or .parquet. Crop path: .sendcmd (FFmpeg), .csv, "
            ".fcpxml, .edl or .otio. Network: .onnx (default: its name in this folder).",
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            help="Video of the crop path (default: the file that it names, in the same folder)."
        ),
    ] = None,
    weights: options.Weights = None,
    offline: options.Offline = False,
    revision: options.Revision = None,
) -> None:
    """Write maps, a crop path or a network for other programs.

    Maps become a table with a row for every frame: time, peak, centroid,
    spread, entropy and shot. A crop path is for FFmpeg or an editor, which
    gets a clip for every shot, with the crop as key frames where the format
    has them. `avsal export onnx` writes a network with its weights as one
    ONNX file, which runs without avsal.
    """
    if str(source) == ONNX and (model is not None or not source.exists()):
        if video is not None:
            raise UsageError("--video belongs to a crop path; omit it for a network")
        place, held = _export_network(model, weights, to, offline, revision)
    elif model is not None:
        raise UsageError(f"{model}: a name after {source} has no meaning; omit it")
    else:
        place, held = _export_result(source, to, video)
    say(f"{place}: {held}")


def _export_result(source: Path, to: Path | None, video: Path | None) -> tuple[Path, str]:
    """Write maps or a crop path, and return where it is and what it holds."""
    from avsal.media.suffixes import STILLS, VIDEOS
    from avsal.results.checks import is_same

    known = "a folder of maps or a .reframe.json file"
    if not source.exists():
        raise MediaError(f"{source}: no such file or folder; give {known}")
    if source.is_file() and source.suffix.lower() in VIDEOS | STILLS:
        raise MediaError(f"{source}: is a video or a picture; give {known} that was made from it")
    if to is None:
        raise UsageError("export: give the file to write with --to")
    if is_same(to, source):
        raise UsageError(f"{to}: this is the input itself; choose another --to")
    if not source.is_dir():
        from avsal.crops.export import write_export

        count = write_export(source, to, video)
    elif video is not None:
        raise UsageError("--video belongs to a crop path; omit it for maps")
    else:
        from avsal.results.folder import read_result

        with progress_bars() as bars:
            task = bars.add_task(source.name, total=None)
            result = read_result(source)
            count = result.to_table(to, lambda done: bars.update(task, completed=done))
    return to, counted(count, "row" if to.suffix.lower() in (".csv", ".parquet") else "frame")


def _export_network(
    model: str | None, weights: str | None, to: Path | None, offline: bool, revision: str | None
) -> tuple[Path, str]:
    """Write a network, and return where it is and what it is."""
    from avsal.weights.onnx_export import SUFFIX, export_onnx
    from avsal.weights.registry import DEFAULT

    name = Path(weights or model or DEFAULT).stem
    if to is None:
        to = Path(f"{name}{SUFFIX}")
        if to.exists():
            raise UsageError(f"{to}: exists; give -o {to} to replace it, or another file")
    with progress_bars() as bars:
        bars.add_task(to.name, total=None)
        export_onnx(to, model, weights, offline=offline, revision=revision)
    return to, f"the network of {name}"
