"""Packed samples: clips, their maps and their sound in one .npz file, to train anywhere from.

The arrays of a file with N frames in C clips, M maps and K fixations:

    names           (C,) text
    clip_ends       (C,) int64: end of each clip in the list of frames
    rates           (C,) float64: frames a second; 0 for a still image
    jpegs, jpeg_ends      uint8 bytes of all frames' JPEGs, (N,) int64 end of each
    maps            (M, h, w) uint8 or float16, not negative, of any scale
    map_frames      (M,) int64: the frame that each map belongs to, rising
    fixations       (K, 3) float32: frame, x and y as shares of the picture
    samples, sample_ends  int16 sound at 16 kHz from each clip's first frame on, (C,) int64 ends

Frames are JPEGs because raw ones, compressed losslessly, are some ten times larger. A frame of
320x192 takes about 12 kB at quality 90, a uint8 map of 80x48 about 1 kB.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from avsal.errors import DataError
from avsal.spectrogram import SAMPLE_RATE
from avsal.training.sources import NO_SOUND, Source
from avsal.training.view import plain_view

QUALITY = 90  # of the JPEGs, 0..100
INT16 = 32767
KEYS = "names clip_ends rates jpegs jpeg_ends maps map_frames fixations samples sample_ends".split()


@dataclass(frozen=True)
class PackedClip:
    """A clip to pack.

    Attributes:
        name: by which `names` and `exclude` lists know it.
        frames: uint8 (H, W, 3) RGB each, any size; resize them first to keep the file small.
        maps: (h, w) each, by frame number in the clip; one size and type in a whole file.
        rate: frames a second, 0 for a still image.
        fixations: (k, 2) x and y as shares of the picture, by frame number.
        samples: float32 at 16 kHz in -1..1 from the first frame on; empty for a silent clip.
    """

    name: str
    frames: Sequence[np.ndarray]
    maps: dict[int, np.ndarray]
    rate: float = 0.0
    fixations: dict[int, np.ndarray] = field(default_factory=dict)
    samples: np.ndarray = field(default_factory=lambda: NO_SOUND)


def write_pack(path: Path, clips: Iterable[PackedClip], quality: int = QUALITY) -> None:
    """Write clips into one file; it appears only when whole.

    Args:
        clips: each is encoded as it comes, so a generator keeps memory small.

    Raises:
        DataError: there is no clip, or maps differ in size or type.
    """
    names: list[str] = []
    rates: list[float] = []
    clip_ends: list[int] = []
    jpegs: list[np.ndarray] = []
    maps: list[np.ndarray] = []
    map_frames: list[int] = []
    fixations: list[np.ndarray] = [np.zeros((0, 3), np.float32)]
    samples: list[np.ndarray] = []
    for clip in clips:
        first = len(jpegs)
        names.append(clip.name)
        rates.append(clip.rate)
        jpegs += [_encoded(frame, quality) for frame in clip.frames]
        clip_ends.append(len(jpegs))
        maps += [clip.maps[frame] for frame in sorted(clip.maps)]
        map_frames += [first + frame for frame in sorted(clip.maps)]
        fixations += [_numbered(first + f, clip.fixations[f]) for f in sorted(clip.fixations)]
        samples.append(np.rint(np.clip(clip.samples, -1, 1) * INT16).astype(np.int16))
    if not names:
        raise DataError(f"{path}: there is nothing to pack")
    if len({(each.shape, each.dtype) for each in maps}) != 1:
        raise DataError(f"{path}: the maps of a file must have one size and type; resize them")
    arrays = {
        "names": np.array(names),
        "clip_ends": np.array(clip_ends),
        "rates": np.array(rates, np.float64),
        "jpegs": np.concatenate(jpegs),
        "jpeg_ends": np.cumsum([each.size for each in jpegs]),
        "maps": np.stack(maps),
        "map_frames": np.array(map_frames),
        "fixations": np.concatenate(fixations),
        "samples": np.concatenate(samples),
        "sample_ends": np.cumsum([each.size for each in samples]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".partial-{path.name}")
    with aside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    aside.replace(path)


def _encoded(frame: np.ndarray, quality: int) -> np.ndarray:
    done, jpeg = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"a frame of shape {frame.shape} cannot be encoded as JPEG")
    return np.asarray(jpeg).ravel()


def _numbered(frame: int, points: np.ndarray) -> np.ndarray:
    numbers = np.full((len(points), 1), frame, np.float32)
    return np.hstack([numbers, np.asarray(points, np.float32).reshape(-1, 2)])


class Pack:
    """A packed file in memory, frames still compressed.

    Raises:
        DataError: the file is missing, damaged or no pack.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                self.arrays = {key: file[key] for key in KEYS}
        except KeyError as error:
            raise DataError(f"{path}: is no pack, it lacks {error}; write it again") from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            cause = getattr(error, "strerror", None) or "is damaged or no .npz file"
            raise DataError(f"{path}: {cause}; write it again") from None

    def clips(self) -> list[Source]:
        """The clips, as training reads them."""
        return [PackedSource(self, number) for number in range(len(self.arrays["names"]))]

    def part(self, values: str, ends: str, index: int) -> np.ndarray:
        """One entry of a concatenated array."""
        limits = self.arrays[ends]
        return self.arrays[values][limits[index - 1] if index else 0 : limits[index]]


