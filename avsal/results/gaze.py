"""Maps of gaze for what is made of them, saved ones or straight from the network, and cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from avsal import media
from avsal.errors import MediaError
from avsal.prediction.saliency import SaliencyFrame
from avsal.results.folder import Result
from avsal.shots import Shot, find_shots

GazeMap = tuple[int, Fraction, np.ndarray]  # frame index, pts in seconds, density (h, w)


def saved_gaze(result: Result) -> Iterator[GazeMap]:
    """Maps that `avsal predict` wrote; see `Result.densities`."""
    for record, density in result.densities():
        yield record.index, record.pts, density


def predicted_gaze(frames: Iterable[SaliencyFrame]) -> Iterator[GazeMap]:
    """Maps straight from the network."""
    for frame in frames:
        yield frame.index, frame.pts, frame.density


def shots_of(source: Path, result: Result | None = None) -> list[Shot]:
    """The shots of the part of a video that a result covers, of all of it without a result."""
    start, end = (result.start, result.end) if result else (None, None)
    with media.VideoReader(source, start=start, end=end) as video:
        return find_shots(video)


def check_same_video(info: media.VideoInfo, result: Result) -> None:
    """Refuse maps whose video had another shape.

    Raises:
        MediaError: it had.
    """
    if abs(result.width * info.height / (result.height * info.width) - 1) > 0.01:
        raise MediaError(
            f"{result.folder}: maps of a {result.width}x{result.height} video, but {info.path} has "
            f"{info.width}x{info.height}; give the maps of this video"
        )
