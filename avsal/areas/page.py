"""What a report shows, as plain values: `report.py` makes HTML of it, `jobs.py` fills it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avsal.areas.areas import Area
from avsal.areas.series import Difference, Series
from avsal.shots import Shot


@dataclass(frozen=True)
class Picture:
    """One frame as `data:` addresses of JPEG pictures.

    Attributes:
        time: seconds since the video's first frame.
        plain: the frame.
        heat: with a heatmap over it.
        width, height: pixels.
    """

    time: float
    plain: str
    heat: str
    width: int
    height: int


@dataclass(frozen=True)
class Version:
    """One measured video.

    Attributes:
        name: of the video.
        areas: with their shapes, in the order of `series`.
        series: what was measured.
        shots: of the video.
        placed: a frame with most areas, and the mean map over it.
        model: the network's name.
        made: how the maps were made, see `avsal.areas.summary`.
    """

    name: str
    areas: Sequence[Area]
    series: Series
    shots: Sequence[Shot]
    placed: Picture
    model: str
    made: Mapping[str, Any]

    @property
    def end(self) -> float:
        """Seconds at which the last frame ends."""
        series = self.series
        return float(series.time[-1] + series.duration[-1]) if len(series.time) else 0.0


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        first: the video.
        facts: pairs of words and values about it.
        pictures: for some of its shots by number, their most concentrated frame.
        thumbnails: for the most concentrated of these, JPEG files of the frame at full size.
        legend: shares of gaze enclosed and the RGB colours that heatmaps give them.
        date: when it was measured, for people.
        still: a single image.
        second: another version of it.
        differences: between the two.
    """

    first: Version
    facts: Sequence[tuple[str, str]]
    pictures: Mapping[int, Picture]
    thumbnails: Mapping[int, bytes]
    legend: Sequence[tuple[float, Sequence[int]]]
    date: str
    still: bool = False
    second: Version | None = None
    differences: Sequence[Difference] = field(default=())

    @property
    def versions(self) -> list[Version]:
        return [self.first, self.second] if self.second else [self.first]


def thumbnail_name(shot: int) -> str:
    """The name of the file with a shot's thumbnail, numbered as the report numbers shots."""
    return f"thumbnail-shot-{shot + 1}.jpg"
