"""Draw a contact sheet: a few frames of each video with their maps overlaid, one row per video.

python weights/recipe/sheet.py VIDEO... -o weights/sheet.jpg

For a folder of pictures instead of a video, the row shows its first pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path

import cv2
import numpy as np

from avsal import load_model
from avsal.media import VideoReader, probe
from avsal.prediction.drawing import OverlayStyle, overlay
from avsal.prediction.predictor import Predictor

FRAMES = 4  # of each video
CELL = (216, 384)  # pixels (height, width)
GAP, CAPTION = 8, 24  # pixels
MOST_BYTES = 600_000
FONT, FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.55
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def write_sheet(predictor: Predictor, videos: Sequence[Path], out: Path) -> None:
    """Write the sheet to a .jpg of limited size, or to a .png."""
    rows = [sheet_row(predictor, video) for video in videos]
    picture = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    for quality in range(92, 30, -4):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality] if out.suffix.lower() != ".png" else []
        data = cv2.imencode(out.suffix, picture, options)[1].tobytes()
        if len(data) < MOST_BYTES or not options:
            break
    out.write_bytes(data)
    print(f"{out}: {picture.shape[1]}x{picture.shape[0]}, {len(data)} bytes")


def sheet_row(predictor: Predictor, video: Path) -> np.ndarray:
    """Return a video's frames side by side below its name, uint8 RGB."""
    if video.is_dir():
        pictures = sorted(video.glob("*.jpg"))[:FRAMES]
        cells = [_cell(*draw(predictor, picture, None)) for picture in pictures]
    else:
        duration = float(probe(video).duration or 0)
        starts = [round(duration * (number + 0.5) / FRAMES, 3) for number in range(FRAMES)]
        cells = [_cell(*draw(predictor, video, start)) for start in starts]
    side = np.full((CELL[0], GAP, 3), 255, np.uint8)
    parts = [part for cell in cells for part in (side, cell)]
    frames = np.hstack([*parts, side])
    caption = np.full((CAPTION, frames.shape[1], 3), 255, np.uint8)
    cv2.putText(caption, video.stem, (GAP, CAPTION - 7), FONT, FONT_SIZE, BLACK, 1, cv2.LINE_AA)
    return np.vstack([caption, frames, np.full((GAP, frames.shape[1], 3), 255, np.uint8)])


def draw(predictor: Predictor, video: Path, start: float | None) -> tuple[np.ndarray, float]:
    """Yield the first frame at or after each time with its map, and its time in seconds.

    The map is that of the whole video, because the pipeline also reads earlier frames.
    """
    predicted = next(predictor.predict(video, start=start, batch=1))
    with VideoReader(video, start=start) as frames:
        frame = next(dropwhile(lambda each: each.index < predicted.index, frames))
    return overlay(frame.image, predicted.saliency, OverlayStyle()), predicted.time


def _cell(image: np.ndarray, time: float) -> np.ndarray:
    """Centre a picture in a cell, with its time in the corner."""
    scale = min(CELL[0] / image.shape[0], CELL[1] / image.shape[1])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for colour, thickness in ((BLACK, 3), (WHITE, 1)):
        place = (6, size[1] - 8)
        cv2.putText(small, f"{time:.1f} s", place, FONT, FONT_SIZE, colour, thickness, cv2.LINE_AA)
    cell = np.full((*CELL, 3), 255, np.uint8)
    top, left = (CELL[0] - size[1]) // 2, (CELL[1] - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = small
    return cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    write_sheet(load_model(), given.videos, given.output)


if __name__ == "__main__":
    main()
