"""`avsal overlay`: the heatmap over the video, sound kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from avsal.prediction.settings import PredictSettings
    from avsal.results.overlay import Map

LOOKS = "Looks"

Saliency = Annotated[
    Path | None,
    typer.Option("--saliency", help="Folder of maps from avsal predict; no network runs."),
]
Colormap = Annotated[
    str, typer.Option(help="inferno, jet, turbo, viridis, ...", rich_help_panel=LOOKS)
]
Alpha = Annotated[
    float, typer.Option(min=0, max=1, help="Opacity at the peak.", rich_help_panel=LOOKS)
]
Contours = Annotated[
    bool,
    typer.Option(
        "--contours", help="Lines around 25, 50, 75 % of the gaze.", rich_help_panel=LOOKS
    ),
]
SideBySide = Annotated[
    bool, typer.Option("--side-by-side", help="Original to the left.", rich_help_panel=LOOKS)
]
Crf = Annotated[
    int,
    typer.Option(min=0, max=51, help="H.264 quality; less is better.", rich_help_panel=LOOKS),
]


def overlay(
    video: Annotated[Path, typer.Argument(help="Video or still image.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Video file; an image file for a still.")
    ],
    saliency: Saliency = None,
    colormap: Colormap = "inferno",
    alpha: Alpha = 0.7,
    contours: Contours = False,
    side_by_side: SideBySide = False,
    crf: Crf = 20,
    start: options.Start = None,
    end: options.End = None,
    stride: options.Stride = None,
    audio_context: options.AudioContext = 32,
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch: options.Batch = None,
    offline: options.Offline = False,
    revision: options.Revision = None,
) -> None:
    """Draw the predicted gaze over a video and keep its sound, times and duration."""
    from avsal.cli.console import progress_bars
    from avsal.media import probe
    from avsal.prediction.settings import PredictSettings
    from avsal.results.folder import read_result
    from avsal.results.jobs import check_source
    from avsal.results.overlay import check_output, saved_maps, write_overlay
    from avsal.results.render import OverlayStyle

    style = OverlayStyle(colormap, alpha, contours, side_by_side)
    settings = PredictSettings(audio_context, stride, batch, start, end)
    network = options.Network(model, weights, device, precision, offline, revision)
    check_source(video)
    check_output(video, output)
    frames = probe(video).frames
    if saliency:
        result = read_result(saliency)
        maps = saved_maps(result, start, end)
        start = max(start or 0, result.start or 0)
        part = any(bound is not None for bound in (start or None, end, result.end))
    else:
        maps = _predicted(network, video, settings)
        part = start is not None or end is not None
    with progress_bars() as progress:
        task = progress.add_task(video.name, total=frames)
        write_overlay(
            video,
            output,
            maps,
            style,
            crf,
            start,
            part,
            lambda done: progress.update(task, completed=done),
        )
    typer.echo(output)


def _predicted(network: options.Network, video: Path, settings: PredictSettings) -> Iterator[Map]:
    from avsal.results.overlay import predicted_maps

    return predicted_maps(network.load().predict(video, settings))
