"""Pictures of a video: heatmaps of the whole clip or of each shot, and contact sheets."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
from PIL import Image

from avsal import atomic
from avsal.media.source import name_of
from avsal.media.video import VideoReader
from avsal.prediction.drawing import (
    BACKGROUND,
    JPEG_QUALITY,
    decode_jpeg,
    encode_jpeg,
    legend_panel,
    overlay,
    shrunk,
    square_pixels,
    with_caption,
    write_picture,
)
from avsal.prediction.maps import GazeMap
from avsal.prediction.settings import clock
from avsal.prediction.style import OverlayStyle
from avsal.results.gaze import Gaze, Maps, open_gaze
from avsal.results.overlay import warn_of_legend
from avsal.results.plan import STILL_COMMENT

logger = logging.getLogger("avsal")

SHEET_FRAMES = 12  # of a contact sheet at even intervals
_MOST_CELLS = 96  # of a contact sheet with one frame of each shot
_CELL_PIXELS = 400 * 225  # of a frame on a sheet, at most
_SHEET_ASPECT = 16 / 9  # width to height that a sheet comes close to
_GAP = 8  # pixels between the frames of a sheet
_LEGEND_SIDE = 480  # the legend is as large as on a picture with this shorter side

_CANDIDATES = 32  # frames that may stand for a part of a video
_GRID = (32, 18)  # width and height at which maps are compared
_THUMBNAIL = (160, 90)  # width and height at which contrast is measured

OnMap = Callable[[int], None]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Still:
    """A frame that stands for a part of a video, and the gaze on that part.

    Attributes:
        image: uint8 (H, W, 3) RGB with square pixels.
        density: (h, w), mean over the time of the part.
        start, end: of the part, seconds since the video's first frame.
    """

    image: np.ndarray
    density: np.ndarray
    start: float
    end: float


class Thinned(Generic[Item]):
    """Keeps evenly spaced items of a series of unknown length, at least half of `limit`.

    Attributes:
        items: kept so far.
        count: of all items.
    """

    def __init__(self, limit: int) -> None:
        self.items: list[Item] = []
        self.count, self._limit, self._step = 0, limit, 1

    def offer(self, make: Callable[[], Item]) -> None:
        """Count an item, and make it only if it is kept for now."""
        if self.count % self._step == 0:
            if len(self.items) == self._limit:
                del self.items[1::2]
                self._step *= 2
            self.items.append(make())
        self.count += 1


@dataclass(frozen=True)
class _Candidate:
    """A frame that may stand for a part: its shot, JPEG file, contrast, and map on a grid."""

    shot: int
    jpeg: bytes
    contrast: float
    grid: np.ndarray


class _Part:
    """The maps of a part of a video, summed up while they pass."""

    def __init__(self, video: VideoReader, gaze: Gaze, first: GazeMap) -> None:
        self._video, self._gaze = video, gaze
        self.shot = first.shot
        self._start = self._end = first.pts
        self._sum = np.zeros(first.density.shape)
        self._candidates: Thinned[_Candidate] = Thinned(_CANDIDATES)

    def add(self, entry: GazeMap) -> None:
        """Take the next map."""
        self._sum += entry.density * (float(entry.duration) or 1.0)
        self._end = entry.pts + entry.duration
        self._candidates.offer(lambda: self._candidate(entry))

    def _candidate(self, entry: GazeMap) -> _Candidate:
        image = self._gaze.frame(entry.index).image
        small = cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA)
        contrast = float(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).std())
        jpeg = encode_jpeg(square_pixels(image, self._video.info.sample_aspect))
        return _Candidate(entry.shot, jpeg, contrast, _on_grid(entry.density))

    def still(self) -> Still:
        """The frame of the longest shot whose own map is most like the mean, unless it is almost
        blank."""
        mean = _on_grid(self._sum)
        longest = Counter(each.shot for each in self._candidates.items).most_common(1)[0][0]
        candidates = [each for each in self._candidates.items if each.shot == longest]
        least = float(np.median([each.contrast for each in candidates])) / 2
        best = max(
            (each for each in candidates if each.contrast >= least),
            key=lambda each: float(np.minimum(each.grid, mean).sum()),
        )
        total = max(float(self._sum.sum()), float(np.finfo(float).tiny))
        density = (self._sum / total).astype(np.float32)
        start, end = (float(time - self._video.origin) for time in (self._start, self._end))
        return Still(decode_jpeg(best.jpeg), density, start, end)


def _on_grid(density: np.ndarray) -> np.ndarray:
    grid = cv2.resize(density.astype(np.float32), _GRID, interpolation=cv2.INTER_AREA)
    return grid / max(float(grid.sum()), float(np.finfo(np.float32).tiny))


def find_stills(
    video: VideoReader, maps: Maps, per_shot: bool, on_map: OnMap = lambda _count: None
) -> Iterator[Still]:
    """One still of a whole video, or one of each shot, in constant memory.

    Args:
        video: opened and not yet read; closed afterwards.
        on_map: called with the number of maps that were read.

    Raises:
        AvsalError: see `avsal.results.gaze.open_gaze`.
    """
    with open_gaze(video, maps, frames=True) as gaze:
        part: _Part | None = None
        for count, entry in enumerate(gaze.maps, 1):
            if part is not None and per_shot and entry.shot != part.shot:
                yield part.still()
                part = None
            part = part or _Part(video, gaze, entry)
            part.add(entry)
            on_map(count)
        if part is not None:
            yield part.still()


def write_still(
    video: VideoReader, maps: Maps, out: Path, style: OverlayStyle, on_map: OnMap
) -> None:
    """Draw the mean gaze on a video over one frame.

    Args:
        out: .png, .jpg, .webp or .bmp.

    Raises:
        AvsalError: something cannot be read or written.
    """
    warn_of_legend(out, style, *_square_size(video))
    for still in find_stills(video, maps, per_shot=False, on_map=on_map):
        write_picture(out, overlay(still.image, still.density, style))


def write_stills(
    video: VideoReader, maps: Maps, folder: Path, style: OverlayStyle, on_map: OnMap
) -> None:
    """Draw the mean gaze on each shot over one of its frames: shot-001.jpg, ...

    Args:
        folder: appears only when it is complete; replaced if it holds such files alone.

    Raises:
        AvsalError: something cannot be read or written.
    """
    warn_of_legend(folder, style, *_square_size(video))
    with atomic.new_folder(folder, written_stills) as partial:
        for number, still in enumerate(find_stills(video, maps, True, on_map), 1):
            drawn = overlay(still.image, still.density, style)
            comment = b"%s: shot %d, %.3f to %.3f s" % (
                STILL_COMMENT,
                number,
                still.start,
                still.end,
            )
            path = partial / f"shot-{number:03d}.jpg"
            Image.fromarray(drawn).save(path, quality=JPEG_QUALITY, comment=comment)


def _square_size(video: VideoReader) -> tuple[int, int]:
    """Width and height of a still of a video."""
    return round(video.info.width * float(video.info.sample_aspect)), video.info.height


def written_stills(folder: Path) -> set[str]:
    """Names of the stills that `write_stills` wrote into a folder."""
    return {path.name for path in folder.glob("shot-*.jpg") if _is_ours(path)}


def _is_ours(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return bytes(image.info.get("comment", b"")).startswith(STILL_COMMENT)
    except (OSError, ValueError, TypeError, Image.DecompressionBombError):
        return False


def write_sheet(
    video: VideoReader,
    maps: Maps,
    out: Path,
    style: OverlayStyle,
    per_shot: bool,
    on_map: OnMap,
) -> None:
    """Draw a contact sheet: frames with their gaze and their times.

    Args:
        out: see `write_still`.
        per_shot: show one frame of each shot with the mean gaze on it; otherwise 12 frames at even
            intervals, each with its own map.

    Raises:
        AvsalError: something cannot be read or written.
    """
    inside = replace(style, legend=False)
    if per_shot:
        cells: Thinned[np.ndarray] = Thinned(_MOST_CELLS)
        for still in find_stills(video, maps, True, on_map):
            times = dict.fromkeys((clock(still.start), clock(still.end)))  # one for a short shot
            text = " - ".join(times)
            cells.offer(partial(_cell, still, text, inside))
        if len(cells.items) < cells.count:
            shots = f"{len(cells.items)} of {cells.count} shots"
            logger.warning("%s: the sheet shows %s", name_of(video.path), shots)
        shown = cells.items
    else:
        shown = [
            _cell(still, clock(still.start), inside) for still in _even_frames(video, maps, on_map)
        ]
    write_picture(out, _sheet(shown, style, out))


def _even_frames(video: VideoReader, maps: Maps, on_map: OnMap) -> list[Still]:
    """Frames at even intervals with their own maps."""
    frames: Thinned[Still] = Thinned(4 * SHEET_FRAMES)
    aspect = video.info.sample_aspect
    with open_gaze(video, maps, frames=True) as gaze:
        for count, entry in enumerate(gaze.maps, 1):
            frames.offer(partial(_frame_still, video, gaze, entry, aspect))
            on_map(count)
    found = frames.items
    step = len(found) / SHEET_FRAMES
    if step <= 1:
        return found
    return [found[int((number + 0.5) * step)] for number in range(SHEET_FRAMES)]


def _frame_still(video: VideoReader, gaze: Gaze, entry: GazeMap, aspect: Fraction) -> Still:
    image = _for_cell(square_pixels(gaze.frame(entry.index).image, aspect))
    start = float(entry.pts - video.origin)
    return Still(image, entry.density, start, start + float(entry.duration))


def _cell(still: Still, text: str, style: OverlayStyle) -> np.ndarray:
    """A still as it is on a sheet, with a text below it."""
    return with_caption(overlay(_for_cell(still.image), still.density, style), text)


def _for_cell(image: np.ndarray) -> np.ndarray:
    return shrunk(image, (_CELL_PIXELS / (image.shape[0] * image.shape[1])) ** 0.5)


def _sheet(cells: list[np.ndarray], style: OverlayStyle, out: Path) -> np.ndarray:
    """Cells in rows, and below the legend, if it fits."""
    height, width = cells[0].shape[:2]
    columns = _columns(len(cells), width, height)
    rows = -(-len(cells) // columns)
    across, down = width + _GAP, height + _GAP
    legend = None if style.legend is False else legend_panel(style, _LEGEND_SIDE)
    if legend is not None and legend.shape[1] + 2 * _GAP > columns * across + _GAP:
        legend = None
        if style.legend:
            logger.warning("%s: the sheet is too narrow for a legend; it is omitted", out)
    strip = 0 if legend is None else legend.shape[0] + _GAP
    shape = rows * down + _GAP + strip, columns * across + _GAP, 3
    sheet = np.full(shape, BACKGROUND, np.uint8)
    for number, cell in enumerate(cells):
        top = _GAP + number // columns * down
        left = _GAP + number % columns * across
        same = cell.shape[:2] == (height, width)  # a video may change its size on the way
        shown = cell if same else cv2.resize(cell, (width, height))
        sheet[top : top + height, left : left + width] = shown
    if legend is not None:
        top = rows * down + _GAP
        sheet[top : top + legend.shape[0], _GAP : _GAP + legend.shape[1]] = legend
    return sheet


def _columns(count: int, width: int, height: int) -> int:
    """The number of columns that gives a sheet of about 16:9 with few empty places."""

    def loss(columns: int) -> float:
        rows = -(-count // columns)
        aspect = columns * width / (rows * height)
        return abs(np.log(aspect / _SHEET_ASPECT)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=loss)
