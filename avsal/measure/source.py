"""A video to measure and its maps, with their times."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from avsal import media
from avsal.errors import MediaError
from avsal.results.folder import Result
from avsal.results.gaze import GazeMap, Maps, check_same_video, shots_of
from avsal.shots import Shot


@dataclass(frozen=True)
class Video:
    """A video to measure: the file, its maps, and what reading it through told.

    Attributes:
        origin: container time of its first frame, seconds.
        shots: of the part that the maps cover.
        model: the network's name.
    """

    path: Path
    maps: Maps
    info: media.VideoInfo
    origin: Fraction
    shots: list[Shot]
    model: str


def open_video(path: Path, maps: Maps) -> Video:
    """Read a video through for its shots.

    Raises:
        MediaError: it cannot be read, or the maps are of another one.
    """
    with media.VideoReader(path) as reader:
        info, origin = reader.info, reader.origin
    check_same_video(info, maps)
    made_by = maps.header if isinstance(maps, Result) else {"model": maps[0].description.model}
    return Video(path, maps, info, origin, shots_of(path, maps), str(made_by.get("model")))


def timed(video: Video, maps: Iterable[GazeMap]) -> Iterator[tuple[int, float, float, np.ndarray]]:
    """Maps with seconds since the first frame and durations; those of the last by the video's end.

    Raises:
        MediaError: the maps are of another video.
    """
    last = video.shots[-1]
    ended = (last.last + 1, last.end, None)
    for (index, pts, density), (after, until, _map) in itertools.pairwise(
        itertools.chain(maps, [ended])
    ):
        if density is None or index + 1 != after or pts >= until:
            raise MediaError(
                f"{video.path}: has frames {video.shots[0].first} to {last.last}, the last until "
                f"{float(last.end):.3f} s, but frame {index} at {float(pts):.3f} s has a map and "
                f"frame {index + 1} does not follow; the maps are of another video"
            )
        duration = 0.0 if video.info.is_image else float(until - pts)
        yield index, float(pts - video.origin), duration, density
