"""The kinds of files that maps are written to, one class each.

Scales (what the gray levels of png, png16 and video stand for):

- frame: the frame's least and largest density are 0 and the highest level (published form).
- clip: the same, over all frames of the result, so that frames can be compared.
- probability: 0 is no probability and the highest level is `PROBABILITY_TOP` times the density of
  a uniform map; results of different videos can be compared. Higher densities are clipped.

npy holds the densities themselves: they sum to 1 and no scale applies.
"""

from __future__ import annotations

import abc
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from avsal import media
from avsal.prediction.saliency import SaliencyFrame

VIDEO_NAME = "saliency.mp4"
VIDEO_CRF = 12  # near-lossless for smooth gray maps
PROBABILITY_TOP = 64  # times the uniform density; the peak of a sharp map reaches about 50
_WRITERS = 2  # threads: encoding a PNG takes about as long as reading a frame
_PENDING = 8  # maps that may wait for a writer


def levels(density: np.ndarray, low: float, high: float, top: int) -> np.ndarray:
    """Scale densities to whole gray levels 0..top; all 0 where low and high are equal.

    Returns:
        uint8 for a top up to 255, else uint16.
    """
    dtype = np.uint8 if top <= np.iinfo(np.uint8).max else np.uint16
    if high <= low:
        return np.zeros(density.shape, dtype)
    share = np.clip((density - low) / (high - low), 0, 1)
    return np.rint(share * top).astype(dtype)


class MapFormat(abc.ABC):
    """One kind of file, or of files, that a result's maps are written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abc.abstractmethod
    def write(self, frame: SaliencyFrame, low: float, high: float) -> None:
        """Write one map whose densities from `low` to `high` span all levels."""

    @abc.abstractmethod
    def close(self) -> None:
        """Finish the files. Not called when the result is thrown away."""

    @abc.abstractmethod
    def abandon(self) -> None:
        """Let go of open files without finishing them; harmless after `close`."""


class PngMaps(MapFormat):
    """`<frame index, 6 digits>.png`, gray, 8 bit."""

    top = 255

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="avsal-writer")
        self._slots = threading.Semaphore(_PENDING)
        self._futures: list[Future[None]] = []

    def write(self, frame: SaliencyFrame, low: float, high: float) -> None:
        self._raise_failures()
        self._slots.acquire()
        future = self._pool.submit(self._write_one, frame, low, high)
        future.add_done_callback(lambda _done: self._slots.release())
        self._futures.append(future)

    def _write_one(self, frame: SaliencyFrame, low: float, high: float) -> None:
        gray = levels(frame.density, low, high, self.top)
        _encoded, data = cv2.imencode(".png", gray)
        (self.folder / f"{frame.index:06d}.png").write_bytes(data.tobytes())

    def _raise_failures(self) -> None:
        for future in [each for each in self._futures if each.done()]:
            self._futures.remove(future)
            future.result()

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._raise_failures()

    def abandon(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class Png16Maps(PngMaps):
    """`<frame index, 6 digits>.png`, gray, 16 bit."""

    top = 65535


class NpyMaps(PngMaps):
    """`<frame index, 6 digits>.npy`: float32 densities that sum to 1."""

    def _write_one(self, frame: SaliencyFrame, low: float, high: float) -> None:
        np.save(self.folder / f"{frame.index:06d}.npy", frame.density.astype(np.float32))


class VideoMaps(MapFormat):
    """`saliency.mp4`: gray, 8 bit, at the frames' own times and of the first map's size."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._writer: media.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, frame: SaliencyFrame, low: float, high: float) -> None:
        gray = levels(frame.density, low, high, 255)
        if self._writer is None:
            self._size = (gray.shape[1], gray.shape[0])
            path = self.folder / VIDEO_NAME
            self._writer = media.VideoWriter(path, *self._size, crf=VIDEO_CRF)
        if (gray.shape[1], gray.shape[0]) != self._size:
            gray = cv2.resize(gray, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(
            cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), frame.tag.time, frame.tag.duration
        )

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()


FORMAT_CLASSES: dict[str, type[MapFormat]] = {
    "png": PngMaps,
    "png16": Png16Maps,
    "npy": NpyMaps,
    "video": VideoMaps,
}
