"""`avsal measure`: how much of the predicted gaze areas get, over time."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import options
from avsal.cli.console import printable, progress_bars, say
from avsal.errors import UsageError
from avsal.prediction.settings import Precision, PredictSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from avsal.measure.areas import Area
    from avsal.results.gaze import Maps

AREAS = "Areas"  # headings in --help
COMPARE = "Compare"

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Folder of the results; else beside the video: NAME.measure."
    ),
]
AreaTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--area",
        metavar="NAME:X,Y,W,H",
        help="A box in pixels or per cent (logo:5%,5%,20%,10%) or a polygon (roof:0,0;99,0;50,40); "
        "NAME@SECONDS: for key frames. May be repeated.",
        rich_help_panel=AREAS,
    ),
]
AreaFile = Annotated[
    Path | None,
    typer.Option(
        "--areas",
        help="CSV with name, time, x, y, w, h or points; or JSON, see the README.",
        rich_help_panel=AREAS,
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(help="Cells of a grid as areas, such as 3x3.", rich_help_panel=AREAS),
]
Saliency = Annotated[Path | None, typer.Option(help="Maps from avsal predict; no network runs.")]
Compare = Annotated[
    Path | None,
    typer.Option(help="Another version of the video, measured too.", rich_help_panel=COMPARE),
]
CompareSaliency = Annotated[
    Path | None, typer.Option(help="Maps of the other version.", rich_help_panel=COMPARE)
]


def measure(
    video: Annotated[Path, typer.Argument(help="Video or still image.")],
    output: Output = None,
    area: AreaTexts = None,
    areas: AreaFile = None,
    grid: Grid = None,
    saliency: Saliency = None,
    compare: Compare = None,
    compare_saliency: CompareSaliency = None,
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
    """Measure how much of the predicted gaze areas of the picture get, over time.

    Writes report.html, shares.csv and summary.json. It tells no time to first
    fixation, no per cent of people who saw something and no gaze path: a
    density says where gaze is at a moment, not whose it is or in which order.
    """
    from avsal.measure.jobs import measure_to_folder
    from avsal.measure.summary import Video
    from avsal.media.source import name_of
    from avsal.media.video import VideoReader
    from avsal.results.folder import read_result
    from avsal.results.plan import check_source

    check_source(video)
    out = output or _beside(video)
    if compare_saliency and not compare:
        raise UsageError("--compare-saliency needs --compare, the video that it is of")
    if compare:
        check_source(compare)
    network = options.Network(model, weights, device, precision, offline, revision)
    load = functools.cache(network.load)
    settings = PredictSettings(int(audio_context), stride, batch)

    def maps(folder: Path | None) -> Maps:
        return read_result(folder) if folder else (load(), settings)

    with ExitStack() as files:
        reader = files.enter_context(VideoReader(video))
        info = reader.info
        chosen = _areas(area or [], areas, grid, (info.width, info.height))
        first, second = Video(video, reader, maps(saliency)), None
        if compare:
            other = files.enter_context(VideoReader(compare))
            second = Video(compare, other, maps(compare_saliency))
        progress = files.enter_context(progress_bars())
        task = progress.add_task(printable(name_of(video)), total=info.frames)
        measure_to_folder(
            first, chosen, out, second, lambda done: progress.update(task, completed=done)
        )
    say(str(out / "report.html"))


def _beside(video: Path) -> Path:
    from avsal.media.source import is_address

    if is_address(video):
        raise UsageError(f"{video}: is an address; give --output")
    return video.with_name(f"{video.stem}.measure")


def _areas(
    texts: Sequence[str], path: Path | None, grid: str | None, size: tuple[int, int]
) -> list[Area]:
    from avsal.measure.areas import check_unique, grid_areas, parse_areas, read_areas

    found = [
        *parse_areas(texts, size),
        *(read_areas(path, size) if path else []),
        *(grid_areas(grid) if grid else []),
    ]
    if not found:
        raise UsageError("nothing to measure; give --area NAME:X,Y,W,H, --areas FILE or --grid 3x3")
    check_unique(found)
    return found
