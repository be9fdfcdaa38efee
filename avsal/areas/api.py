"""`avsal.measure`: how the gaze on a video is shared among areas."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from avsal.areas.areas import (
    Area,
    Box,
    Size,
    area_of,
    check_unique,
    grid_areas,
    normal_name,
    parse_areas,
)
from avsal.areas.files import read_areas
from avsal.areas.measurement import Measurement
from avsal.areas.pictures import SMALL, WIDE, Page, Picture, Version, full_size, picture
from avsal.areas.series import Collector, Series, compare, fine_grid
from avsal.areas.summary import build_summary, made_by
from avsal.errors import UsageError, path_of
from avsal.media.source import name_of
from avsal.media.video import VideoReader
from avsal.prediction.maps import GazeMap
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import PredictSettings
from avsal.results.checks import check_source
from avsal.results.gaze import Gaze, Maps, MapSource, open_gaze

logger = logging.getLogger("avsal")
_PICTURES = 48  # shots that a report shows
_THUMBNAILS = 6  # frames that are saved at full size
_MARGIN = 2  # frames at the beginning of a shot that may show a transition
_STEPS = ("gaze", "compared gaze")  # names of what is done, for progress
OnMap = Callable[[int], None]
File = str | os.PathLike[str]
Progress = Callable[[str, int, int | None], None]  # step, frames done, frames in all if known
Areas = Mapping[str, Box | Mapping[float, Box]] | Iterable[Area | str]


def _measurement(
    inputs: Sequence[tuple[VideoReader, Maps, Sequence[Area]]], progress: Progress
) -> Measurement:
    """Measure a video, and another version of it if there are two inputs."""

    def on_map(step: str, video: VideoReader) -> OnMap:
        return lambda done: progress(step, done, video.info.frames)

    first_reader, *other_readers = (reader for reader, _maps, _areas in inputs)
    for other in other_readers:
        if other.info.is_image != first_reader.info.is_image:
            raise UsageError(
                f"{other.path}: an image and a video cannot be compared; give two of the same kind"
            )
    (first, shots), *others = [
        _measured(*each, on_map(step, each[0])) for step, each in zip(_STEPS, inputs, strict=False)
    ]
    second = others[0][0] if others else None
    differences = compare(first.series, second.series) if second else []
    date = datetime.now().astimezone()
    page = Page(first, *_pictures(shots, first.info.is_image), date, second, differences)
    return Measurement(page, build_summary(page))


def report_absent(name: str, areas: Sequence[Area], series: Series) -> None:
    """Warn about areas with key frames at times that were not measured."""
    if not len(series.time):
        return
    start, end = float(series.time[0]), float(series.time[-1] + series.duration[-1])
    for area, present in zip(areas, (~np.isnan(series.share)).any(axis=0), strict=True):
        if area.times and (area.times[0] < start or area.times[-1] > end):
            logger.warning(
                "%s: area %s has key frames from %g to %g s, but the maps go from %g to %g s; %s",
                name,
                area.name,
                area.times[0],
                area.times[-1],
                round(start, 3),
                round(end, 3),
                "the rest of it is not measured" if present else "it is not measured",
            )


@dataclass
class _Clear:
    """The frame of a shot whose gaze is most concentrated.

    Attributes:
        rank: see `FrameShares.spread`; 1 more right after a cut.
        time: seconds since the video's first frame.
        grid: its map.
        begun: seconds at which the shot began.
        full: a JPEG file of it at full size, once the shot has ended.
    """

    rank: float
    time: float
    grid: np.ndarray
    begun: float
    full: bytes = b""


class Clearest:
    """Keeps the clearest frame of every shot, of the longest ones where there are many.

    Attributes:
        found: by number of the shot.
    """

    def __init__(self, video: VideoReader) -> None:
        self.found: dict[int, _Clear] = {}
        self._lengths: dict[int, float] = {}  # seconds of the shots in `found` that have ended
        self._aspect, self._origin = float(video.info.sample_aspect), video.origin
        self._first = 0  # frame of the latest shot
        self._image: tuple[int, np.ndarray] | None = None  # of the shot that has not ended

    def look(self, entry: GazeMap, spread: float, gaze: Gaze) -> None:
        """Look at the next map, the latest one of `gaze`."""
        number, time = entry.shot, float(entry.pts - self._origin)
        before = self.found.get(number)
        if before is None:
            self._ended(number - 1, time)
            self._first = entry.index
        # After a cut a frame counts only where the shot has no other: it may be a transition.
        rank = spread + (entry.index - self._first < _MARGIN)
        if before is None or rank < before.rank:
            self._image = number, gaze.frame(entry.index).image
            start = time if before is None else before.begun
            grid = fine_grid(entry.density).astype(np.float32)
            self.found[number] = _Clear(rank, time, grid, start)

    def _ended(self, number: int, time: float) -> None:
        """Drop the shortest shot that has ended, if there are more than a report shows."""
        self.keep_image()
        if number in self.found:
            self._lengths[number] = time - self.found[number].begun
        if len(self._lengths) > _PICTURES:
            shortest = min(self._lengths, key=lambda each: (self._lengths[each], -each))
            del self._lengths[shortest], self.found[shortest]

    def keep_image(self) -> None:
        """Keep the frame of a shot that has ended as a JPEG file, a tenth of its pixels' size."""
        if self._image is not None:
            number, image = self._image
            self.found[number].full = full_size(image, self._aspect)
            self._image = None


