"""Make what the small network is trained and validated with; what is there already is skipped.

    python weights/recipe/prepare.py --wheel UNPACKED --osie DIR --eyecrowd DIR --clips DIR -o OUT

UNPACKED is the wheel of pyautoflip 0.2.1, unzipped: it holds UNISAL, the teacher (`teacher.py`).
The lists of validation names lie beside this file; everything else is written to OUT:

    unisal-encoder.safetensors             the teacher's image encoder under our names
    {osie,eyecrowd}-{train,validation}.npz stills with recorded gaze
    crops.npz                              parts of the training stills with the teacher's maps
    clips.npz, clips-validation.npz        videos with sound and the teacher's maps
    moving.npz                             synthetic clips of things that move
    cuts.npz                               synthetic clips with a cut
    unisal*/{osie,eyecrowd}/*.png          the teacher's maps of the validation stills
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from crops import PER_STILL, crops
from cuts import cut_clips
from moving import moving_clips
from teacher import Size, Teacher, weights_file

from avsal.datasets import DatasetSpec, Recording, open_dataset, tag_of
from avsal.datasets.packing import Packing
from avsal.datasets.videos import NO_ROWS, VideoRecording
from avsal.media import VideoReader
from avsal.media.frames import FrameTag
from avsal.media.suffixes import VIDEOS
from avsal.results.formats import levels
from avsal.weights import import_component

T = TypeVar("T")
Making = Callable[[Sequence[Recording], int, Size, int], Iterator[Recording]]

LISTS = Path(__file__).parent
SEED = 2020
VALIDATION = 0.2  # of the stills
SIZE, MAP_SIZE = (288, 480), (144, 240)  # room for crops of the network's 224x384
VIDEO_QUALITY = 88  # JPEG; clips have many frames, and they were compressed before
MOVING = CUTS = 300
WITH_ENCODER = "v4-s3d-224x224"  # any network with MobileNet-V2
PNG_TOP = 2**16 - 1
STILL_SETS = ("osie", "eyecrowd")
# Folders of the teacher's maps and what the stills are squeezed to for them.
SAVED: dict[str, Size | None] = {
    "unisal": None,
    "unisal-192x320": (192, 320),
    "unisal-224x384": (224, 384),
}


@dataclass(frozen=True)
class Sources:
    """What everything is made of, and where it goes."""

    wheel: Path
    roots: dict[str, Path]  # of STILL_SETS
    clips: Path
    output: Path

    @cached_property
    def teacher(self) -> Teacher:
        return Teacher.load(self.wheel)

    def stills(self, name: str, validation: bool) -> list[Recording]:
        """The validation stills of a set, or all others."""
        names = validation_list(name)
        chosen = {"names" if validation else "without": names}
        return open_dataset(DatasetSpec(self.roots[name], **chosen))

    @property
    def training_stills(self) -> list[Recording]:
        return [still for name in STILL_SETS for still in self.stills(name, validation=False)]


def validation_list(name: str) -> Path:
    """The list of a set's names that training leaves out."""
    return LISTS / f"{name}-validation.txt"


