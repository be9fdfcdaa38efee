"""The whole job on one video: maps in, what was measured out."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from avsal.areas.areas import Area
from avsal.areas.frames import fine_grid, spread
from avsal.areas.measurement import Measurement
from avsal.areas.page import Page, Picture, Version
from avsal.areas.pictures import SMALL, WIDE, full_size, legend, picture
from avsal.areas.series import Collector, Series, compare
from avsal.areas.summary import Video, build_summary, facts
from avsal.errors import UsageError
from avsal.media.source import name_of
from avsal.results.gaze import Gaze, GazeMap, open_gaze

logger = logging.getLogger("avsal")

_PICTURES = 48  # shots that a report shows
_THUMBNAILS = 6  # frames that are saved at full size
_MARGIN = 2  # frames at either end of a shot that may show a transition

OnMap = Callable[[int], None]


def measure_video(
    video: Video,
    areas: Sequence[Area],
    other: Video | None = None,
    other_areas: Sequence[Area] | None = None,
    on_map: OnMap = lambda _count: None,
) -> Measurement:
    """Measure areas of a video.

    Args:
        other: another version of the video to compare with.
        other_areas: its areas, in the order of `areas`; None for the same ones.
        on_map: called with the number of maps measured.

    Raises:
        AvsalError: something cannot be read, or the maps are of another video.
    """
    if other and other.info.is_image != video.info.is_image:
        raise UsageError(
            f"{other.path}: an image and a video cannot be compared; give two of the same kind"
        )
    first, pictured = _measured(video, areas, on_map)
    second = _measured(other, other_areas or areas, on_map)[0] if other else None
    differences = compare(first.series, second.series) if second else []
    date = datetime.now().astimezone()
    page = Page(
        first,
        facts(video, first),
        *_pictures(pictured, video.info.is_image),
        legend(),
        f"{date:%Y-%m-%d %H:%M %Z}",
        video.info.is_image,
        second,
        differences,
    )
    return Measurement(page, build_summary(page, video, other, date.isoformat("T", "seconds")))


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

    def __init__(self, video: Video) -> None:
        self.found: dict[int, _Clear] = {}
        self._lengths: dict[int, float] = {}  # seconds of the shots in `found` that have ended
        self._aspect, self._origin = float(video.info.sample_aspect), video.reader.origin
        self._image: tuple[int, np.ndarray] | None = None  # of the shot that has not ended

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
                self._image = number, gaze.frame(entry.index).image
                begun = time if before is None else before.begun
                self.found[number] = _Clear(rank, time, grid.astype(np.float32), begun)
            yield entry
        self._keep_image()

    def _ended(self, number: int, time: float) -> None:
        """Forget the shortest shot that has ended, where there are more than a report shows."""
        self._keep_image()
        if number in self.found:
            self._lengths[number] = time - self.found[number].begun
        if len(self._lengths) > _PICTURES:
            shortest = min(self._lengths, key=lambda each: (self._lengths[each], -each))
            del self._lengths[shortest], self.found[shortest]

    def _keep_image(self) -> None:
        """Keep the frame of a shot that has ended as a JPEG file, a tenth of its pixels' size."""
        if self._image is not None:
            number, image = self._image
            self.found[number].full = full_size(image, self._aspect)
            self._image = None


def _measured(
    video: Video, areas: Sequence[Area], on_map: OnMap
) -> tuple[Version, dict[int, _Clear]]:
    """Measure a video; the clearest frames of its longest shots by number, the longest first."""
    collector, clearest = Collector(areas), Clearest(video)
    with open_gaze(video.reader, video.maps, frames=True) as gaze:
        timed = _timed(video, clearest.passing(gaze))
        for count, _frame in enumerate(collector.measure(timed), 1):
            on_map(count)
        series, shots = collector.series(), gaze.shots()
    report_absent(video, areas, series)
    found = clearest.found
    by_length = sorted(found, key=lambda number: shots[number].start - shots[number].end)
    longest = {number: found[number] for number in by_length[:_PICTURES]}
    most = max(longest.values(), key=lambda each: sum(a.at(each.time) is not None for a in areas))
    placed = picture(most.full, series.mean, most.time, WIDE)
    name = name_of(video.path)
    return Version(name, areas, series, shots, placed, video.model, video.made), longest


def _timed(video: Video, maps: Iterable[GazeMap]) -> Iterator[tuple[int, float, float, np.ndarray]]:
    """Maps with seconds since the video's first frame and durations, 0 for a still image."""
    for entry in maps:
        duration = 0.0 if video.info.is_image else float(entry.duration)
        yield entry.index, float(entry.pts - video.reader.origin), duration, entry.density


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
