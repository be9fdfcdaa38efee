"""`avsal reframe`: crop a video to another shape, around what people look at."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from avsal.cli import options
from avsal.cli.console import StepBars, progress_bars, report_error, say
from avsal.crops.settings import Fill, Motion
from avsal.errors import UsageError
from avsal.prediction.settings import EngineName, Precision

CROP = "Crop"  # heading in --help


Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Video file, an image file for a still, or a folder for a folder (default: "
        "NAME.9x16.mp4 next to the video).",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace NAME.9x16.mp4 of an earlier run.")]
Aspect = Annotated[
    str | None,
    typer.Option(help="Shape of the result, such as 1:1 (default: 9:16).", rich_help_panel=CROP),
]
Way = Annotated[
    Motion,
    typer.Option(
        "--motion",
        help="steady stays still unless moving keeps clearly more of the gaze, follow moves "
        "sooner, still never moves within a shot.",
        rich_help_panel=CROP,
    ),
]
Pad = Annotated[
    Fill | None,
    typer.Option(
        help="Show more of the picture between blurred or black bars where the gaze does not fit.",
        rich_help_panel=CROP,
    ),
]
Zoom = Annotated[
    float,
    typer.Option(
        help="Zoom in by at most this factor where little gaze is lost.", rich_help_panel=CROP
    ),
]
Width = Annotated[
    str | None,
    typer.Option(
        "--size",
        help="WIDTHxHEIGHT of the result (default: the crop's size).",
        rich_help_panel=CROP,
    ),
]
EditedPath = Annotated[
    Path | None,
    typer.Option(
        "--path", help="Render this .reframe.json, which you may have edited; no network runs."
    ),
]
Saliency = Annotated[
    Path | None,
    typer.Option(
        help="Use the maps in this folder, written by avsal predict (for a folder: avsal batch)."
    ),
]
Crf = Annotated[
    int,
    typer.Option(min=0, max=51, help="H.264 CRF: lower means better quality and a larger file."),
]
Export = Annotated[
    Path | None,
    typer.Option(
        help="Also write the crop path for FFmpeg (.sendcmd), as .csv, or for editors (.fcpxml, "
        ".edl, .otio).",
    ),
]


def reframe(
    video: Annotated[Path, typer.Argument(help="Video or still image, or a folder of them.")],
    output: Output = None,
    force: Force = False,
    aspect: Aspect = None,
    motion: Way = Motion.STEADY,
    pad: Pad = None,
    zoom: Zoom = 1.0,
    path: EditedPath = None,
    saliency: Saliency = None,
    export: Export = None,
    size: Width = None,
    crf: Crf = 20,
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
    """Crop a video to another shape without losing what people look at.

    Sound, times and duration are kept. NAME.reframe.json, next to the result,
    has the crop of every frame; edit it and render it with --path.
    """
    from avsal.crops.api import reframe as crop
    from avsal.crops.api import settings_of

    network = options.Network(model, weights, device, precision, offline, revision, engine)
    run = functools.partial(
        crop,
        aspect=aspect,
        motion=motion,
        pad=pad,
        zoom=zoom,
        size=size,
        crf=crf,
        path=path,
        export=export,
        force=force,
        stride=stride,
        audio_context=int(audio_context),
        batch=batch,
        **asdict(network),
    )
    if not video.is_dir():
        _file(run, video, output, saliency)
        return
    if path:
        raise UsageError(f"{video}: --path renders one video; give the file that it is of")
    if export:
        raise UsageError(
            f"{video}: --export writes one file; run avsal export on each path instead"
        )
    settings_of(aspect, motion, pad, zoom, size, crf)  # what is wrong here is so for every file
    if saliency is None:
        run = functools.partial(run, model=network.load())
    raise typer.Exit(_folder(run, video, output or Path("reframed"), saliency))


def _file(
    run: Callable[..., Path], video: Path, output: Path | None, saliency: Path | None
) -> None:
    """Reframe one file; `saliency` holds its maps."""
    from avsal.media.source import name_of

    with progress_bars() as bars:
        out = run(video, output, saliency=saliency, progress=StepBars(bars, name_of(video)))
    say(str(out))


def _folder(run: Callable[..., Path], folder: Path, output: Path, saliency: Path | None) -> int:
    """Reframe what a folder holds; return the exit code."""
    from avsal.media.video import VideoReader
    from avsal.results.plan import plan_folder

    failed = False
    for source, place in plan_folder(folder, output):
        maps = saliency / place.relative_to(output) if saliency else None
        try:
            with VideoReader(source) as video:
                suffix = ".png" if video.info.is_image else ".mp4"
            _file(run, source, place.with_name(place.name + suffix), maps)
        except Exception as error:  # whatever is wrong with one, the next may be fine
            report_error(error)
            failed = True
    return int(failed)
