"""`avsal overlay`: a heatmap over the video, with its sound."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from avsal.cli import options
from avsal.cli.console import printable, progress_bars, say
from avsal.prediction.settings import EngineName, Precision
from avsal.prediction.style import ColorBy, Colormap

LOOKS = "Looks"

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Video file, or an image file for a still (default: NAME.saliency.mp4 next to the "
        "video).",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace NAME.saliency.mp4 of an earlier run.")
]
Saliency = Annotated[
    Path | None,
    typer.Option(
        "--saliency", help="Use the maps in this folder, written by avsal predict; no network runs."
    ),
]
Colors = Annotated[
    Colormap, typer.Option("--colormap", help="Colour map of the heatmap.", rich_help_panel=LOOKS)
]
ColoredBy = Annotated[
    ColorBy,
    typer.Option(
        "--color-by",
        help="What colours stand for: the share of the gaze inside, the same in every frame, or "
        "the density of each frame.",
        rich_help_panel=LOOKS,
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Opacity of the heatmap where it is strongest.", rich_help_panel=LOOKS
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Draw only the smallest area that holds this share of the gaze (default: 0.85).",
        rich_help_panel=LOOKS,
    ),
]
Contours = Annotated[
    bool,
    typer.Option(
        "--contours", help="Draw lines around 25, 50 and 75 % of the gaze.", rich_help_panel=LOOKS
    ),
]
Legend = Annotated[
    bool | None,
    typer.Option(
        "--legend/--no-legend",
        help="Explain the colours in a corner (default: where the picture is large enough).",
        rich_help_panel=LOOKS,
    ),
]
SideBySide = Annotated[
    bool,
    typer.Option(
        "--side-by-side", help="Show the original frame to the left.", rich_help_panel=LOOKS
    ),
]
Crf = Annotated[
    int,
    typer.Option(
        min=0,
        max=51,
        help="H.264 CRF: lower means better quality and a larger file.",
        rich_help_panel=LOOKS,
    ),
]


def overlay(
    video: Annotated[Path, typer.Argument(help="Video or still image.")],
    output: Output = None,
    force: Force = False,
    saliency: Saliency = None,
    colormap: Colors = Colormap.TURBO,
    color_by: ColoredBy = ColorBy.SHARE,
    alpha: Alpha = 0.5,
    threshold: Threshold = None,
    contours: Contours = False,
    legend: Legend = None,
    side_by_side: SideBySide = False,
    crf: Crf = 20,
    start: options.Start = None,
    end: options.End = None,
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
    """Draw the predicted gaze over a video and keep its sound, times and duration."""
    from avsal.results.api import overlay as draw

    network = options.Network(model, weights, device, precision, offline, revision, engine)
    with progress_bars() as bars:
        task = bars.add_task(printable(video.name), total=None)
        out = draw(
            video,
            output,
            colormap=colormap,
            color_by=color_by,
            alpha=alpha,
            threshold=threshold,
            contours=contours,
            legend=legend,
            side_by_side=side_by_side,
            crf=crf,
            saliency=saliency,
            force=force,
            start=start,
            end=end,
            stride=stride,
            audio_context=int(audio_context),
            batch=batch,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
            **asdict(network),
        )
    say(str(out))
