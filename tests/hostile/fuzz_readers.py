"""Reads mutated files, many in one process, and says what became of each.

    python fuzz_readers.py FAMILY FOLDER FIRST COUNT

FOLDER has a folder of whole files for each family. A line of output says "begin SEED", another
"right SEED" or "clear SEED MESSAGE"; a mutation that ends the process has only the first of them.
"""

from __future__ import annotations

import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from mutations import mutated

from avsal.areas.areas import cover
from avsal.areas.files import read_areas
from avsal.crops.export import write_export
from avsal.crops.file import read_crops, read_head
from avsal.datasets.gaze_table import read_table
from avsal.datasets.pictures import read_mask, read_picture, read_salicon
from avsal.errors import AvsalError
from avsal.media import AudioReader, VideoReader, VideoWriter
from avsal.results.folder import read_result
from avsal.training.config import read_config
from avsal.weights.loading import detect
from avsal.weights.state import read_state
from avsal.weights.upstream import read_blobs

SECONDS = 20  # for one mutation
MEMORY = 1 << 30  # bytes that reading may take above what the libraries take
_TEXTS = frozenset({".json", ".toml", ".csv"})


def video(path: Path) -> None:
    """Pictures and sound, from the beginning or from the middle."""
    start = random.Random(path.stat().st_size).choice((None, None, 0.25))
    with VideoReader(path, start=start) as reader:
        frames = list(reader)
        origin, has_audio = reader.origin, reader.info.has_audio
        lines = reader.warnings
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == frame.image.shape[2] == 3
        assert frame.duration >= 0
    assert all(one.pts < other.pts for one, other in pairwise(frames))
    assert all("\n" not in line for line in lines)
    if has_audio:
        sound(path, origin)


def sound(path: Path, origin: object = 0) -> None:
    """The first seconds of sound."""
    with AudioReader(path, origin) as reader:
        samples = reader.read(0, 16000 * 5)
        assert all("\n" not in line for line in reader.warnings)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert np.abs(samples).max(initial=0) < 2  # 1, and what resampling a square wave adds


def overlay(path: Path) -> None:
    """Frames written again with the file's own sound, as an overlay does."""
    out = path.with_name("out.mp4")
    with VideoReader(path) as reader:
        info = reader.info
        size = min(info.width, 512), min(info.height, 512)
        with VideoWriter(
            out, *size, audio_from=path, time_base=info.time_base, sample_aspect=info.sample_aspect
        ) as writer:
            for frame in reader:
                image = np.zeros((size[1], size[0], 3), np.uint8)
                writer.write(image, frame.pts, frame.duration)
    with VideoReader(out) as reader:
        assert sum(1 for _ in reader)
    out.unlink()


def result(folder: Path) -> None:
    """A folder that `avsal predict` wrote."""
    read_result(folder).shots()
    for record, density in read_result(folder).densities():
        assert density.dtype == np.float32
        assert density.ndim == 2
        assert record.index >= 0


def weights(path: Path) -> None:
    """Checkpoints of three kinds."""
    if path.suffix == ".pkl":
        read_blobs(path)
    else:
        detect(read_state(path)[0])


def annotation(path: Path) -> None:
    """Maps, masks and tables of recorded gaze."""
    if path.suffix == ".csv":
        read_table(path)
    else:
        read_mask(path)
        if path.suffix != ".npy":
            read_picture(path)


def matlab(path: Path) -> None:
    """Fixations as MATLAB stores them."""
    if read_salicon(path) is None:
        read_mask(path)


def config(path: Path) -> None:
    """Settings of a training run."""
    read_config(path)


def path(file: Path) -> None:
    """A path of crops that was edited."""
    head = read_head(file)
    for crop in read_crops(file, head.picture):
        assert 0 < crop.width <= head.picture.width + 0.01
    for suffix in (".csv", ".sendcmd", ".fcpxml"):
        write_export(file, file.with_suffix(suffix))


def areas(file: Path) -> None:
    """Areas to measure."""
    for area in read_areas(file, (200, 100)):
        shape = area.at(area.times[0] if area.times else 0)
        assert shape is not None
        assert np.isfinite(cover(shape, (9, 16))).all()


READERS: dict[str, Callable[[Path], None]] = {
    "video": video,
    "still": video,
    "sound": sound,
    "overlay": overlay,
    "result": result,
    "weights": weights,
    "annotation": annotation,
    "matlab": matlab,
    "config": config,
    "path": path,
    "areas": areas,
}


def damaged_copy(whole: Path, folder: Path, seed: int) -> Path:
    """A copy of a file, or of a folder of which one file is changed."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    path = folder / whole.name
    if whole.is_dir():
        shutil.copytree(whole, path)
        target = random.Random(seed).choice(sorted(path.iterdir()))
    else:
        shutil.copyfile(whole, path)
        target = path
    target.write_bytes(mutated(target.read_bytes(), seed, target.suffix in _TEXTS))
    return path


def main(family: str, folder: Path, first: int, count: int) -> None:
    wholes = sorted((folder / family).iterdir())
    for whole in wholes:
        READERS[family](whole)  # warms up, and shows that the whole file is read
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    for seed in range(first, first + count):
        whole = wholes[seed % len(wholes)]
        print("begin", seed, whole.name, flush=True)
        path = damaged_copy(whole, folder / f"work-{family}-{first}", seed)
        signal.alarm(SECONDS)
        try:
            READERS[family](path)
        except AvsalError as error:
            text = str(error)
            assert "\n" not in text and "\x1b" not in text and len(text) < 1000, text
            print("clear", seed, text, flush=True)
        else:
            print("right", seed, flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
