"""`avsal overlay`: a heatmap over the video, with its sound."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Annotated

import typer

from avsal.cli import options
from avsal.prediction.style import ColorBy, Colormap

LOOKS = "Looks"

Colors = Annotated[
    Colormap,
    typer.Option(
        "--colormap",
        metavar="NAME",
        help=f"Colour map of the heatmap: {', '.join(Colormap)}.",
        rich_help_panel=LOOKS,
    ),
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


@options.grouped
def overlay(
    *,
    inputs: options.Inputs,
    output: options.Output = None,
    files: options.Files,
    saliency: options.Saliency = None,
    colormap: Colors = Colormap.TURBO,
    color_by: ColoredBy = ColorBy.SHARE,
    alpha: Alpha = 0.5,
    threshold: Threshold = None,
    contours: Contours = False,
    legend: Legend = None,
    side_by_side: SideBySide = False,
    crf: options.Crf = 20,
    windows: options.Windows,
    network: options.Network,
) -> None:
    """Draw the predicted gaze over a video and keep its sound, times and duration.

    The result of NAME.mp4 is NAME.saliency.mp4 next to it; in a folder of
    results it is NAME.mp4. A still image gives an image.
    """
    from avsal.cli.run import run_on_files
    from avsal.prediction.style import OverlayStyle
    from avsal.results.api import overlay as draw

    windows.settings()  # what is wrong here is wrong for every file
    OverlayStyle(colormap, alpha, color_by, threshold, contours, legend, side_by_side)
    function = functools.partial(
        draw,
        colormap=colormap,
        color_by=color_by,
        alpha=alpha,
        threshold=threshold,
        contours=contours,
        legend=legend,
        side_by_side=side_by_side,
        crf=crf,
        **windows.keywords(),
        **asdict(network),
    )
    code = run_on_files(function, inputs, output, ".saliency.*", files, network, saliency)
    raise typer.Exit(code)