class PackedSource:
    """One clip of a pack; see `avsal.training.sources.Source`."""

    def __init__(self, pack: Pack, number: int) -> None:
        ends = pack.arrays["clip_ends"]
        self._pack, self._number = pack, number
        self._first = int(ends[number - 1]) if number else 0
        self.name = str(pack.arrays["names"][number])
        self.frames = int(ends[number]) - self._first
        of_maps = pack.arrays["map_frames"] - self._first
        self._rows = {int(f): i for i, f in enumerate(of_maps) if 0 <= f < self.frames}
        self.targets = tuple(sorted(self._rows))
        self.rate = float(pack.arrays["rates"][number])

    def images(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self._decoded(index) for index in indices]

    def map(self, index: int) -> np.ndarray:
        values: np.ndarray = self._pack.arrays["maps"][self._rows[index]]
        return values

    def fixations(self, index: int) -> np.ndarray | None:
        rows = self._pack.arrays["fixations"]
        points: np.ndarray = rows[rows[:, 0] == self._first + index, 1:]
        return points if len(points) else None

    def samples(self, start: int, end: int) -> np.ndarray:
        samples = self._pack.part("samples", "sample_ends", self._number)
        return samples[start:end].astype(np.float32) / INT16

    def _decoded(self, index: int) -> np.ndarray:
        jpeg = self._pack.part("jpegs", "jpeg_ends", self._first + index)
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{self._pack.path}: frame {index} of {self.name} is damaged")
        return np.ascontiguousarray(image[..., ::-1])


def pack_sources(
    sources: Iterable[Source],
    size: tuple[int, int],
    map_size: tuple[int, int],
    stride: int = 1,
) -> Iterator[PackedClip]:
    """Shrink samples of any kind for `write_pack`, maps to 8 bits.

    Args:
        size, map_size: (height, width) of the frames and of the maps.
        stride: keep the maps of every so many frames; all frames stay.
    """
    view = plain_view(1)
    for source in sources:
        frames = [
            view.frame(source.images([index])[0], 0, size).transpose(1, 2, 0)
            for index in range(source.frames)
        ]
        kept = [target for target in source.targets if target % stride == 0]
        maps = {target: _levels(view.map(source.map(target), map_size)) for target in kept}
        points = {target: source.fixations(target) for target in kept}
        found = {target: each for target, each in points.items() if each is not None}
        end = round(source.frames / source.rate * SAMPLE_RATE) if source.rate else 0
        yield PackedClip(source.name, frames, maps, source.rate, found, source.samples(0, end))


def _levels(values: np.ndarray) -> np.ndarray:
    """Scale a map so that its peak is 255."""
    return np.rint(values * (255 / max(float(values.max()), 1e-12))).astype(np.uint8)
