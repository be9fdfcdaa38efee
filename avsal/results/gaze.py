"""Maps of gaze for what is made of them, saved ones or straight from the network, and cuts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from avsal import media
from avsal.errors import MediaError
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import MapSize, PredictSettings
from avsal.results.folder import Result
from avsal.shots import Shot, find_shots

_SHAPE_TOLERANCE = 0.01  # by which width to height of two encodes of one video may differ

GazeMap = tuple[int, Fraction, np.ndarray]  # frame index, pts in seconds, density (h, w)


# A finished result, or the network that predicts now and how.
Maps = Result | tuple[Predictor, PredictSettings]


@contextmanager
def open_gaze(source: Path, maps: Maps) -> Iterator[Iterator[GazeMap]]:
    """Give the maps of a video one by one, at the size in which they are there at least cost.

    Raises:
        AvsalError: something cannot be read, also while iterating.
    """
    if isinstance(maps, Result):
        yield ((record.index, record.pts, density) for record, density in maps.densities())
        return
    predictor, settings = maps
    with predictor.predict(source, settings, size=MapSize.parse("model")) as frames:
        yield ((frame.index, frame.pts, frame.density) for frame in frames)


def shots_of(source: Path, maps: Maps | None = None) -> list[Shot]:
    """The shots of the part of a video that a result covers, else of all of it."""
    start, end = (maps.start, maps.end) if isinstance(maps, Result) else (None, None)
    with media.VideoReader(source, start=start, end=end) as video:
        return find_shots(video)


def check_same_video(info: media.VideoInfo, maps: Maps) -> None:
    """Refuse maps whose video had another shape.

    Raises:
        MediaError: it had.
    """
    if not isinstance(maps, Result):
        return
    if abs(maps.width * info.height / (maps.height * info.width) - 1) > _SHAPE_TOLERANCE:
        raise MediaError(
            f"{maps.folder}: maps of a {maps.width}x{maps.height} video, but {info.path} has "
            f"{info.width}x{info.height}; give the maps of this video"
        )