def _measured(
    video: VideoReader, maps: Maps, areas: Sequence[Area], on_map: OnMap
) -> tuple[Version, dict[int, _Clear]]:
    """Measure a video; the clearest frames of its longest shots by number, the longest first."""
    collector, clearest = Collector(areas, video.origin), Clearest(video)
    name, info, made = name_of(video.path), video.info, made_by(maps)
    with open_gaze(video, maps, frames=True) as gaze:
        for count, entry in enumerate(gaze.maps, 1):
            clearest.look(entry, collector.add(entry).spread, gaze)
            on_map(count)
        clearest.keep_image()
        series, shots = collector.series(), gaze.shots
    report_absent(name, areas, series)
    found = clearest.found
    by_length = sorted(found, key=lambda number: shots[number].start - shots[number].end)
    longest = {number: found[number] for number in by_length[:_PICTURES]}
    most = max(longest.values(), key=lambda each: sum(a.at(each.time) is not None for a in areas))
    placed = picture(most.full, series.mean, most.time, WIDE)
    return Version(name, video.identity, info, made, areas, series, shots, placed), longest


def _pictures(shots: dict[int, _Clear], still: bool) -> tuple[dict[int, Picture], dict[int, bytes]]:
    """Small pictures of shots, and those of the clearest at full size, which thumbnails may be."""
    if still:
        return {}, {}
    small = {
        number: picture(clear.full, clear.grid, clear.time, SMALL)
        for number, clear in shots.items()
    }
    clearest = sorted(shots, key=lambda number: shots[number].rank)
    return small, {number: shots[number].full for number in clearest[:_THUMBNAILS]}


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

    Give at least one of `areas`, `areas_file` and `grid`.

    Args:
        video: a file, image or video, or an http(s) address.
        areas: by name, {"logo": "5%,5%,20%,10%"}: a box x, y, width, height in pixels or per cent,
            as text or four numbers, or a polygon, as text "0,0;50%,0;25%,30%" or corners (x, y); an
            area that moves has key frames by second, {"car": {1.5: "0,0,90,50", 4:
            "300,0,90,50"}}. Or `Area` objects, or texts "logo:5%,5%,20%,10%".
        areas_file: a .csv or .json file of areas.
        grid: the cells of a grid as areas, "3x3".
        saliency: a folder of maps that `avsal predict` wrote; no network runs.
        compare: another version of the video, measured for comparison.
        compare_saliency: a folder of its maps.
        compare_areas, compare_areas_file: areas that are elsewhere in the other version, by the
            names that they have in the video; all others are in the same place.
        start, end, stride, audio_context, batch: see `avsal.prediction.PredictSettings`.
        model, weights, device, precision, offline, revision, engine: see `avsal.load_model`.
        progress: called with "gaze", or "compared gaze" for the other version, the number of its
            frames done, and of all its frames (None if unknown).

    Raises:
        AvsalError: something cannot be read or does not fit together.
    """
    areas, compare_areas = _kept(areas), _kept(compare_areas)
    _check_compared(compare, compare_saliency, compare_areas, compare_areas_file)
    settings = PredictSettings(audio_context, stride, batch, start, end)
    source = MapSource(model, weights, device, precision, offline, revision, engine, settings)
    video = path_of("video", video)
    other_video = None if compare is None else path_of("compare", compare)
    for place in (video, other_video):
        if place is not None:
            check_source(place)
    with ExitStack() as files:
        reader = files.enter_context(VideoReader(video))
        chosen = choose_areas(areas, areas_file, grid, (reader.info.width, reader.info.height))
        _note_pixels(reader, areas, areas_file)
        inputs = [(reader, source.maps(saliency), chosen)]
        if other_video is not None:
            other = files.enter_context(VideoReader(other_video))
            own = _listed(compare_areas, compare_areas_file, (other.info.width, other.info.height))
            _note_pixels(other, compare_areas, compare_areas_file)
            inputs.append((other, source.maps(compare_saliency), _other_areas(chosen, own)))
        return _measurement(inputs, progress)


def choose_areas(areas: Areas, path: File | None, grid: str | None, size: Size) -> list[Area]:
    """The areas of all three arguments of `measure`.

    Raises:
        UsageError: there is none, two have the same name, or one cannot be understood.
        DataError: the file cannot be read.
    """
    found = _listed(areas, path, size)
    found += grid_areas(grid) if grid else []
    if not found:
        raise UsageError(
            "nothing to measure; give an area (logo:5%,5%,20%,10%), a file of areas or a grid (3x3)"
        )
    check_unique(found)
    return found


def _listed(
    areas: Areas, path: File | None, size: Size, note: Callable[[str], None] = logger.warning
) -> list[Area]:
    """Areas that a program gives, and those of a file."""
    if isinstance(areas, Mapping):
        found = [area_of(name, shape, size) for name, shape in areas.items()]
    else:
        is_one = isinstance(areas, str | Area) or not isinstance(areas, Iterable)
        items = [areas] if is_one else list(areas)
        found = parse_areas((item for item in items if isinstance(item, str)), size)
        found += [_checked(item) for item in items if not isinstance(item, str)]
    if path is None:
        return found
    return found + read_areas(path_of("areas_file", path), size, note)


def _kept(areas: Areas) -> Areas:
    """The same areas, which can be listed more than once."""
    return list(areas) if isinstance(areas, Iterator) else areas


def _note_pixels(video: VideoReader, areas: Areas, path: File | None) -> None:
    """Say what pixels mean in a video whose pixels are not square, if an area is in pixels.

    It is if it would be elsewhere in a picture of another size.
    """
    note, width, height = video.info.pixel_note, video.info.width, video.info.height
    sizes = ((width, height), (2 * width, 2 * height)) if note else ()
    found = [_listed(areas, path, size, note=lambda _again: None) for size in sizes]
    if note and found[0] != found[1]:
        logger.warning("%s: %s", name_of(video.path), note)


def _check_compared(
    compare: File | None, saliency: File | None, areas: Areas, areas_file: File | None
) -> None:
    """Refuse arguments about another version if there is none."""
    given = {"saliency": saliency is not None, "areas": bool(areas) or areas_file is not None}
    for word, is_given in given.items():
        if is_given and compare is None:
            raise UsageError(f"compare-{word} needs compare, the video that it belongs to")


def _other_areas(areas: list[Area], other: list[Area]) -> list[Area]:
    """The areas of another version: its own, and the video's where it has none of that name."""
    check_unique(other)
    own = {normal_name(area.name): area for area in other}
    names = {normal_name(area.name) for area in areas}
    for name in own.keys() - names:
        raise UsageError(
            f"compare-areas: {name} is not an area of the video ({', '.join(sorted(names))}); "
            "areas are compared by name"
        )
    return [replace(own.get(normal_name(area.name), area), name=area.name) for area in areas]


def _checked(area: object) -> Area:
    if not isinstance(area, Area):
        raise UsageError(
            f"area {area!r}: give {{name: box}}, an Area or text; a file belongs to areas_file"
        )
    return area
