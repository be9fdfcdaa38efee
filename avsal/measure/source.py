"""A video to measure, and how its maps are had."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from avsal import media
from avsal.results.folder import Result
from avsal.results.gaze import Maps


@dataclass(frozen=True)
class Video:
    """A video to measure.

    Attributes:
        path, maps: the file, and the maps of gaze on it.
        origin: container time of its first frame, seconds.
        model: the network's name.
    """

    path: Path
    maps: Maps
    info: media.VideoInfo
    origin: Fraction
    model: str


def open_video(path: Path, maps: Maps) -> Video:
    """Find out what is known of a video before its maps are.

    Raises:
        MediaError: it cannot be read.
    """
    with media.VideoReader(path) as reader:
        info, origin = reader.info, reader.origin
    made_by = maps.header if isinstance(maps, Result) else {"model": maps[0].description.model}
    return Video(path, maps, info, origin, str(made_by.get("model")))
