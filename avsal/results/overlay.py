"""A video with its saliency drawn over it, sound kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from avsal import atomic
from avsal.errors import MediaError
from avsal.media.frames import VideoFrame
from avsal.media.info import VideoInfo
from avsal.media.sound import SoundFile
from avsal.media.suffixes import WRITABLE_STILLS
from avsal.media.video import VideoReader
from avsal.media.writer import VideoWriter
from avsal.prediction.predictor import Predictor
from avsal.prediction.saliency import SaliencyFrame
from avsal.prediction.settings import PredictSettings
from avsal.results.folder import Result
from avsal.results.render import overlay
from avsal.results.style import OverlayStyle

logger = logging.getLogger("avsal")

Span = tuple[float, float]  # densities that are drawn as nothing and as full heat
Map = tuple[int, np.ndarray, Span]  # frame index, density (h, w)
Mapped = tuple[VideoFrame, np.ndarray, Span]


def predicted(
    predictor: Predictor,
    video: VideoReader,
    settings: PredictSettings,
    sound: SoundFile | None = None,
) -> Generator[Mapped, None, None]:
    """Frames with their maps straight from the network.

    The file is decoded once: the network gets small frames, and those of full size wait in the
    reader until their map is there.

    Args:
        video: opened and not yet read; closed afterwards.
        sound: the same file's, which `write_overlay` gets too; None opens it once more.
    """
    held = video.keep(settings.start or 0)
    with predictor.predict(video, settings, held, sound) as maps:
        for index, density, span in predicted_maps(maps):
            yield video.take(index), density, span


def predicted_maps(frames: Iterable[SaliencyFrame]) -> Iterator[Map]:
    """Maps with the densities between which they are drawn."""
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
    pairs: Iterable[Mapped],
    style: OverlayStyle,
    crf: int = 20,
    part: bool = False,
    sound: SoundFile | None = None,
    on_frame: Callable[[int], None] = lambda _count: None,
) -> None:
    """Draw the maps over the video's frames and keep its sound, times and duration.

    Args:
        video: where the frames come from.
        out: see `avsal.results.plan.choose_output`.
        pairs: frames with their maps, see `predicted` and `matched`; the overlay covers these.
        crf: quality of H.264, 0 (lossless) to 51.
        part: the maps cover a part of the video, so its sound is cut to them.
        sound: see `predicted`; where the maps begin late, `part` has to say so.

    Raises:
        MediaError: something cannot be read, or a map has no frame.
        OutputError: `out` cannot be written.
    """
    info = video.info
    if out.suffix.lower() in WRITABLE_STILLS:
        _write_image(info, out, pairs, style)
        return
    width = info.width * (2 if style.side_by_side else 1)
    with VideoWriter(
        out,
        width,
        info.height,
        crf=crf,
        audio_from=(sound or video.path) if info.has_audio else None,
        trim=part,
        time_base=info.time_base,
        sample_aspect=info.sample_aspect,
    ) as writer:
        for count, (frame, density, span) in enumerate(pairs, 1):
            drawn = overlay(frame.image, density, style, span)
            writer.write(_fit(drawn, writer), frame.pts, frame.duration)
            on_frame(count)
    for note in writer.warnings:
        logger.warning(note)


def _fit(image: np.ndarray, writer: VideoWriter) -> np.ndarray:
    """A video that changes its size on the way keeps the size of its first frame."""
    size = (writer.width, writer.height)
    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def matched(video: VideoReader, maps: Iterator[Map]) -> Generator[Mapped, None, None]:
    """Frames with saved maps: brought together by index, from the first map to the last.

    Args:
        video: gives the frames, from the first one that has a map or earlier.
        maps: in order of frames.

    Raises:
        MediaError: a map has no frame.
    """
    current = next(maps, None)
    for frame in video:
        if current is None:
            break
        index, density, span = current
        if frame.index == index:
            yield frame, density, span
            current = next(maps, None)
    if current is not None:
        raise MediaError(
            f"{video.path}: no frame {current[0]} though there is a map for it; wrong video?"
        )
    for note in video.warnings:
        logger.warning(note)


def _write_image(
    info: VideoInfo,
    out: Path,
    pairs: Iterable[Mapped],
    style: OverlayStyle,
) -> None:
    for frame, density, span in pairs:
        drawn = cv2.cvtColor(overlay(frame.image, density, style, span), cv2.COLOR_RGB2BGR)
        encoded, data = cv2.imencode(out.suffix, drawn)
        if not encoded:
            raise MediaError(f"{out}: {info.width}x{info.height} does not fit this image format")
        atomic.write_bytes(out, data.tobytes())
