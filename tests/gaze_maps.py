"""Maps of gaze made on the spot, and results of `avsal predict` that hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from avsal import media
from avsal.media.frames import FrameInfo
from avsal.media.source import file_identity
from avsal.prediction.maps import SaliencyFrame
from avsal.prediction.settings import OutputSettings
from avsal.results.folder import new_result


def spot(x: float, y: float = 0.5, size: tuple[int, int] = (36, 64), width: float = 0.04):
    """A density (h, w) around a place given as fractions of width and height; sums to 1."""
    rows, columns = ((np.arange(side) + 0.5) / side for side in size)
    density = np.exp(-((columns - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * width**2)) + 1e-9
    return (density / density.sum()).astype(np.float32)


def save_maps(
    folder: Path, video: Path, place: Callable[[int], tuple[float, float]], **output: str
) -> Path:
    """Write a result whose map of every frame has its gaze at `place(index)`."""
    with media.VideoReader(video) as reader:
        header = {
            "source": file_identity(video),
            "model": "test",
            "weights": {"name": "none", "sha256": "0" * 64},
            "settings": {"format": "png", "scale": "frame", "start": None, "end": None, **output},
            "width": reader.info.width,
            "height": reader.info.height,
        }
        with new_result(folder, header, OutputSettings(**output)) as result:
            for frame in reader:
                height, width = frame.image.shape[:2]
                time = frame.pts - reader.origin
                tag = FrameInfo(frame.index, frame.pts, time, frame.duration, width, height)
                density = spot(*place(frame.index))
                result.write(SaliencyFrame(tag, np.log(density), density))
    return folder
