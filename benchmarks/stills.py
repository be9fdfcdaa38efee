"""Pictures per second of `avsal batch` on a folder of small still images, and how it shares cores.

    python benchmarks/stills.py [--pictures 500] [--size 640x480] [--processes 8] [--share 20]

Rows: the whole folder on an otherwise idle machine; the same with another process keeping each
core busy; and `--processes` runs at once, on `--share` pictures each, against the same runs one
after the other. Everything runs `python -m avsal` in processes of its own; starting them is in
the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image


def make_folder(folder: Path, count: int, size: tuple[int, int]) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        blobs = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
        blobs.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:05d}.jpg")
    return folder


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "avsal", "batch", str(folder), "-o", str(out)]
    return subprocess.Popen(
        [*command, "--precision", "fp32"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def seconds(folder: Path, outs: list[Path], at_once: bool) -> float:
    began = time.perf_counter()
    running = []
    for out in outs:
        running.append(start(folder, out))
        if not at_once:
            assert running[-1].wait() == 0
    assert all(process.wait() == 0 for process in running)
    return time.perf_counter() - began


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Another process on each core, as long as the block lasts."""
    spin = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _ in range(len(os.sched_getaffinity(0)))]
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--share", type=int, default=20)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = make_folder(root / "all", given.pictures, (width, height))
        few = make_folder(root / "few", given.share, (width, height))
        idle = given.pictures / seconds(folder, [root / "a"], at_once=False)
        print(f"idle: {idle:.1f} pictures per second")
        with busy_cores():
            busy = given.pictures / seconds(folder, [root / "b"], at_once=False)
        print(f"another process on each core: {busy:.1f} pictures per second, {busy / idle:.2f}x")
        after = seconds(few, [root / f"c{n}" for n in range(given.processes)], at_once=False)
        together = seconds(few, [root / f"d{n}" for n in range(given.processes)], at_once=True)
        print(
            f"{given.processes} processes: {after:.1f} s one after the other, {together:.1f} s at "
            f"once, {together / after:.2f}x"
        )


if __name__ == "__main__":
    main()