def main() -> None:
    sources = _arguments()
    for name, root in sources.roots.items():
        write_list(root, validation_list(name))
    for name, make in _outputs(sources):
        path = sources.output / name
        if path.exists():
            print(f"{name}: is there", flush=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as aside:
            made = Path(aside) / path.name
            make(made)
            made.replace(path)
        print(f"{name}: made in {time.monotonic() - start:.0f} s", flush=True)


def _arguments() -> Sources:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    for name in ("wheel", *STILL_SETS, "clips"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    roots = {name: getattr(given, name) for name in STILL_SETS}
    return Sources(given.wheel, roots, given.clips, given.output)


def _outputs(sources: Sources) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Names of all outputs and what makes each."""
    yield "unisal-encoder.safetensors", lambda path: write_encoder(sources, path)
    for name in STILL_SETS:
        for part in ("train", "validation"):
            yield (
                f"{name}-{part}.npz",
                lambda path, n=name, p=part: write_stills(sources, n, p == "validation", path),
            )
    yield "crops.npz", lambda path: write_crops(sources, path)
    yield "clips-validation.npz", lambda path: write_clips(sources, True, path)
    yield "clips.npz", lambda path: write_clips(sources, False, path)
    yield "moving.npz", lambda path: write_made(moving_clips, MOVING, sources, path)
    yield "cuts.npz", lambda path: write_made(cut_clips, CUTS, sources, path)
    for folder, size in SAVED.items():
        for name in STILL_SETS:
            yield (
                f"{folder}/{name}",
                lambda path, n=name, s=size: write_maps(sources, n, s, path),
            )


def write_list(root: Path, path: Path) -> None:
    """Choose the validation stills of a set, once and for all."""
    if path.exists():
        return
    names = sorted(still.name for still in open_dataset(DatasetSpec(root)))
    chosen = random.Random(SEED).sample(names, round(VALIDATION * len(names)))
    path.write_text("".join(f"{name}\n" for name in sorted(chosen)), encoding="utf-8")


def write_encoder(sources: Sources, path: Path) -> None:
    """The teacher's image encoder as weights of ours."""
    import_component(weights_file(sources.wheel), "image", WITH_ENCODER, path)


def write_stills(sources: Sources, name: str, validation: bool, path: Path) -> None:
    """Stills with recorded gaze."""
    packing = Packing(SIZE, MAP_SIZE)
    for still in shown(sources.stills(name, validation), path):
        packing.add(still)
    packing.write(path)


def write_crops(sources: Sources, path: Path) -> None:
    """Parts of the training stills."""
    stills, packing = sources.training_stills, Packing(SIZE, MAP_SIZE)
    for crop in shown(crops(stills, sources.teacher, SEED), path, PER_STILL * len(stills)):
        packing.add(crop)
    packing.write(path)


def write_clips(sources: Sources, validation: bool, path: Path) -> None:
    """The videos, or those that training leaves out."""
    held = set(validation_list("clips").read_text(encoding="utf-8").split())
    files = sorted(each for each in sources.clips.iterdir() if each.suffix in VIDEOS)
    packing = Packing(SIZE, MAP_SIZE, VIDEO_QUALITY)
    for file in shown([each for each in files if (each.stem in held) == validation], path):
        packing.add(_open_clip(file), lambda clip: video_maps(sources.teacher, clip))
    packing.write(path)


def _open_clip(path: Path) -> Recording:
    with VideoReader(path) as video:
        return VideoRecording(path.stem, "clips", video.info, NO_ROWS, video.origin)


def video_maps(teacher: Teacher, clip: Recording) -> Iterator[tuple[FrameTag, np.ndarray]]:
    """The teacher's map of every frame, at the stored size: many wait until they are packed."""
    tags = []

    def images() -> Iterator[np.ndarray]:
        for frame in clip.frames():
            tags.append(tag_of(frame, clip.origin))
            yield frame.image

    rate = float(clip.info.rate or 25) if isinstance(clip, VideoRecording) else 25.0
    for index, density in enumerate(teacher.video(images(), rate)):
        yield tags[index], cv2.resize(density, MAP_SIZE[::-1], interpolation=cv2.INTER_AREA)


def write_made(make: Making, count: int, sources: Sources, path: Path) -> None:
    """Synthetic clips from the training stills."""
    packing = Packing(SIZE, MAP_SIZE, VIDEO_QUALITY)
    for clip in shown(make(sources.training_stills, count, SIZE, SEED), path, count):
        packing.add(clip)
    packing.write(path)


def write_maps(sources: Sources, name: str, size: Size | None, path: Path) -> None:
    """The teacher's maps of the validation stills, for `avsal evaluate --predictions`."""
    path.mkdir()
    for still in shown(sources.stills(name, validation=True), path):
        density = sources.teacher.static(next(still.frames()).image, size)
        gray = levels(density, 0, float(density.max()), PNG_TOP)
        cv2.imwrite(str(path / Path(still.name).with_suffix(".png").name), gray)


def shown(items: Iterable[T], path: Path, total: int | None = None) -> Iterator[T]:
    """Pass items on and print a line at every tenth of them."""
    total = total or len(items)  # type: ignore[arg-type]
    for number, item in enumerate(items, start=1):
        yield item
        if number * 10 // total > (number - 1) * 10 // total:
            print(f"  {path.name}: {number} of {total}", flush=True)


if __name__ == "__main__":
    main()
