"""The kinds of files that maps are written to and read from, one class each.

Scales (what the gray levels of png, png16 and video stand for):

- frame: the frame's least and largest density are 0 and the highest level (published form).
- clip: the same, over all frames of the result, so that frames can be compared.
- probability: 0 is a density of 0 and the highest level is `PROBABILITY_TOP` times the density of
  a uniform map; results of different videos can be compared. Higher densities are clipped.

npy holds the densities themselves: they sum to 1 and no scale applies.

csv and parquet hold no maps but a table with one row for every frame. Its columns:

- index: frame number from 0.
- time: seconds since the video's first frame.
- duration: seconds that the frame is shown.
- peak_x, peak_y: the most salient pixel, in pixels of the video as displayed.
- centroid_x, centroid_y: the mean of the gaze, in the same pixels.
- spread: fraction of the picture that the smallest area with half of the gaze covers, 0 to 1.
- entropy: bits, of the map at the network's own size.
- shot: number of the shot from 0; empty where the shots are not known.
"""

from __future__ import annotations

import abc
import csv
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avsal.errors import MediaError, UsageError
from avsal.media.video import VideoReader
from avsal.media.writer import VideoWriter
from avsal.prediction.drawing import levels
from avsal.prediction.maps import SaliencyFrame, centroid_of, peak_of, spread_of
from avsal.prediction.shots import Shot
from avsal.prediction.threads import BoundedPool

TABLE_STEM = "saliency"  # of a table in a result folder
SUFFIXES = (".csv", ".parquet")

# Digits after the point that are written; None is a whole number.
_DIGITS: dict[str, int | None] = {
    "index": None,
    "time": 6,
    "duration": 6,
    "peak_x": 2,
    "peak_y": 2,
    "centroid_x": 2,
    "centroid_y": 2,
    "spread": 6,
    "entropy": 4,
}


def check_table(path: Path) -> None:
    """Refuse a table that cannot be written, before anything is computed.

    Raises:
        UsageError: it is neither CSV nor Parquet, or the library for Parquet is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: maps are exported to a table; give a .csv or .parquet file")
    check_library(suffix.removeprefix("."))


def check_library(format: str) -> None:
    """Refuse "parquet" where the library for it is not installed; other formats need none.

    Raises:
        UsageError: it is not.
    """
    if format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("parquet: needs pyarrow; pip install 'avsal[parquet]', or write csv")


class Table:
    """Collects rows, 72 bytes each, and writes them once the shots are known."""

    def __init__(self, path: Path) -> None:
        """Start a table; the suffix tells its form.

        Raises:
            UsageError: see `check_table`.
        """
        check_table(path)
        self._path = path
        self._values = array("d")

    def add(
        self,
        index: int,
        times: tuple[float, float],
        density: np.ndarray,
        entropy: float,
        size: tuple[int, int],
    ) -> None:
        """Add the row of a map.

        Args:
            times: seconds since the video's first frame, and seconds that the frame is shown.
            density: float (h, w).
            entropy: bits.
            size: (width, height) of the video as displayed, pixels.
        """
        peak, centroid = (
            _to_picture(place, density, size) for place in (peak_of(density), centroid_of(density))
        )
        values = (index, *times, *peak, *centroid, spread_of(density), entropy)
        rounded = zip(_DIGITS.values(), values, strict=True)
        self._values.extend(round(value, digits or 0) for digits, value in rounded)

    def write(self, shots: Sequence[Shot] | None) -> int:
        """Write the file and return the number of rows.

        Args:
            shots: of the video, ascending; None where they are not known.
        """
        columns = self._columns(shots)
        if self._path.suffix.lower() == ".csv":
            _write_csv(self._path, columns)
        else:
            _write_parquet(self._path, columns)
        return len(columns["index"])

    def _columns(self, shots: Sequence[Shot] | None) -> dict[str, list[Any]]:
        values = np.array(self._values).reshape(-1, len(_DIGITS))
        columns: dict[str, list[Any]] = {
            name: (column.astype(np.int64) if digits is None else column).tolist()
            for (name, digits), column in zip(_DIGITS.items(), values.T, strict=True)
        }
        starts = [shot.first for shot in shots or ()]
        columns["shot"] = [
            max(0, bisect_right(starts, index) - 1) if starts else None
            for index in columns["index"]
        ]
        return columns


def _to_picture(
    place: tuple[float, float], density: np.ndarray, size: tuple[int, int]
) -> tuple[float, float]:
    """A place in a map in pixels of the video; whole numbers are pixels' centres in both."""
    height, width = density.shape
    x = (place[0] + 0.5) * size[0] / width - 0.5
    y = (place[1] + 0.5) * size[1] / height - 0.5
    return x, y


