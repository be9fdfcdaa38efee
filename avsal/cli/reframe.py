"""`avsal reframe`: the video in another shape, cropped to what people look at."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import options
from avsal.cli.console import printable, progress_bars, report_error, say
from avsal.errors import UsageError
from avsal.prediction.settings import Precision, PredictSettings
from avsal.reframe.geometry import parse_size
from avsal.reframe.settings import Fill, Motion, ReframeSettings

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from avsal.media.video import VideoReader
    from avsal.prediction.predictor import Predictor

CROP = "Crop"  # heading in --help


Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Video file, an image file for a still, a folder for a folder; else beside the video: "
        "NAME.9x16.mp4.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace NAME.9x16.mp4 of an earlier call.")]
Aspect = Annotated[
    str | None, typer.Option(help="Shape of the result: 9:16, 1:1, ...", rich_help_panel=CROP)
]
Way = Annotated[
    Motion,
    typer.Option(
        "--motion",
        help="steady holds still unless moving pays, follow moves sooner, still has one place in "
        "every shot.",
        rich_help_panel=CROP,
    ),
]
Pad = Annotated[
    Fill | None,
    typer.Option(
        help="Where the gaze does not fit, show more between bars of blur or black.",
        rich_help_panel=CROP,
    ),
]
Zoom = Annotated[
    float,
    typer.Option(help="Crop closer where it pays, up to so many times.", rich_help_panel=CROP),
]
Width = Annotated[
    str | None,
    typer.Option(
        "--size", help="WIDTHxHEIGHT of the result; else the crop's.", rich_help_panel=CROP
    ),
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
    force: Force = False,
    aspect: Aspect = None,
    motion: Way = Motion.STEADY,
    pad: Pad = None,
    zoom: Zoom = 1.0,
    path: EditedPath = None,
    saliency: Saliency = None,
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
) -> None:
    """Crop a video to another shape without losing what people look at.

    Sound, times and duration are kept. Beside the result lies
    NAME.reframe.json with the crop of every frame; edit it and render it with
    --path.
    """
    from avsal.media.video import VideoReader
    from avsal.results.plan import check_source

    shape = parse_size(size) if size else None
    settings = ReframeSettings(aspect or "9:16", motion, zoom, pad, shape, crf)
    predict = PredictSettings(int(audio_context), stride, batch)
    network = options.Network(model, weights, device, precision, offline, revision)
    run = _Run(settings, predict, functools.cache(network.load), force)
    if path:
        moved = {"--motion": motion != Motion.STEADY, "--zoom": zoom != 1}
        _refuse_beside_path(path, {"--aspect": aspect, "--saliency": saliency, **moved})
    if video.is_dir():
        if path:
            raise UsageError(f"{video}: --path renders one video; give the file that it is of")
        raise typer.Exit(run.folder(video, output or Path("reframed"), saliency))
    check_source(video)
    with VideoReader(video) as pictures:
        if path:
            run.rerender(pictures, output, path)
        else:
            run.file(pictures, output, saliency)


def _refuse_beside_path(path: Path, given: dict[str, object]) -> None:
    """A path has what these options would decide."""
    for option, value in given.items():
        if value:
            raise UsageError(f"{option}: {path} decides that already; leave one of them out")


@dataclass(frozen=True)
class _Run:
    """Reframing of one file or of many with one network."""

    settings: ReframeSettings
    predict: PredictSettings
    load: Callable[[], Predictor]
    force: bool

    def file(self, video: VideoReader, output: Path | None, saliency: Path | None) -> None:
        """Reframe one file; `saliency` holds its maps."""
        from avsal.media.source import name_of
        from avsal.reframe.jobs import reframe
        from avsal.results.folder import read_result

        out = self._choose_output(video, output, self.settings.aspect)
        maps = read_result(saliency) if saliency else (self.load(), self.predict)
        with progress_bars() as progress:
            name, total = printable(name_of(video.path)), video.info.frames
            tasks = [progress.add_task(f"{name}: {what}", total=total) for what in _STEPS]
            counts = [functools.partial(_advance, progress, task) for task in tasks]
            reframe(video, out, self.settings, maps, *counts)
        say(str(out))

    def rerender(self, video: VideoReader, output: Path | None, path: Path) -> None:
        """Render an edited path."""
        from avsal.media.source import name_of
        from avsal.reframe.file import read_head
        from avsal.reframe.jobs import rerender

        out = self._choose_output(video, output, read_head(path).aspect)
        settings = self.settings
        with progress_bars() as progress:
            task = progress.add_task(printable(name_of(video.path)), total=video.info.frames)
            count = functools.partial(_advance, progress, task)
            rerender(video, out, path, settings.fill, settings.size, settings.crf, count)
        say(str(out))

    def folder(self, folder: Path, output: Path, saliency: Path | None) -> int:
        """Reframe what a folder holds; return the exit code."""
        from avsal.media.video import VideoReader
        from avsal.results.plan import plan_folder

        failed = False
        for source, place in plan_folder(folder, output):
            maps = saliency / place.relative_to(output) if saliency else None
            try:
                with VideoReader(source) as video:
                    suffix = ".png" if video.info.is_image else ".mp4"
                    self.file(video, place.with_name(place.name + suffix), maps)
            except Exception as error:  # whatever is wrong with one, the next may be fine
                report_error(error)
                failed = True
        return int(failed)

    def _choose_output(self, video: VideoReader, output: Path | None, aspect: str) -> Path:
        """Where the result goes; `aspect` was checked and makes a part of its name."""
        from avsal.results.plan import choose_output

        word = aspect.strip().replace(":", "x")
        return choose_output(Path(video.path), video.info.is_image, output, self.force, word)


_STEPS = ("gaze", "video")


def _advance(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)
