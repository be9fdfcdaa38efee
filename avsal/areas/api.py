"""`avsal.measure`: what share of the predicted gaze falls in each area, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from avsal.areas.areas import (
    Area,
    Box,
    Size,
    area_of,
    check_unique,
    grid_areas,
    normal_name,
    parse_areas,
    read_areas,
)
from avsal.areas.jobs import measure_video
from avsal.areas.measurement import Measurement
from avsal.areas.summary import Video
from avsal.errors import UsageError
from avsal.media.video import VideoReader
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import PredictSettings
from avsal.results.map_source import MapSource
from avsal.results.plan import check_source

File = str | os.PathLike[str]
Progress = Callable[[str, int, int | None], None]  # step, frames done, frames in all if known
Areas = Mapping[str, Box | Mapping[float, Box]] | Iterable[Area | str]


def measure(
    video: File,
    areas: Areas = (),
    *,
    areas_file: File | None = None,
    grid: str | None = None,
    saliency: File | None = None,
    compare: File | None = None,
    compare_saliency: File | None = None,
    compare_areas: Areas = (),
    compare_areas_file: File | None = None,
    start: float | None = None,
    end: float | None = None,
    stride: int | None = None,
    audio_context: int = 32,
    batch: int | None = None,
    model: str | Predictor | None = None,
    weights: File | None = None,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    revision: str | None = None,
    engine: str = "auto",
    progress: Progress = lambda _step, _done, _total: None,
) -> Measurement:
    """Measure what share of the predicted gaze falls in each area, over time.

    Give at least one area by `areas`, `areas_file` or `grid`.

    Args:
        video: a file, image or video, or an http(s) address.
        areas: by name, {"logo": "5%,5%,20%,10%"}: a box x, y, width, height in pixels or per cent,
            as text or four numbers, or a polygon "0,0;50%,0;25%,30%"; an area that moves has
            key frames by second, {"car": {1.5: "0,0,90,50", 4: "300,0,90,50"}}. Or `Area` objects,
            or texts "logo:5%,5%,20%,10%".
        areas_file: a .csv or .json file of areas.
        grid: the cells of a grid as areas, "3x3".
        saliency: a folder of maps that `avsal predict` wrote; no network runs.
        compare: another version of the video, measured for comparison.
        compare_saliency: a folder of its maps.
        compare_areas, compare_areas_file: areas that are elsewhere in the other version, by the
            names that they have in the video; all others are in the same place.
        start, end, stride, audio_context, batch: see `avsal.prediction.PredictSettings`.
        model, weights, device, precision, offline, revision, engine: see `avsal.load_model`.
        progress: called with "gaze", the frames done, and all frames if known.

    Raises:
        AvsalError: something cannot be read or does not fit together.
    """
    _check_compared(compare, compare_saliency, compare_areas, compare_areas_file)
    settings = PredictSettings(audio_context, stride, batch, start, end)
    source = MapSource(model, weights, device, precision, offline, revision, engine, settings)
    for place in (video, compare):
        if place is not None:
            check_source(Path(place))
    with ExitStack() as files:
        reader = files.enter_context(VideoReader(Path(video)))
        size = reader.info.width, reader.info.height
        chosen = choose_areas(areas, areas_file, grid, size)
        first, second = Video(Path(video), reader, source.maps(saliency)), None
        other_chosen = chosen
        if compare is not None:
            other = files.enter_context(VideoReader(Path(compare)))
            size = other.info.width, other.info.height
            other_chosen = _other_areas(chosen, _listed(compare_areas, compare_areas_file, size))
            second = Video(Path(compare), other, source.maps(compare_saliency))
        total = reader.info.frames
        return measure_video(
            first, chosen, second, other_chosen, lambda done: progress("gaze", done, total)
        )


def choose_areas(areas: Areas, path: File | None, grid: str | None, size: Size) -> list[Area]:
    """The areas of all three arguments of `measure`.

    Raises:
        UsageError: there is none, two have the same name, or one cannot be understood.
        DataError: the file cannot be read.
    """
    found = _listed(areas, path, size)
    found += grid_areas(grid) if grid else []
    if not found:
        raise UsageError("nothing to measure; give --area NAME:X,Y,W,H, --areas FILE or --grid 3x3")
    check_unique(found)
    return found


def _listed(areas: Areas, path: File | None, size: Size) -> list[Area]:
    """Areas that a program gives, and those of a file."""
    if isinstance(areas, Mapping):
        found = [area_of(name, shape, size) for name, shape in areas.items()]
    else:
        items = [areas] if isinstance(areas, str | Area | os.PathLike) else list(areas)
        found = parse_areas((item for item in items if isinstance(item, str)), size)
        found += [_checked(item) for item in items if not isinstance(item, str)]
    return found + (read_areas(Path(path), size) if path is not None else [])


def _check_compared(
    compare: File | None, saliency: File | None, areas: Areas, areas_file: File | None
) -> None:
    """Refuse what belongs to another version where there is none."""
    given = {"saliency": saliency is not None, "areas": bool(areas) or areas_file is not None}
    for word, is_given in given.items():
        if is_given and compare is None:
            raise UsageError(f"--compare-{word} needs --compare, the video that it belongs to")


def _other_areas(areas: list[Area], other: list[Area]) -> list[Area]:
    """The areas of another version: its own, and the video's where it has none of that name."""
    check_unique(other)
    own = {normal_name(area.name): area for area in other}
    names = {normal_name(area.name) for area in areas}
    for name in own.keys() - names:
        raise UsageError(
            f"--compare-areas: {name} is no area of the video ({', '.join(sorted(names))}); areas "
            "are compared by name"
        )
    return [replace(own.get(normal_name(area.name), area), name=area.name) for area in areas]


def _checked(area: object) -> Area:
    if not isinstance(area, Area):
        raise UsageError(f"area {area!r}: give an Area or a text; a file as areas_file")
    return area
