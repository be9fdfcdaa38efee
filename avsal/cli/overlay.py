"""`avsal overlay`: the heatmap over the video, sound kept."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import options
from avsal.cli.console import printable, progress_bars, say
from avsal.prediction.settings import Precision
from avsal.results.style import ColorBy, Colormap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from avsal.media.sound import SoundFile
    from avsal.media.video import VideoReader
    from avsal.prediction.settings import PredictSettings
    from avsal.results.overlay import Mapped
    from avsal.results.style import OverlayStyle

LOOKS = "Looks"

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Video file, an image file for a still; else beside the video: NAME.saliency.mp4.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace NAME.saliency.mp4 of an earlier call.")
]
Saliency = Annotated[
    Path | None,
    typer.Option("--saliency", help="Folder of maps from avsal predict; no network runs."),
]
Colors = Annotated[
    Colormap, typer.Option("--colormap", help="Colour map of the heatmap.", rich_help_panel=LOOKS)
]
ColoredBy = Annotated[
    ColorBy,
    typer.Option(
        "--color-by",
        help="What colours stand for: the share of gaze inside, equal in all frames, or density.",
        rich_help_panel=LOOKS,
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Opacity where the heatmap is strongest.", rich_help_panel=LOOKS
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
    typer.Option("--side-by-side", help="Put the original to the left.", rich_help_panel=LOOKS),
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
) -> None:
    """Draw the predicted gaze over a video and keep its sound, times and duration."""
    from avsal.media.sound import SoundFile
    from avsal.media.video import VideoReader
    from avsal.prediction.settings import PredictSettings
    from avsal.results.folder import read_result
    from avsal.results.overlay import matched, predicted
    from avsal.results.plan import check_source, choose_output
    from avsal.results.style import OverlayStyle

    style = OverlayStyle(colormap, alpha, color_by, threshold, contours, legend, side_by_side)
    settings = PredictSettings(int(audio_context), stride, batch, start, end)
    network = options.Network(model, weights, device, precision, offline, revision)
    check_source(video)
    result = read_result(saliency) if saliency else None
    if result is not None:
        start, end = result.stretch(start, end)
        settings = replace(settings, start=start, end=end)
    with VideoReader(video, start=settings.start) as frames:
        out = choose_output(video, frames.info.is_image, output, force)
        if result is None:
            predictor = network.load()
            sound = SoundFile(video) if frames.info.has_audio else None
            pairs = predicted(predictor, frames, settings, sound)
        else:  # nobody but the writer reads the sound
            sound, pairs = None, matched(frames, result, start, end)
        with closing(pairs):
            _draw(frames, sound, out, pairs, style, crf, settings)
    say(str(out))


def _draw(
    video: VideoReader,
    sound: SoundFile | None,
    out: Path,
    pairs: Iterable[Mapped],
    style: OverlayStyle,
    crf: int,
    settings: PredictSettings,
) -> None:
    from avsal.prediction.settings import expected_maps
    from avsal.results.overlay import write_overlay

    info, start, end = video.info, settings.start, settings.end
    total = expected_maps(info.frames, info.rate, start, end)
    part = start is not None or end is not None
    with progress_bars() as progress:
        task = progress.add_task(printable(out.name), total=total)
        write_overlay(
            video,
            out,
            pairs,
            style,
            crf,
            part,
            sound,
            lambda done: progress.update(task, completed=done),
        )
