"""Cache the image encoder's features of frames and stills, so that training takes minutes.

    python weights/recipe/cache.py SET... --data DIR --initial W -o runs/small/cache

SET is one of the names in SETS. W contains the encoder (from `unisal.py`, or a tuned one). Each set
becomes a folder with three arrays of float16 features and `index.json`, a list of sequences: name,
first row, number of rows, time of each frame in seconds, and whether it is mirrored. Videos are
sampled six times per second.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from avsal import models
from avsal.errors import AvsalError
from avsal.media import VideoReader
from avsal.models.folding import prepare_for_inference
from avsal.models.network import normalise
from avsal.prediction.inputs import resize_frame
from avsal.weights import read_state

VARIANT = "small-224x384"
SIZE = models.VARIANTS[VARIANT].size
RATE = 6.0  # frames a second
BATCH = 8
SHAPES = ((64, 28, 48), (160, 14, 24), (320, 7, 12))
STILLS, CLIPS = ("*.jpg", "*.png"), ("*.mp4", "*.webm", "*.avi")


@dataclass(frozen=True)
class CacheSet:
    """The place of a set in the data folder, and what is cached.

    Attributes:
        phases: start in seconds and mirroring of every pass over a video or still.
        longest: number of seconds to read of a video.
    """

    folder: str
    phases: tuple[tuple[float, bool], ...]
    longest: float = 60.0


BOTH = ((0.0, False), (0.0, True))
SETS = {
    "gaze": CacheSet("data/video_gaze/videos", ((0.0, False), (1 / 12, True))),
    "osie": CacheSet("data/osie/images", BOTH),
    "eyecrowd": CacheSet("data/eyecrowd/images", BOTH),
    "photos": CacheSet("data/photos", BOTH),
    "silent": CacheSet("data/clips_silent", ((0.0, False),), 4.0),
    "sound": CacheSet("data/clips_sound", ((0.0, True),), 6.0),
    "clips": CacheSet("clips", BOTH, 6.0),
}


@dataclass
class Cached:
    """A row of the index."""

    name: str
    first: int
    count: int
    seconds: list[float]
    mirrored: bool


def pixels_of(image: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """A picture at a network's size, uint8 (3, h, w)."""
    return torch.from_numpy(resize_frame(image, size)).permute(2, 0, 1)


def read_frames(path: Path, phase: float, longest: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the frame at each sixth of a second from `phase` on, and its time in seconds."""
    wanted = phase
    with VideoReader(path) as video:
        for frame in video:
            seconds = float(frame.pts - video.origin)
            if seconds > longest:
                return
            if seconds + float(frame.duration) / 2 >= wanted:
                yield seconds, frame.image
                while wanted <= seconds + float(frame.duration) / 2:
                    wanted += 1 / RATE


def read_still(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """A still as a video of one frame."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is not None:
        yield 0.0, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def files_of(folder: Path) -> list[Path]:
    """List the stills or videos of a folder, sorted by name."""
    return sorted(path for pattern in (*STILLS, *CLIPS) for path in folder.rglob(pattern))


def load_encoder(path: Path) -> nn.Module:
    """The image encoder, ready for inference."""
    network = models.build(VARIANT)
    network.load_state_dict({**network.state_dict(), **read_state(path)[0]})
    encoder = network.image_encoder.encoder
    return prepare_for_inference(encoder)  # type: ignore[no-any-return]


@torch.inference_mode()
def encode(encoder: nn.Module, frames: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Features of uint8 frames (3, h, w), three float16 arrays (N, C, h, w)."""
    parts: list[list[np.ndarray]] = [[] for _ in SHAPES]
    for start in range(0, len(frames), BATCH):
        pixels = normalise(torch.stack(list(frames[start : start + BATCH])))
        for part, feature in zip(parts, encoder(pixels), strict=True):
            part.append(feature.contiguous().numpy().astype(np.float16))
    return [np.concatenate(part) for part in parts]


def cache_set(
    name: str, root: Path, encoder: nn.Module, output: Path, left_out: set[str], every: int
) -> None:
    """Write a set's folder, without the files that are left out and with every n-th of the rest."""
    chosen, index, rows = SETS[name], [], 0
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    files = [(folder / f"features{number}.f16").open("wb") for number in range(len(SHAPES))]
    paths = [path for path in files_of(root / chosen.folder) if path.stem not in left_out]
    for path in paths[::every]:
        for phase, mirrored in chosen.phases:
            still = path.suffix in {".jpg", ".png"}
            try:
                read = read_still(path) if still else read_frames(path, phase, chosen.longest)
                seen = [(seconds, pixels_of(image, SIZE)) for seconds, image in read]
            except AvsalError as error:
                print(f"{path.name}: {error}", flush=True)
                continue
            if not seen:
                continue
            frames = [frame.flip(2) if mirrored else frame for _, frame in seen]
            for file, feature in zip(files, encode(encoder, frames), strict=True):
                file.write(feature.tobytes())
            seconds = [each for each, _ in seen]
            index.append(asdict(Cached(path.name, rows, len(seen), seconds, mirrored)))
            rows += len(seen)
        print(f"{name}: {path.name}, {rows} rows", flush=True)
    for file in files:
        file.close()
    (folder / "index.json").write_text(json.dumps(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("sets", nargs="+", choices=list(SETS))
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that contains data/ and clips/"
    )
    parser.add_argument("--initial", type=Path, required=True)
    parser.add_argument("--leave-out", type=Path, help="list of names that are not cached")
    parser.add_argument("--every", type=int, default=1, help="cache every n-th file only")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    encoder = load_encoder(given.initial)
    left_out = set(given.leave_out.read_text().split()) if given.leave_out else set()
    for name in given.sets:
        cache_set(name, given.data, encoder, given.output, left_out, given.every)


if __name__ == "__main__":
    main()
