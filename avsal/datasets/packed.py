"""A data set in one file: small JPEG frames, maps, fixations and sound of many recordings.

Made for training: it loads in a moment and fits where the originals do not. The maps may be
recorded gaze or a teacher's densities; `avsal.datasets.packing` writes both. An uncompressed .npz
with

    names, databases, rates (R,)      rates as text, frames per second
    counts (R,)                       frames of each recording
    pictures (bytes,), picture_ends (F,)   JPEG files of all frames, one after the other
    maps (M, h, w) uint8, map_of (F,)      255 * sqrt(density / maximum); row of each frame or -1
    points (P, 4) float32             frame, observer (-1: unknown), x, y as fractions
    samples int16, sample_ends (R,)   16 kHz mono sound
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from avsal.datasets.gaze import DEFAULT_SIGMA, Gaze, Points
from avsal.datasets.pictures import read_picture
from avsal.datasets.recording import IndexedRecording, OpenSound, Recording
from avsal.datasets.stills import OTHER_PICTURES
from avsal.errors import DataError
from avsal.media.frames import FrameTag

SUFFIX = ".npz"
FULL_SCALE = 2**15  # of 16-bit sound
UNKNOWN = -1  # observer, or row of a frame without a map
ARRAYS = (
    "names databases rates counts pictures picture_ends maps map_of points samples sample_ends"
).split()


@dataclass(frozen=True)
class Pack:
    """A loaded file; another process loads it again instead of receiving its arrays."""

    path: Path
    arrays: dict[str, np.ndarray]

    def __reduce__(self) -> tuple[Any, ...]:
        return load_pack, (self.path,)

    def picture(self, frame: int) -> np.ndarray:
        """Frame as uint8 (H, W, 3)."""
        data = self._slice("pictures", "picture_ends", frame).tobytes()
        return read_picture(data, f"{self.path}, frame {frame}")

    def density(self, frame: int) -> np.ndarray | None:
        """Map of a frame as float32 (h, w), None without."""
        row = self.arrays["map_of"][frame]
        return None if row == UNKNOWN else np.square(self.arrays["maps"][row].astype(np.float32))

    def points(self, first: int, last: int) -> Points:
        """Fixations on the frames from `first` to before `last`."""
        rows = self.arrays["points"]
        low, high = np.searchsorted(rows[:, 0], (first, last))
        observers = rows[low:high, 1].astype(int)
        known = observers if (observers != UNKNOWN).any() else None
        return Points(rows[low:high, 2:4], known)

    def samples(self, recording: int) -> np.ndarray:
        """Sound of a recording, int16 (n,)."""
        return self._slice("samples", "sample_ends", recording)

    def _slice(self, name: str, ends: str, row: int) -> np.ndarray:
        bounds = self.arrays[ends]
        return self.arrays[name][bounds[row - 1] if row else 0 : bounds[row]]


def load_pack(path: Path) -> Pack:
    """Load a file, once for all that ask for it.

    Raises:
        DataError: it is missing, damaged or something else.
    """
    try:
        return _load(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


@lru_cache(maxsize=16)
def _load(path: Path, _changed: int) -> Pack:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
    except (BadZipFile, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path}: is no packed data set ({error})") from None
    return Pack(path, arrays)


class Samples:
    """Sound that is in memory, int16 (n,), read as a file's: float32 in -1..1."""

    def __init__(self, samples: np.ndarray) -> None:
        self._samples = samples

    def read(self, start: int, end: int) -> np.ndarray:
        """Samples from `start` to `end`, float32; fewer where the sound ends before."""
        return self._samples[start:end].astype(np.float32) / FULL_SCALE

    def release(self, before: int) -> None:
        """Nothing to forget."""


@dataclass(frozen=True)
class PackedRecording(IndexedRecording):
    """One recording of a packed file."""

    pack: Pack
    row: int
    first: int  # of its frames in the file
    name: str
    database: str
    count: int
    rate: Fraction

    def image(self, index: int) -> np.ndarray:
        return self.pack.picture(self.first + index)

    def gaze(self, tag: FrameTag) -> Gaze | None:
        frame = self.first + tag.index
        density, points = self.pack.density(frame), self.pack.points(frame, frame + 1)
        if density is None:
            return Gaze.of_points(points, (tag.height, tag.width), DEFAULT_SIGMA)
        size = (density.shape[0], density.shape[1])
        return Gaze(density, points.mask(size) if len(points) else None, points)

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        points = self.pack.points(self.first, self.first + self.count)
        if self.count > 1:
            return points.mask(size) if len(points) else None
        return self._other_pictures(size)

    def _other_pictures(self, size: tuple[int, int]) -> np.ndarray | None:
        counts = self.pack.arrays["counts"]
        starts = np.cumsum(counts) - counts
        stills = [s for s, n in zip(starts, counts, strict=True) if n == 1 and s != self.first]
        chosen = random.Random(self.row).sample(stills, min(OTHER_PICTURES, len(stills)))
        masks = [self.pack.points(start, start + 1).mask(size) for start in chosen]
        return np.logical_or.reduce(masks) if masks else None

    @property
    def has_sound(self) -> bool:
        return bool(self.pack.samples(self.row).size)

    def sound(self) -> OpenSound:
        samples = self.pack.samples(self.row)
        return nullcontext(Samples(samples) if samples.size else None)


def open_packed(path: Path) -> list[Recording]:
    """The recordings of a packed file.

    Raises:
        DataError: see `load_pack`.
    """
    pack = load_pack(path)
    arrays = pack.arrays
    starts = np.cumsum(arrays["counts"]) - arrays["counts"]
    rows = zip(arrays["names"], arrays["databases"], arrays["counts"], arrays["rates"], strict=True)
    return [
        PackedRecording(
            pack, row, int(starts[row]), str(name), str(db), int(n), Fraction(str(rate))
        )
        for row, (name, db, n, rate) in enumerate(rows)
    ]
