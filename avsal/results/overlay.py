"""A video with its saliency drawn over it, sound kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from avsal import atomic
from avsal.errors import MediaError
from avsal.media.frames import VideoFrame
from avsal.media.info import VideoInfo
from avsal.media.suffixes import WRITABLE_STILLS
from avsal.media.video import VideoReader
from avsal.media.writer import VideoWriter
from avsal.prediction.saliency import SaliencyFrame
from avsal.results.folder import Result
from avsal.results.render import overlay
from avsal.results.style import OverlayStyle

logger = logging.getLogger("avsal")

Span = tuple[float, float]  # densities that are drawn as nothing and as full heat
Map = tuple[int, np.ndarray, Span]  # frame index, density (h, w)


def predicted_maps(frames: Iterable[SaliencyFrame]) -> Iterator[Map]:
    """Maps straight from the network."""
    for frame in frames:
        density = frame.density
        yield frame.index, density, (float(density.min()), float(density.max()))


def saved_maps(
    result: Result, start: float | None = None, end: float | None = None
) -> Iterator[Map]:
    """Maps that `avsal predict` wrote.

    Args:
        start, end: seconds; what lies outside is left out. None takes what there is.

    Raises:
        MediaError, DataError: a map is missing or damaged, or there is none from start to end.
    """
    empty = True
    for record, density in result.densities():
        if start is not None and record.time < start:
            continue
        if end is not None and record.time >= end:
            break
        empty = False
        yield record.index, density, (record.min, record.max)
    if empty:
        raise MediaError(f"{result.folder}: no map from {start or 0} s to {end or 'the end'}")


def write_overlay(
    video: VideoReader,
    out: Path,
    maps: Iterable[Map],
    style: OverlayStyle,
    crf: int = 20,
    part: bool = False,
    on_frame: Callable[[int], None] = lambda _count: None,
) -> None:
    """Draw the maps over the video's frames and keep its sound, times and duration.

    The video is decoded apart from the network's frames: holding full frames for its look-ahead
    would need memory in proportion to their size.

    Args:
        video: gives the frames, from the first one that has a map or earlier.
        out: see `avsal.results.plan.choose_output`.
        maps: in order of frames; the overlay covers the frames that have one.
        crf: quality of H.264, 0 (lossless) to 51.
        part: the maps cover a part of the video, so its sound is cut to them.

    Raises:
        MediaError: something cannot be read, or a map has no frame.
        OutputError: `out` cannot be written.
    """
    info = video.info
    pairs = _pair(video, iter(maps))
    if out.suffix.lower() in WRITABLE_STILLS:
        _write_image(info, out, pairs, style)
        return
    width = info.width * (2 if style.side_by_side else 1)
    with VideoWriter(
        out,
        width,
        info.height,
        crf=crf,
        audio_from=video.path if info.has_audio else None,
        trim=part,
        time_base=info.time_base,
        sample_aspect=info.sample_aspect,
    ) as writer:
        for count, (frame, density, span) in enumerate(pairs, 1):
            drawn = overlay(frame.image, density, style, span)
            writer.write(_fit(drawn, writer), frame.pts, frame.duration)
            on_frame(count)
    for note in (*video.warnings, *writer.warnings):
        logger.warning(note)


def _fit(image: np.ndarray, writer: VideoWriter) -> np.ndarray:
    """A video that changes its size on the way keeps the size of its first frame."""
    size = (writer.width, writer.height)
    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _pair(video: VideoReader, maps: Iterator[Map]) -> Iterator[tuple[VideoFrame, np.ndarray, Span]]:
    """Bring frames and maps of the same index together, from the first map to the last."""
    current = next(maps, None)
    for frame in video:
        if current is None:
            return
        index, density, span = current
        if frame.index == index:
            yield frame, density, span
            current = next(maps, None)
    if current is not None:
        raise MediaError(
            f"{video.path}: no frame {current[0]} though there is a map for it; wrong video?"
        )


def _write_image(
    info: VideoInfo,
    out: Path,
    pairs: Iterator[tuple[VideoFrame, np.ndarray, Span]],
    style: OverlayStyle,
) -> None:
    for frame, density, span in pairs:
        drawn = cv2.cvtColor(overlay(frame.image, density, style, span), cv2.COLOR_RGB2BGR)
        encoded, data = cv2.imencode(out.suffix, drawn)
        if not encoded:
            raise MediaError(f"{out}: {info.width}x{info.height} does not fit this image format")
        atomic.write_bytes(out, data.tobytes())
