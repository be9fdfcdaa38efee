"""The whole job on one video: maps in, a folder of shares and a report out."""

from __future__ import annotations

import csv
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avsal import atomic
from avsal.measure.areas import Area
from avsal.measure.frames import AreaShare, fine_grid, spread
from avsal.measure.pictures import Thumbnail, shrink, thumbnail
from avsal.measure.report import Page, build_report
from avsal.measure.series import Collector, Series, compare
from avsal.measure.summary import Video, build_summary, facts
from avsal.results.gaze import Gaze, GazeMap, open_gaze
from avsal.shots import Shot

SUMMARY, SHARES, REPORT = "summary.json", "shares.csv", "report.html"
_PICTURES = 48  # shots that a report shows
_MARGIN = 2  # frames at either end of a shot that may show a transition
_COLUMNS = "time area share part share_per_part share_per_prior seconds".split()

OnMap = Callable[[int], None]


def measure_to_folder(
    video: Video,
    areas: Sequence[Area],
    folder: Path,
    other: Video | None = None,
    on_map: OnMap = lambda _count: None,
) -> None:
    """Write shares.csv, summary.json and report.html; the folder appears only when whole.

    Args:
        other: another version of the video to compare with.
        on_map: called with the number of maps measured.

    Raises:
        AvsalError: something cannot be read or written, or the maps are of another video.
    """
    with atomic.new_folder(folder, written_names) as aside:
        clearest = Clearest(video)
        with (aside / SHARES).open("w", newline="", encoding="utf-8") as file:
            series, shots = _measure(video, areas, on_map, clearest, file)
        second = _measure(other, areas, on_map)[0] if other else None
        differences = compare(series, second) if second else []
        summary = build_summary(video, series, shots, other, differences)
        (aside / SUMMARY).write_text(
            json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False),
            encoding="utf-8",
            errors="backslashreplace",  # of a name that is no UTF-8
        )
        pictures, placed = _pictures(shots, clearest.found, areas, series.mean)
        page = Page(
            video.path.name,
            facts(video, series, shots),
            areas,
            series,
            shots,
            pictures,
            placed,
            video.model,
            video.info.is_image,
            (other.path.name, second) if other and second else None,
            differences,
        )
        (aside / REPORT).write_text(build_report(page), encoding="utf-8", errors="backslashreplace")


def written_names(folder: Path) -> set[str]:
    """Names of the files of the measurement that a folder holds; empty for none."""
    try:
        summary = json.loads((folder / SUMMARY).read_bytes())
        return (
            {SUMMARY, SHARES, REPORT} if {"measure", "areas", "spread"} <= set(summary) else set()
        )
    except (OSError, ValueError, TypeError, RecursionError):
        return set()


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
    video: Video,
    areas: Sequence[Area],
    on_map: OnMap,
    clearest: Clearest | None = None,
    file: Any = None,
) -> tuple[Series, list[Shot]]:
    """Measure a video; rows go to a CSV file if one is given."""
    collector = Collector(areas)
    writer = csv.writer(file) if file else None
    if writer:
        writer.writerow(_COLUMNS)
    with open_gaze(video.reader, video.maps, frames=clearest is not None) as gaze:
        passing = clearest.passing(gaze) if clearest else gaze.maps
        for count, frame in enumerate(collector.measure(_timed(video, passing)), 1):
            if writer:
                writer.writerows(_row(area, video.info.is_image) for area in frame.areas)
            on_map(count)
        return collector.series(), gaze.shots()


def _timed(video: Video, maps: Iterable[GazeMap]) -> Iterator[tuple[int, float, float, np.ndarray]]:
    """Maps with seconds since the video's first frame and durations, 0 for a still image."""
    for entry in maps:
        duration = 0.0 if video.info.is_image else float(entry.duration)
        yield entry.index, float(entry.pts - video.reader.origin), duration, entry.density


def _row(area: AreaShare, still: bool) -> list[Any]:
    values = (area.share, area.part, area.density, area.over_prior, area.seconds)
    numbers = [f"{value:.6g}" for value in values]
    return [f"{area.time:.6f}", area.area, *numbers[:-1], "" if still else numbers[-1]]


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
