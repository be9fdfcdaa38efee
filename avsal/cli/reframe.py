"""`avsal reframe`: crop a video to another shape, around what people look at."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from avsal.cli import options
from avsal.crops.settings import Fill, Fit, Motion
from avsal.errors import UsageError

in_crop = options.panel("Crop")


Aspect = Annotated[str | None, in_crop(help="Shape of the result, such as 1:1 (default: 9:16).")]
Way = Annotated[
    Motion,
    in_crop(
        help="steady stays still unless moving keeps clearly more of the gaze, follow moves "
        "sooner, still never moves within a shot.",
    ),
]
Shots = Annotated[
    Fit | None,
    in_crop(
        help="Where one crop does not hold the gaze of a shot: crop nevertheless (default), pad "
        "with bars, split into two panels, or auto: whichever gains most.",
    ),
]
Pad = Annotated[
    Fill | None,
    in_crop(
        help="What the bars of --fit pad and auto show (default: blur); alone it means --fit pad."
    ),
]
For = Annotated[
    str | None,
    in_crop(
        "--for",
        help="Aspect and size for a platform: shorts or reels (1080x1920), square (1080x1080) or "
        "portrait (1080x1350).",
    ),
]
Zoom = Annotated[
    float, in_crop(help="Zoom in by at most this factor, 1 to 4, where little gaze is lost.")
]
Width = Annotated[
    str | None, in_crop(help="WIDTHxHEIGHT of the result (default: the crop's size).")
]
EditedPath = Annotated[
    Path | None,
    typer.Option(help="Render this .reframe.json, which you may have edited; no network runs."),
]

Export = Annotated[
    Path | None,
    typer.Option(
        help="Also write the crop path for FFmpeg (.sendcmd), as .csv, or for editors (.fcpxml, "
        ".edl, .otio).",
    ),
]


@options.grouped
def reframe(
    *,
    inputs: options.Inputs,
    output: options.Output = None,
    files: options.Files,
    aspect: Aspect = None,
    preset: For = None,
    motion: Way = Motion.STEADY,
    fit: Shots = None,
    pad: Pad = None,
    zoom: Zoom = 1.0,
    path: EditedPath = None,
    saliency: options.Saliency = None,
    export: Export = None,
    size: Width = None,
    crf: options.Crf = 20,
    windows: options.Windows,
    network: options.Network,
) -> None:
    """Crop a video to another shape without losing what people look at.

    Sound, times and duration are kept. The result of NAME.mp4 is NAME.9x16.mp4
    next to it; in a folder of results it is NAME.mp4. Next to each result is
    NAME.reframe.json with the crop of every frame; edit it and render it with
    --path.
    """
    from avsal.cli.run import run_on_files
    from avsal.crops.api import check_path, settings_of
    from avsal.crops.api import reframe as crop
    from avsal.crops.export import export_kept
    from avsal.crops.file import name_part, read_head, saved_weak_shots
    from avsal.results.plan import BY_KIND

    # What is wrong for one file is wrong for all.
    decided: dict[str, Any] = {  # by a path file, where there is one
        "aspect": aspect,
        "preset": preset,
        "motion": motion,
        "fit": fit,
        "zoom": zoom,
    }
    others: dict[str, Any] = {"pad": pad, "size": size, "crf": crf}
    settings = settings_of(**decided, **others)
    windows.settings()
    check_path(path, **decided, saliency=saliency, start=windows.start, end=windows.end)
    _check_one_file(inputs, path, export)
    keywords = decided | others | windows.keywords()
    function = functools.partial(crop, path=path, export=export, **keywords)
    shape = settings.aspect if path is None else read_head(path).aspect
    ending = f".{name_part(shape)}{BY_KIND}"
    runs = network if path is None else None
    on_kept = None if export is None else functools.partial(export_kept, export)

    def weak_shots(place: Path) -> dict[str, object]:
        return {"weak_shots": saved_weak_shots(place)}

    values = (function, inputs, output, ending, files, runs, saliency)
    made_of = () if path is None else (path,)
    code = run_on_files(*values, on_kept=on_kept, made_of=made_of, details=weak_shots)
    raise typer.Exit(code)


def _check_one_file(inputs: list[Path], path: Path | None, export: Path | None) -> None:
    """Refuse options that make sense for one file only if several may be given."""
    from avsal.results.plan import STREAM, is_pattern

    if path is None and export is None:
        return
    if export is not None and export.suffix.lower() != ".csv" and STREAM in inputs:
        raise UsageError("--export: names the video, which a pipe has not; save it to a file first")
    if len(inputs) == 1 and not inputs[0].is_dir() and not is_pattern(inputs[0]):
        return
    if path is not None:
        raise UsageError("--path renders one video; give the file that it belongs to")
    raise UsageError("--export writes one file; run avsal export on each path instead")
