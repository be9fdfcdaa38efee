"""The whole job on one video: maps in, what was measured out."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from avsal.areas.areas import Area
from avsal.areas.frames import fine_grid, spread
from avsal.areas.measurement import Measurement
from avsal.areas.pictures import shrink, thumbnail
from avsal.areas.report import Page, Thumbnail
from avsal.areas.series import Collector, Series, compare
from avsal.areas.summary import Video, build_summary, facts
from avsal.errors import UsageError
from avsal.media.source import name_of
from avsal.results.gaze import Gaze, GazeMap, open_gaze
from avsal.shots import Shot

logger = logging.getLogger("avsal")

_PICTURES = 48  # shots that a report shows
_MARGIN = 2  # frames at either end of a shot that may show a transition

OnMap = Callable[[int], None]


def measure_video(
    video: Video,
    areas: Sequence[Area],
    other: Video | None = None,
    on_map: OnMap = lambda _count: None,
) -> Measurement:
    """Measure areas of a video.

    Args:
        other: another version of the video to compare with.
        on_map: called with the number of maps measured.

    Raises:
        AvsalError: something cannot be read, or the maps are of another video.
    """
    if other and other.info.is_image != video.info.is_image:
        raise UsageError(
            f"{other.path}: an image and a video cannot be compared; give two of the same kind"
        )
    clearest = Clearest(video)
    series, shots = _measure(video, areas, on_map, clearest)
    second = _measure(other, areas, on_map)[0] if other else None
    report_absent(video, areas, series)
    differences = compare(series, second) if second else []
    summary = build_summary(video, series, shots, other, differences)
    pictures, placed = _pictures(shots, clearest.found, areas, series.mean)
    page = Page(
        name_of(video.path),
        facts(video, series, shots),
        areas,
        series,
        shots,
        pictures,
        placed,
        video.model,
        video.info.is_image,
        (name_of(other.path), second) if other and second else None,
        differences,
    )
    return Measurement(page, summary)


def report_absent(video: Video, areas: Sequence[Area], series: Series) -> None:
    """Say which areas have key frames at times that were not measured."""
    if not len(series.time):
        return
    start, end = float(series.time[0]), float(series.time[-1] + series.duration[-1])
    for area, present in zip(areas, (~np.isnan(series.share)).any(axis=0), strict=True):
        if area.times and (area.times[0] < start or area.times[-1] > end):
            logger.warning(
                "%s: area %s has key frames from %g to %g s, but the maps go from %g to %g s; %s",
                name_of(video.path),
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
        rank: part of the picture over which its gaze is spread, and 1 more near a cut.
        time: seconds since the video's first frame.
        grid: its map.
        image: small, RGB.
        begun: seconds at which the shot began.
    """

    rank: float
    time: float
    grid: np.ndarray
    image: np.ndarray
    begun: float


class Clearest:
    """Keeps the clearest frame of every shot, of the longest ones where there are many.

    Attributes:
        found: by number of the shot.
    """

    def __init__(self, video: Video) -> None:
        self.found: dict[int, _Clear] = {}
        self._lengths: dict[int, float] = {}  # seconds of the shots in `found` that have ended
        self._aspect, self._origin = float(video.info.sample_aspect), video.reader.origin

    def passing(self, gaze: Gaze) -> Iterator[GazeMap]:
        """Look at maps on their way."""
        first, cuts = None, gaze.cuts
        for entry in gaze.maps:
            first = entry.index if first is None else first
            number = bisect_right(cuts, entry.index)
            ends = (cuts[number - 1] if number else first, *cuts[number : number + 1])
            # A frame near a cut counts only where the shot has no other.
            near = any(-_MARGIN <= entry.index - end < _MARGIN for end in ends)
            grid = fine_grid(entry.density)
            rank = spread(grid) + near
            time = float(entry.pts - self._origin)
            before = self.found.get(number)
            if before is None:
                self._ended(number - 1, time)
            if before is None or rank < before.rank:
                image = shrink(gaze.frame(entry.index).image, self._aspect)
                begun = time if before is None else before.begun
                self.found[number] = _Clear(rank, time, grid.astype(np.float32), image, begun)
            yield entry

    def _ended(self, number: int, time: float) -> None:
        """Forget the shortest shot that has ended, where there are more than a report shows."""
        if number in self.found:
            self._lengths[number] = time - self.found[number].begun
        if len(self._lengths) > _PICTURES:
            shortest = min(self._lengths, key=lambda each: (self._lengths[each], -each))
            del self._lengths[shortest], self.found[shortest]


def _measure(
    video: Video, areas: Sequence[Area], on_map: OnMap, clearest: Clearest | None = None
) -> tuple[Series, list[Shot]]:
    """Measure a video."""
    collector = Collector(areas)
    with open_gaze(video.reader, video.maps, frames=clearest is not None) as gaze:
        passing = clearest.passing(gaze) if clearest else gaze.maps
        for count, _frame in enumerate(collector.measure(_timed(video, passing)), 1):
            on_map(count)
        return collector.series(), gaze.shots()


def _timed(video: Video, maps: Iterable[GazeMap]) -> Iterator[tuple[int, float, float, np.ndarray]]:
    """Maps with seconds since the video's first frame and durations, 0 for a still image."""
    for entry in maps:
        duration = 0.0 if video.info.is_image else float(entry.duration)
        yield entry.index, float(entry.pts - video.reader.origin), duration, entry.density


def _pictures(
    shots: Sequence[Shot], found: dict[int, _Clear], areas: Sequence[Area], mean: np.ndarray
) -> tuple[dict[int, Thumbnail], Thumbnail]:
    """Thumbnails of the longest shots, and one with the mean map where most areas exist."""
    by_length = sorted(found, key=lambda number: shots[number].start - shots[number].end)
    chosen = {number: found[number] for number in by_length[:_PICTURES]}
    fullest = max(chosen.values(), key=lambda each: sum(a.at(each.time) is not None for a in areas))
    pictures = {
        number: thumbnail(clear.image, clear.grid, clear.time) for number, clear in chosen.items()
    }
    return pictures, thumbnail(fullest.image, mean, fullest.time)
