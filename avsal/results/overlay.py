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
from avsal.prediction.drawing import overlay
from avsal.prediction.maps import SaliencyFrame
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import PredictSettings
from avsal.prediction.style import OverlayStyle
from avsal.results.description import FrameRecord
from avsal.results.folder import Result
from avsal.results.gaze import check_shape

logger = logging.getLogger("avsal")

Span = tuple[float, float]  # densities that are drawn as nothing and as full heat
Map = tuple[int, np.ndarray, Span]  # frame index, density (h, w)
Mapped = tuple[VideoFrame, np.ndarray, Span]

_ROUNDING = 0.01  # seconds; some containers count in hundredths


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
) -> Iterator[tuple[FrameRecord, np.ndarray]]:
    """Maps that `avsal predict` wrote, as densities.

    Args:
        start, end: seconds; maps outside are omitted. None sets no limit.

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
        yield record, density
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


def matched(
    video: VideoReader, result: Result, start: float | None = None, end: float | None = None
) -> Generator[Mapped, None, None]:
    """Frames with saved maps, brought together by index.

    Args:
        video: gives the frames, from the first one that has a map or earlier.
        start, end: see `saved_maps`; every frame in between has to have a map.

    Raises:
        MediaError: the maps are of another video.
    """
    check_shape(video.info, result)
    maps = saved_maps(result, start, end)
    current = next(maps, None)
    for frame in video:
        time = float(frame.pts - video.origin)
        if current is None:
            if end is None or time < end:
                raise _other_video(video, result, f"frame {frame.index} has no map")
            break
        record, density = current
        if frame.index < record.index:
            continue
        if frame.index > record.index or abs(time - record.time) > _tolerance(frame):
            why = f"frame {frame.index} is at {time:.3f} s, the next map at {record.time:.3f} s"
            raise _other_video(video, result, why)
        yield frame, density, (record.min, record.max)
        current = next(maps, None)
    if current is not None:
        raise _other_video(video, result, f"there is no frame {current[0].index}, but a map of it")
    for note in video.warnings:
        logger.warning(note)


def _tolerance(frame: VideoFrame) -> float:
    """Seconds by which another container of the same frames may round their times."""
    return max(float(frame.duration) / 2, _ROUNDING)


def _other_video(video: VideoReader, result: Result, why: str) -> MediaError:
    return MediaError(
        f"{result.folder}: the maps are of another video than {video.path} ({why}); give the maps "
        "of this video"
    )


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