def _write_csv(path: Path, columns: dict[str, list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    whole = {name for name, digits in _DIGITS.items() if digits is None} | {"shot"}
    kinds = {name: pyarrow.int64() if name in whole else pyarrow.float64() for name in columns}
    schema = pyarrow.schema(list(kinds.items()))
    parquet.write_table(pyarrow.table(columns, schema=schema), path)


VIDEO_NAME = "saliency.mp4"
VIDEO_CRF = 12  # near-lossless for smooth gray maps
PROBABILITY_TOP = 64  # times the uniform density; the peak of a sharp map reaches about 50
_WRITERS = 2  # threads: encoding a PNG takes about as long as reading a frame
_PENDING = 4  # maps that may wait for a writer


def restore(stored: np.ndarray, low: float, high: float) -> np.ndarray:
    """Turn a stored map back into densities: what `levels` made of them, up to its rounding.

    Args:
        stored: uint8 or uint16 gray levels, or float densities, which stay as they are.
        low, high: densities that the lowest and the highest level stand for.

    Returns:
        float32 of the same shape.
    """
    if stored.dtype.kind == "f":
        return np.asarray(stored, np.float32)
    step = (high - low) / np.iinfo(stored.dtype).max
    return (low + stored * step).astype(np.float32)


class MapFormat(abc.ABC):
    """One kind of file, or of files, that a result's maps are written to and read from.

    Attributes:
        has_scale: gray levels stand for densities.
        one_file: all maps are in one file, so parts of a video cannot be written apart.
        shots: of the video; set before `close`.
    """

    has_scale = True
    one_file = False
    shots: Sequence[Shot] = ()

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

    @classmethod
    @abc.abstractmethod
    def read(cls, folder: Path, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """The maps (h, w) of the frames of a result, in their order, as they were stored.

        Args:
            indices: numbers of all frames that the result has.

        Raises:
            MediaError, DataError: a map is missing, damaged or of another kind.
        """

    @classmethod
    @abc.abstractmethod
    def names(cls, indices: Iterable[int]) -> set[str]:
        """Names of the files that hold the maps of these frames."""


class PngMaps(MapFormat):
    """`<frame index, 6 digits>.png`, gray, 8 bit."""

    suffix = ".png"
    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._pool = BoundedPool(_WRITERS, _PENDING, "avsal-writer")
        self._futures: list[Future[None]] = []

    def write(self, frame: SaliencyFrame, low: float, high: float) -> None:
        self._raise_failures()
        self._futures.append(self._pool.submit(self._write_one, frame, low, high))

    def _write_one(self, frame: SaliencyFrame, low: float, high: float) -> None:
        gray = levels(frame.density, low, high, np.iinfo(self.dtype).max)
        _encoded, data = cv2.imencode(".png", gray)
        (self.folder / map_name(frame.index, self.suffix)).write_bytes(data.tobytes())

    def _raise_failures(self) -> None:
        for future in [future for future in self._futures if future.done()]:
            self._futures.remove(future)
            future.result()

    def close(self) -> None:
        self._pool.close()
        self._raise_failures()

    def abandon(self) -> None:
        self._pool.close(cancel=True)

    @classmethod
    def read(cls, folder: Path, indices: Iterable[int]) -> Iterator[np.ndarray]:
        from avsal.datasets.pictures import read_gray  # writing needs no data sets

        for index in indices:
            path = folder / map_name(index, cls.suffix)
            if not path.is_file():  # a pipe or a device would never end
                raise MediaError(f"{path}: missing, or no file; run avsal predict again")
            stored = read_gray(path)
            if stored.dtype != cls.dtype:
                raise MediaError(
                    f"{path}: holds {stored.dtype} values, not {cls.dtype} as avsal "
                    "predict writes them; run it again"
                )
            yield stored

    @classmethod
    def names(cls, indices: Iterable[int]) -> set[str]:
        return {map_name(index, cls.suffix) for index in indices}


class Png16Maps(PngMaps):
    """`<frame index, 6 digits>.png`, gray, 16 bit."""

    dtype = np.dtype(np.uint16)


class NpyMaps(PngMaps):
    """`<frame index, 6 digits>.npy`: float32 densities that sum to 1."""

    has_scale = False
    suffix = ".npy"
    dtype = np.dtype(np.float32)

    def _write_one(self, frame: SaliencyFrame, low: float, high: float) -> None:
        data = BytesIO()  # numpy's own writing to a file does not tell why it fails
        np.save(data, frame.density.astype(np.float32))
        (self.folder / map_name(frame.index, self.suffix)).write_bytes(data.getbuffer())


class VideoMaps(MapFormat):
    """`saliency.mp4`: gray, 8 bit, at the frames' own times and of the first map's size."""

    one_file = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._writer: VideoWriter | None = None
        self._size = (0, 0)

    def write(self, frame: SaliencyFrame, low: float, high: float) -> None:
        gray = levels(frame.density, low, high, 255)
        if self._writer is None:
            self._size = (gray.shape[1], gray.shape[0])
            path = self.folder / VIDEO_NAME
            self._writer = VideoWriter(path, *self._size, crf=VIDEO_CRF)
        if (gray.shape[1], gray.shape[0]) != self._size:
            gray = cv2.resize(gray, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(
            cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), frame.info.time, frame.info.duration
        )

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()

    @classmethod
    def read(cls, folder: Path, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """See `MapFormat.read`; an odd side is one pixel longer than it was, see `VideoWriter`.
        `Result.maps` takes it away."""
        path = folder / VIDEO_NAME
        if not path.is_file():
            raise MediaError(f"{path}: missing, or no file; run avsal predict again")
        with VideoReader(path) as video:
            frames = iter(video)
            for index in indices:
                frame = next(frames, None)
                if frame is None:
                    raise MediaError(f"{path}: ends before frame {index}; run avsal predict again")
                yield np.ascontiguousarray(frame.image[..., 0])
            if next(frames, None) is not None:
                raise MediaError(f"{path}: has more frames than records; run avsal predict again")

    @classmethod
    def names(cls, indices: Iterable[int]) -> set[str]:
        return {VIDEO_NAME}


class TableMaps(MapFormat):
    """`saliency.csv`: numbers of every frame, and no maps."""

    has_scale = False
    one_file = True
    suffix = ".csv"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._table = Table(folder / f"{TABLE_STEM}{self.suffix}")

    def write(self, frame: SaliencyFrame, low: float, high: float) -> None:
        times, size = (frame.time, frame.duration), (frame.info.width, frame.info.height)
        self._table.add(frame.index, times, frame.density, frame.entropy, size)

    def close(self) -> None:
        self._table.write(self.shots)

    def abandon(self) -> None:
        pass

    @classmethod
    def read(cls, folder: Path, indices: Iterable[int]) -> Iterator[np.ndarray]:
        raise MediaError(
            f"{folder}: holds numbers and no maps; run avsal predict with --format png"
        )

    @classmethod
    def names(cls, indices: Iterable[int]) -> set[str]:
        return {f"{TABLE_STEM}{cls.suffix}"}


class ParquetMaps(TableMaps):
    """`saliency.parquet`, see `TableMaps`."""

    suffix = ".parquet"


def map_name(index: int, suffix: str) -> str:
    """Name of the map of a frame in a result whose maps are single files."""
    return f"{index:06d}{suffix}"


FORMAT_CLASSES: dict[str, type[MapFormat]] = {
    "png": PngMaps,
    "png16": Png16Maps,
    "npy": NpyMaps,
    "video": VideoMaps,
    "csv": TableMaps,
    "parquet": ParquetMaps,
}
