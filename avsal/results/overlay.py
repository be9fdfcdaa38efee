"""A video with its saliency drawn over it, sound kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from avsal.errors import MediaError
from avsal.media.animation import new_animation
from avsal.media.container import VideoInfo
from avsal.media.frames import VideoFrame, shown_until
from avsal.media.sound import SoundFile
from avsal.media.suffixes import ANIMATIONS, WRITABLE_STILLS
from avsal.media.video import VideoReader
from avsal.media.writer import VideoWriter
from avsal.prediction.drawing import note_on_legend, overlay, write_picture
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import PredictSettings
from avsal.prediction.style import OverlayStyle
from avsal.results.folder import Result
from avsal.results.gaze import check_source_of, end_of_part, no_maps

logger = logging.getLogger("avsal")

Mapped = tuple[VideoFrame, np.ndarray]  # a frame and its density (h, w)

_ROUNDING = 0.01  # seconds; some containers count in hundredths
ANIMATION_FPS, ANIMATION_SIDE = 15.0, 640  # of a GIF or WebP for which nothing else is asked
# A frame that comes by so much earlier than the next one wanted is shown: containers round times.
_NEARLY = Fraction(9, 10)


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
        sound: the sound of the same file, which `write_overlay` gets too; None opens the file once
            more.
    """
    room = video.buffer_frames(settings.start or 0)
    with predictor.predict_reader(video, settings, room, sound) as maps:
        for frame in maps:
            shown = replace(video.pop_frame(frame.index), duration=frame.info.duration)
            yield shown, frame.density


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
        out: see `avsal.results.checks.choose_output`.
        pairs: frames with their maps, see `predicted` and `matched`; the overlay covers these.
        crf: quality of H.264, 0 (lossless) to 51.
        part: the maps cover only a part of the video, so its sound is cut to that part.
        sound: see `predicted`; where the maps begin late, `part` has to say so.

    Raises:
        MediaError: something cannot be read, or a map has no frame.
        OutputError: `out` cannot be written.
    """
    info = video.info
    warn_of_legend(out, style, info.width, info.height)
    if out.suffix.lower() in WRITABLE_STILLS:
        for count, (frame, density) in enumerate(pairs, 1):
            write_picture(out, overlay(frame.image, density, style))
            on_frame(count)
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
        for count, (frame, density) in enumerate(pairs, 1):
            drawn = overlay(frame.image, density, style)
            # A video that changes its size on the way keeps the size of its first frame.
            drawn = _resized(drawn, (writer.width, writer.height))
            writer.write(drawn, frame.pts, frame.duration)
            on_frame(count)
    for note in writer.warnings:
        logger.warning(note)


def write_animation(
    video: VideoReader,
    out: Path,
    pairs: Iterable[Mapped],
    style: OverlayStyle,
    fps: float | None = None,
    width: int | None = None,
    on_frame: Callable[[int], None] = lambda _count: None,
) -> None:
    """Draw the maps over an animated GIF or WebP, with fewer and smaller frames than the video.

    Args:
        video, out, pairs, style: see `write_overlay`.
        fps: frames per second at most; None for 15.
        width: pixels at most; None for 640, and 640 for the height too.

    Raises:
        MediaError, OutputError: see `write_overlay`.
    """
    halves = 2 if style.side_by_side else 1
    size = _animation_size(video.info, halves, width)
    warn_of_legend(out, style, *size)
    with new_animation(out, halves * size[0], size[1]) as animation:
        for frame, density in _thinned(pairs, fps or ANIMATION_FPS, on_frame):
            drawn = overlay(_resized(frame.image, size), density, style)
            animation.write(drawn, frame.pts, frame.duration)


def warn_of_legend(out: Path, style: OverlayStyle, width: int, height: int) -> None:
    """Say that a legend does not fit into the pictures of a file or folder, if that is so."""
    if note := note_on_legend(style, width, height):
        logger.warning("%s: %s", out, note)


def is_animation(out: Path, is_image: bool) -> bool:
    """Whether the overlay of a video, or of a still image, is an animation; by its suffix."""
    return not is_image and out.suffix.lower() in ANIMATIONS


def _animation_size(info: VideoInfo, halves: int, width: int | None) -> tuple[int, int]:
    """Width and height of one half, with square pixels."""
    shown = info.width * float(info.sample_aspect)
    if width is None:
        scale = ANIMATION_SIDE / max(halves * shown, info.height)
    else:
        scale = width / (halves * shown)
    scale = min(scale, 1)
    return max(1, round(shown * scale)), max(1, round(info.height * scale))


def _thinned(
    pairs: Iterable[Mapped], fps: float, on_frame: Callable[[int], None]
) -> Iterator[Mapped]:
    """At most `fps` frames per second, each shown until the next one."""
    gap = _NEARLY / Fraction(str(fps))
    shown: Mapped | None = None
    for count, (frame, density) in enumerate(pairs, 1):
        on_frame(count)
        if shown is not None and frame.pts < shown[0].pts + gap:
            end = frame.pts + frame.duration
            shown = replace(shown[0], duration=end - shown[0].pts), shown[1]
            continue
        if shown is not None:
            yield shown
        shown = frame, density
    if shown is not None:
        yield shown


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def matched(video: VideoReader, result: Result) -> Generator[Mapped, None, None]:
    """Frames with their saved maps, paired by index.

    Args:
        video: opened and not yet read.
        result: every frame of its part has to have a map.

    Raises:
        MediaError: the maps are of another video, or there are none in the part.
    """
    check_source_of(result, video)
    video.skip_to(result.start or 0)
    end = end_of_part(video, result)
    maps = result.inside()
    current = next(maps, None)
    if current is None:
        raise no_maps(result)
    for frame in video:
        time = float(frame.pts - video.origin)
        if current is None:
            if result.end is None or time < result.end:
                raise _other_video(video, result, f"frame {frame.index} has no map")
            break
        record, density = current
        if frame.index < record.index:
            continue
        # The times of a frame may differ in another container, by rounding.
        late = abs(time - record.time) > max(float(frame.duration) / 2, _ROUNDING)
        if frame.index > record.index or late:
            why = f"frame {frame.index} is at {time:.3f} s, the next map at {record.time:.3f} s"
            raise _other_video(video, result, why)
        yield shown_until(frame, end), density
        current = next(maps, None)
    if current is not None:
        raise _other_video(video, result, f"there is no frame {current[0].index}, but a map of it")
    for note in video.warnings:
        logger.warning(note)


def _other_video(video: VideoReader, result: Result, why: str) -> MediaError:
    return MediaError(
        f"{result.folder}: the maps are of another video than {video.path} ({why}); give the maps "
        "of this video"
    )
