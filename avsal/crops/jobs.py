"""Whole jobs on files: a video and its maps, or a path file, to a cropped video and its path."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from avsal import atomic
from avsal.crops.file import PathFile, path_beside, read_crops, read_head, write_path
from avsal.crops.geometry import Picture, Size
from avsal.crops.planning import plan_crops
from avsal.crops.render import render
from avsal.crops.settings import Fill, ReframeSettings
from avsal.errors import MediaError, without_keys
from avsal.media.video import VideoReader
from avsal.results.folder import Result
from avsal.results.gaze import GazeMap, Maps, open_gaze

logger = logging.getLogger("avsal")

OnFrame = Callable[[int], None]


def reframe(
    video: VideoReader,
    out: Path,
    settings: ReframeSettings,
    maps: Maps,
    on_map: OnFrame = lambda _count: None,
    on_frame: OnFrame = lambda _count: None,
) -> None:
    """Crop a video to what people look at; `out` and its path file appear only when whole.

    Args:
        video: opened and not yet read; closed afterwards.
        maps: see `avsal.results.gaze`.
        on_map, on_frame: called with the number of maps read and of frames written.

    Raises:
        AvsalError: something cannot be read or written, or does not fit together.
    """
    source, info = video.path, video.info
    picture = Picture(info.width, info.height, info.sample_aspect)
    framing = settings.framing
    if picture.largest_crop(framing.aspect) == (1.0, 1.0) and settings.zoom == 1:
        name = without_keys(str(source))
        logger.warning("%s: is %s already; nothing is cropped", name, settings.aspect)
    part = maps if isinstance(maps, Result) else maps[1]
    head = PathFile(
        picture,
        settings.aspect,
        settings.size or picture.output_size(framing.aspect),
        part.start,
        part.end,
        video.identity,
        {"motion": settings.motion, "zoom": settings.zoom, "pad": settings.fill},
    )
    with atomic.new_file(path_beside(out)) as aside:
        with open_gaze(video, maps) as gaze:
            frames = _counted(gaze.maps, on_map)
            write_path(aside, head, plan_crops(frames, gaze.cuts, picture, framing))
        crops = read_crops(aside, picture)
        fill = settings.fill or Fill.BLACK
        unread = video if isinstance(maps, Result) else VideoReader(source)
        render(unread, out, head, crops, fill=fill, crf=settings.crf, on_frame=on_frame)


def rerender(
    video: VideoReader,
    out: Path,
    path: Path,
    fill: str | None = None,
    size: Size | None = None,
    crf: int = 20,
    on_frame: OnFrame = lambda _count: None,
) -> None:
    """Render a path that was edited; see `reframe`.

    Raises:
        AvsalError: something cannot be read or written, or the path is of another video.
    """
    info = video.info
    head = read_head(path)
    if (head.picture.width, head.picture.height) != (info.width, info.height):
        raise MediaError(
            f"{path}: a path for a {head.picture.width}x{head.picture.height} video, but "
            f"{info.path} has {info.width}x{info.height}; give the path of this video"
        )
    head = dataclasses.replace(head, size=size or head.size)
    fill = fill or head.settings.get("pad") or Fill.BLACK
    with atomic.new_file(path_beside(out)) as aside:
        write_path(aside, head, read_crops(path, head.picture))
        crops = read_crops(aside, head.picture)
        render(video, out, head, crops, fill=fill, crf=crf, on_frame=on_frame)


def _counted(
    maps: Iterator[GazeMap], on_map: OnFrame
) -> Iterator[tuple[int, Fraction, np.ndarray]]:
    for count, entry in enumerate(maps, 1):
        yield entry.index, entry.pts, entry.density
        on_map(count)
