"""A video with its saliency drawn over it, sound kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avsal import media
from avsal.errors import MediaError, UsageError
from avsal.prediction.saliency import SaliencyFrame
from avsal.results.render import OverlayStyle, overlay
from avsal.results.writer import DESCRIPTION, make_folder, write_file

logger = logging.getLogger("avsal")

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})

Map = tuple[int, np.ndarray]  # frame index, saliency (h, w) in 0..1


def predicted_maps(frames: Iterable[SaliencyFrame]) -> Iterator[Map]:
    """Maps straight from the network."""
    for frame in frames:
        yield frame.index, frame.saliency


def saved_maps(folder: Path) -> Iterator[Map]:
    """Maps that `avsal predict` wrote as png, png16 or npy.

    Raises:
        MediaError: the folder holds no finished result, or a map is missing or damaged.
    """
    description = _read_description(folder)
    kind = description["settings"]["format"]
    if kind == "video":
        raise MediaError(
            f"{folder}: maps in a video cannot be read back; predict with --format png"
        )
    suffix = ".npy" if kind == "npy" else ".png"
    for record in description["frames"]:
        index = record["index"]
        yield index, _read_map(folder / f"{index:06d}{suffix}")


def saved_stretch(folder: Path) -> tuple[float | None, float | None]:
    """First and last second that the maps in `folder` were asked for; None is the video's own."""
    settings = _read_description(folder)["settings"]
    return settings["start"], settings["end"]


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["frames"] is not None and description["settings"]["format"]:
            return dict(description)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise MediaError(f"{folder}: no readable {DESCRIPTION}; give a folder that avsal predict wrote")


def _read_map(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            density = np.load(path)
            return (density / max(density.max(), np.finfo(np.float32).tiny)).astype(np.float32)
        gray = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        if gray is None:
            raise ValueError("not an image")
        top = 255 if gray.dtype == np.uint8 else 65535
        return (gray / top).astype(np.float32)
    except (OSError, ValueError, cv2.error):
        raise MediaError(f"{path}: missing or damaged map; run avsal predict again") from None


def write_overlay(
    source: Path,
    out: Path,
    maps: Iterable[Map],
    style: OverlayStyle,
    crf: int = 20,
    start: float | None = None,
    part: bool = False,
    on_frame: Callable[[int], None] = lambda _count: None,
) -> None:
    """Draw the maps over the video's frames and keep its sound, times and duration.

    The video is decoded a second time beside the maps: holding full frames for the network's
    look-ahead would need memory in proportion to their size.

    Args:
        out: .mp4, .mkv, .mov, ... or, for a still image, an image file.
        maps: in order of frames; the overlay covers the frames that have one.
        crf: quality of H.264, 0 (lossless) to 51.
        start: second of the first map, so that what lies before need not be decoded.
        part: the maps cover a part of the video, so its sound is cut to them.

    Raises:
        UsageError: `out` has a suffix that cannot be written.
        MediaError: something cannot be read or written, or a map has no frame.
    """
    info = media.probe(source)
    with media.VideoReader(source, start=start) as video:
        pairs = _pair(video, iter(maps))
        if out.suffix.lower() in IMAGE_SUFFIXES:
            _write_image(info, out, pairs, style)
            return
        width = info.width * (2 if style.side_by_side else 1)
        with media.VideoWriter(
            out,
            width,
            info.height,
            crf=crf,
            audio_from=source if info.has_audio else None,
            trim=part,
            time_base=info.time_base,
            sample_aspect=info.sample_aspect,
        ) as writer:
            for count, (frame, saliency) in enumerate(pairs, 1):
                drawn = overlay(frame.image, saliency, style)
                writer.write(_fit(drawn, writer), frame.pts, frame.duration)
                on_frame(count)
        for note in (*video.warnings, *writer.warnings):
            logger.warning(note)


def check_output(source: Path, out: Path) -> None:
    """Refuse impossible outputs before the network runs.

    Raises:
        UsageError: `out` is the input, a folder, or has a suffix that cannot be written.
        MediaError: the folder of `out` cannot be made.
    """
    if out.exists() and out.samefile(source):
        raise UsageError(f"{out}: this is the input itself; choose another --output")
    if out.is_dir():
        raise UsageError(f"{out}: this is a folder; give a file such as {out / 'overlay.mp4'}")
    if out.suffix.lower() not in IMAGE_SUFFIXES:
        media.container_format(out)
    elif not media.probe(source).is_image:
        raise UsageError(f"{out}: an overlay of a video needs a video suffix such as .mp4")
    make_folder(out.parent)


def _fit(image: np.ndarray, writer: media.VideoWriter) -> np.ndarray:
    """A video that changes its size on the way keeps the size of its first frame."""
    size = (writer.width, writer.height)
    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _pair(
    video: media.VideoReader, maps: Iterator[Map]
) -> Iterator[tuple[media.VideoFrame, np.ndarray]]:
    """Bring frames and maps of the same index together, from the first map to the last."""
    current = next(maps, None)
    for frame in video:
        if current is None:
            return
        index, saliency = current
        if frame.index == index:
            yield frame, saliency
            current = next(maps, None)
    if current is not None:
        raise MediaError(
            f"{video.path}: no frame {current[0]} though there is a map for it; wrong video?"
        )


def _write_image(
    info: media.VideoInfo,
    out: Path,
    pairs: Iterator[tuple[media.VideoFrame, np.ndarray]],
    style: OverlayStyle,
) -> None:
    for frame, saliency in pairs:
        drawn = cv2.cvtColor(overlay(frame.image, saliency, style), cv2.COLOR_RGB2BGR)
        encoded, data = cv2.imencode(out.suffix, drawn)
        if not encoded:
            raise MediaError(f"{out}: {info.width}x{info.height} does not fit this image format")
        write_file(out, data.tobytes())
