"""`avsal reframe`: the video in another shape, cropped to what people look at."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import options
from avsal.cli.console import progress_bars, report_error
from avsal.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from avsal.prediction.predictor import Predictor
    from avsal.prediction.settings import PredictSettings
    from avsal.reframe.jobs import ReframeSettings

CROP = "Crop"  # heading in --help


Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Video file, an image file for a still, a folder for a folder; else VIDEO-9x16.mp4.",
    ),
]
Aspect = Annotated[
    str | None, typer.Option(help="Shape of the result: 9:16, 1:1, ...", rich_help_panel=CROP)
]
Motion = Annotated[
    str,
    typer.Option(
        help="steady holds still unless moving pays, follow moves sooner, still has one place in "
        "every shot.",
        rich_help_panel=CROP,
    ),
]
Pad = Annotated[
    str | None,
    typer.Option(
        help="Where the gaze does not fit, show more between bars of blur or black.",
        rich_help_panel=CROP,
    ),
]
Zoom = Annotated[
    float,
    typer.Option(help="Crop closer where it pays, up to so many times.", rich_help_panel=CROP),
]
Size = Annotated[
    str | None,
    typer.Option(help="WIDTHxHEIGHT of the result; else the crop's.", rich_help_panel=CROP),
]
EditedPath = Annotated[
    Path | None, typer.Option("--path", help="Render this edited .reframe.json; no network runs.")
]
Saliency = Annotated[
    Path | None,
    typer.Option(help="Maps from avsal predict, or from avsal batch for a folder."),
]
Crf = Annotated[int, typer.Option(min=0, max=51, help="H.264 quality; less is better.")]


def reframe(
    video: Annotated[Path, typer.Argument(help="Video or still image, or a folder of them.")],
    output: Output = None,
    aspect: Aspect = None,
    motion: Motion = "steady",
    pad: Pad = None,
    zoom: Zoom = 1.0,
    path: EditedPath = None,
    saliency: Saliency = None,
    size: Size = None,
    crf: Crf = 20,
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
    """Crop a video to another shape without losing what people look at.

    Sound, times and duration are kept. Beside the result lies OUT.reframe.json with the crop of
    every frame; edit it and render it with --path.
    """
    from avsal.prediction.settings import PredictSettings
    from avsal.reframe.geometry import parse_size
    from avsal.reframe.jobs import ReframeSettings
    from avsal.results.jobs import check_source

    settings = ReframeSettings(
        aspect or "9:16", motion, zoom, pad, parse_size(size) if size else None, crf
    )
    predict = PredictSettings(audio_context, stride, batch)
    network = options.Network(model, weights, device, precision, offline, revision)
    run = _Run(settings, predict, functools.cache(network.load))
    if video.is_dir():
        if path:
            raise UsageError(f"{video}: --path renders one video; give the file that it is of")
        raise typer.Exit(run.folder(video, output or Path("reframed"), saliency))
    check_source(video)
    shape = settings.aspect.replace(":", "x")
    out = output or Path(f"{video.stem}-{shape}{'.png' if _is_image(video) else '.mp4'}")
    if path:
        if aspect:
            raise UsageError(f"aspect {aspect}: {path} has its own; leave one of them out")
        run.rerender(video, out, path)
    else:
        run.file(video, out, saliency)


@dataclass(frozen=True)
class _Run:
    """Reframing of one file or of many with one network."""

    settings: ReframeSettings
    predict: PredictSettings
    load: Callable[[], Predictor]

    def file(self, source: Path, out: Path, saliency: Path | None) -> None:
        """Reframe one file; `saliency` holds its maps."""
        from avsal import media
        from avsal.reframe.jobs import check_output, reframe
        from avsal.results.folder import read_result

        check_output(source, out)
        frames = media.probe(source).frames
        maps = read_result(saliency) if saliency else (self.load(), self.predict)
        with progress_bars() as progress:
            tasks = [progress.add_task(f"{source.name}: {what}", total=frames) for what in _STEPS]
            on_map, on_frame = (
                functools.partial(_advance, progress.update, task) for task in tasks
            )
            reframe(source, out, self.settings, maps, on_map, on_frame)
        typer.echo(out)

    def rerender(self, source: Path, out: Path, path: Path) -> None:
        """Render an edited path."""
        from avsal.reframe.jobs import check_output, rerender

        check_output(source, out)
        with progress_bars() as progress:
            task = progress.add_task(source.name, total=None)
            rerender(
                source,
                out,
                path,
                self.settings.fill,
                self.settings.size,
                self.settings.crf,
                functools.partial(_advance, progress.update, task),
            )
        typer.echo(out)

    def folder(self, folder: Path, output: Path, saliency: Path | None) -> int:
        """Reframe what a folder holds; return the exit code."""
        from avsal.results.jobs import plan_folder

        failed = False
        for job in plan_folder(folder, output):
            result = job.folder.relative_to(output)
            try:
                suffix = ".png" if _is_image(job.source) else ".mp4"
                out = job.folder.with_name(job.folder.name + suffix)
                self.file(job.source, out, saliency / result if saliency else None)
            except Exception as error:  # whatever is wrong with one, the next may be fine
                report_error(error)
                failed = True
        return int(failed)


_STEPS = ("gaze", "video")


def _advance(update: Callable[..., None], task: TaskID, done: int) -> None:
    update(task, completed=done)


def _is_image(source: Path) -> bool:
    from avsal import media

    return media.probe(source).is_image
