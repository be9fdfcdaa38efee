"""A crop path applied to a video: its frames cut out and written with the sound."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from avsal import atomic
from avsal.crops.bars import find_picture
from avsal.crops.file import (
    PathFile,
    check_video,
    fitted_size,
    notes_on_shots,
    on_clock,
    panels,
    path_beside,
    read_crops,
    read_head,
    write_path,
)
from avsal.crops.planning import Crop, plan_inside
from avsal.crops.settings import Box, Fill, Picture, ReframeSettings, Size
from avsal.errors import MediaError, without_keys
from avsal.media.frames import VideoFrame, shown_until
from avsal.media.suffixes import WRITABLE_STILLS
from avsal.media.video import VideoReader
from avsal.media.writer import VideoWriter
from avsal.prediction.drawing import write_picture
from avsal.prediction.maps import GazeMap
from avsal.prediction.settings import exact_seconds
from avsal.results.folder import Result
from avsal.results.gaze import Maps, open_gaze, part_of

logger = logging.getLogger("avsal")
OnFrame = Callable[[int], None]
_SHRINK = 1.02  # from this scale on averaging pixels is better than reading between them
_BLURRED = 24  # pixels of the shorter side of what fills the bars, before it is enlarged
_DIMMED = 0.6  # brightness of what fills the bars
_OTHER = "the maps or the path are of another video"


def reframe(
    video: VideoReader,
    out: Path,
    settings: ReframeSettings,
    maps: Maps,
    on_map: OnFrame = lambda _count: None,
    on_frame: OnFrame = lambda _count: None,
) -> None:
    """Crop a video to what people look at; `out` and its path file appear only when they are
    complete.

    Args:
        video: opened and not yet read; closed afterwards.
        maps: see `avsal.results.gaze`.
        on_map, on_frame: called with the number of maps read and of frames written.

    Raises:
        AvsalError: something cannot be read or written, or does not fit together.
    """
    source, info = video.path, video.info
    picture = Picture(info.width, info.height, info.sample_aspect)
    inside = find_picture(video)
    _note_on_shape(str(source), picture, inside, settings)
    head = PathFile(
        picture,
        settings.aspect,
        settings.size or picture.part(inside).output_size(settings.framing.aspect),
        *part_of(maps),
        video.identity,
        {
            "motion": settings.motion,
            "zoom": settings.zoom,
            "fit": settings.fit,
            "pad": settings.fill,
            "inside": [int(side) for side in inside],
        },
        video.origin,
    )
    with atomic.new_file(path_beside(out)) as aside:
        with open_gaze(video, maps) as gaze:
            counted = _counted(gaze.maps, on_map)
            shots = write_path(aside, head, plan_inside(counted, picture, inside, settings.framing))
        crops = read_crops(aside, picture)
        fill = settings.fill or Fill.BLACK
        unread = video if isinstance(maps, Result) else VideoReader(source)
        render(unread, out, head, crops, fill=fill, crf=settings.crf, on_frame=on_frame)
    for note in notes_on_shots(shots, video.origin, settings.fit):
        logger.warning("%s: %s", without_keys(str(source)), note)


def _note_on_shape(source: str, picture: Picture, inside: Box, settings: ReframeSettings) -> None:
    name = without_keys(source)
    part = picture.part(inside)
    if part != picture:
        sizes = f"{part.width}x{part.height} of {picture.width}x{picture.height}"
        logger.warning("%s: its black bars are cropped away first, which leaves %s", name, sizes)
    if part.largest_crop(settings.framing.aspect) == (1.0, 1.0) and settings.zoom == 1:
        what = "nothing is cropped" if part == picture else "nothing else is cropped"
        logger.warning("%s: is %s already; %s", name, settings.aspect, what)


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
    head = read_head(path)
    check_video(path, head, video.info)
    head = dataclasses.replace(head, size=size or head.size)
    fill = fill or head.settings.get("pad") or Fill.BLACK
    with atomic.new_file(path_beside(out)) as aside:
        head, moved = on_clock(head, read_crops(path, head.picture), video.origin)
        write_path(aside, head, moved)
        crops = read_crops(aside, head.picture)
        render(video, out, head, crops, fill=fill, crf=crf, on_frame=on_frame)


def _counted(maps: Iterator[GazeMap], on_map: OnFrame) -> Iterator[GazeMap]:
    for count, entry in enumerate(maps, 1):
        yield entry
        on_map(count)


def render(
    video: VideoReader,
    out: Path,
    head: PathFile,
    crops: Iterator[Crop],
    *,
    fill: str = Fill.BLACK,
    crf: int = 20,
    on_frame: Callable[[int], None] = lambda _count: None,
) -> None:
    """Write the cropped video with the source's sound, times and duration; or a cropped image.

    Args:
        video: opened and not yet read; closed afterwards.
        out: .mp4, .mkv, .mov, ... or, for a still image, an image file.
        head: says the result's size, and which part of the video the crops cover.
        crops: one for every frame.
        fill: what surrounds a crop of another shape, see `avsal.crops.settings.Fill`.
        crf: quality of H.264, 0 (lossless) to 51.

    Raises:
        MediaError: something cannot be read, or the crops are of another video.
        OutputError: `out` cannot be written.
    """
    part = head.start is not None or head.end is not None
    video.skip_to(head.start or 0)
    with video:
        pairs = _pair(video, crops, part, head.end)
        if out.suffix.lower() in WRITABLE_STILLS:
            for frame, crop in pairs:
                write_picture(out, cut_out(frame.image, crop, head, fill))
            return
        with VideoWriter(
            out,
            *head.size,
            crf=crf,
            audio_from=video.path if video.info.has_audio else None,
            trim=part,
            time_base=video.info.time_base,
        ) as writer:
            for count, (frame, crop) in enumerate(pairs, 1):
                writer.write(cut_out(frame.image, crop, head, fill), frame.pts, frame.duration)
                on_frame(count)
        for note in (*video.warnings, *writer.warnings):
            logger.warning(note)


def _pair(
    video: VideoReader, crops: Iterator[Crop], part: bool, end: float | None
) -> Iterator[tuple[VideoFrame, Crop]]:
    """Bring frames and crops of the same index together, up to second `end`."""
    last = None if end is None else video.origin + exact_seconds(end)
    crop = next(crops, None)
    count = 0
    for frame in video:
        if crop is None:
            if part:
                return
            raise MediaError(f"{video.path}: has more frames than the path's {count}; {_OTHER}")
        if part and frame.index < crop.index:
            continue
        late = abs((frame.pts - video.origin) - (crop.pts - video.origin))
        if frame.index != crop.index or late > frame.duration:
            raise MediaError(
                f"{video.path}: frame {frame.index} at {float(frame.pts):.3f} s, but the path has "
                f"frame {crop.index} at {float(crop.pts):.3f} s; {_OTHER}"
            )
        yield shown_until(frame, last), crop
        count += 1
        crop = next(crops, None)
    if crop is not None:
        raise MediaError(f"{video.path}: ends before frame {crop.index} of the path; {_OTHER}")


def cut_out(image: np.ndarray, crop: Crop, head: PathFile, fill: str = Fill.BLACK) -> np.ndarray:
    """What a crop shows of a frame, uint8 RGB of the result's size.

    Args:
        image: uint8 (H, W, 3); where its size is not the one that the path counts in, the crop is
            scaled with it.
    """
    shown = panels(crop, head)
    if len(shown) == 1:
        return _shown(image, crop.boxes[0], head, head.size, fill)
    result = np.empty((head.size[1], head.size[0], 3), np.uint8)
    for box, place in shown:
        left, top, width, height = map(int, place)
        part = _shown(image, box, head, (width, height), fill)
        result[top : top + height, left : left + width] = part
    return result


def _shown(image: np.ndarray, box: Box, head: PathFile, whole: Size, fill: str) -> np.ndarray:
    """A part of a frame at a size; bars fill what its shape leaves."""
    across, down = image.shape[1] / head.picture.width, image.shape[0] / head.picture.height
    part = box.x * across, box.y * down, box.width * across, box.height * down
    size = fitted_size(box, head, whole)
    if size == whole:
        return _sample(image, part, size)
    result = _backdrop(image, whole, fill)
    left, top = (whole[0] - size[0]) // 2, (whole[1] - size[1]) // 2
    result[top : top + size[1], left : left + size[0]] = _sample(image, part, size)
    return result


def _sample(image: np.ndarray, box: tuple[float, ...], size: Size) -> np.ndarray:
    """Read a part of a picture at any size; between pixels it is interpolated."""
    x, y, width, height = box
    scale_x, scale_y = width / size[0], height / size[1]
    left, top, right, bottom = (round(edge) for edge in (x, y, x + width, y + height))
    whole = max(abs(left - x), abs(top - y), abs(right - x - width), abs(bottom - y - height))
    if max(scale_x, scale_y) > _SHRINK or whole < 0.01:
        part = image[max(0, top) : max(top + 1, bottom), max(0, left) : max(left + 1, right)]
        if part.shape[:2] == size[::-1]:
            return part
        larger = scale_x < 1 and scale_y < 1
        return cv2.resize(part, size, interpolation=cv2.INTER_CUBIC if larger else cv2.INTER_AREA)
    matrix = np.array(
        [[scale_x, 0, x + scale_x / 2 - 0.5], [0, scale_y, y + scale_y / 2 - 0.5]], np.float64
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _backdrop(image: np.ndarray, size: Size, fill: str) -> np.ndarray:
    """The background of a picture that does not fill the result."""
    width, height = size
    if fill == Fill.BLACK:
        return np.zeros((height, width, 3), np.uint8)
    scale = _BLURRED / min(size)
    small = max(1, round(width * scale)), max(1, round(height * scale))
    covered = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(covered, (0, 0), 2) * _DIMMED
    return cv2.resize(blurred.astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
