"""Peak memory and time of long videos, of 4K at 60 per second and of 10,000 small files.

    python benchmarks/large.py [NAME ...] [--folder FOLDER]

Makes each input once in the folder, by repeating a short stretch, and runs avsal on it in a process
of its own. Prints the table of benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SOUND_RATE = 48_000  # Hz, stereo AAC


@dataclass(frozen=True)
class Film:
    """A film: a stretch of `piece` seconds, repeated."""

    width: int
    height: int
    rate: int
    seconds: int
    piece: int


FILMS = {
    "minutes": Film(320, 180, 4, 10 * 60, 60),
    "hours": Film(320, 180, 4, 2 * 3600, 60),
    "sound": Film(64, 48, 1, 3 * 3600, 60),
    "4k": Film(3840, 2160, 60, 10, 1),
}
STILLS = {"1,000 files": 1_000, "10,000 files": 10_000}  # a folder of them
STILL_SIZE = 64, 48
QUICK = ["--format", "video", "--size", "model"]
RUNS = (  # what a row is called, its film, the command
    ("10 minutes, 320x180", "minutes", ["predict", *QUICK, "--stride", "50"]),
    ("2 hours, 320x180", "hours", ["predict", *QUICK, "--stride", "50"]),
    ("3 hours of sound, 1 picture per second", "sound", ["predict", *QUICK, "--stride", "16"]),
    ("4K at 60 per second, 10 s, maps", "4k", ["predict", *QUICK, "--stride", "8"]),
    ("4K at 60 per second, 10 s, overlay", "4k", ["overlay", "--stride", "8"]),
    *((f"{name}, 64x48 PNG", name, ["batch"]) for name in STILLS),
)


def make(path: Path, film: Film) -> Path:
    """Write a film whose picture and tone move."""
    piece = path.with_name(f"piece-{path.name}")
    with av.open(str(piece), "w") as output:
        video: Any = output.add_stream("libx264", rate=film.rate, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = film.width, film.height, "yuv420p"
        sound: Any = output.add_stream("aac", rate=SOUND_RATE)
        sound.layout = "stereo"
        for index in range(film.rate * film.piece):
            output.mux(video.encode(picture(film, index)))
        for frame in tone(film.piece):
            output.mux(sound.encode(frame))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    repeat(piece, path, film.seconds // film.piece, film.piece)
    piece.unlink()
    return path


def prepare(folder: Path, name: str) -> tuple[Path, int]:
    """An input, made unless it is there, and how many frames it has."""
    if name in STILLS:
        path = folder / name
        return path if path.exists() else make_stills(path, STILLS[name]), STILLS[name]
    path, film = folder / f"{name}.mp4", FILMS[name]
    return path if path.exists() else make(path, film), film.rate * film.seconds


def make_stills(folder: Path, count: int) -> Path:
    """Write small pictures of blobs."""
    aside = folder.with_name(f"making {folder.name}")
    aside.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        blobs = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        blobs.resize(STILL_SIZE, Image.Resampling.BICUBIC).save(aside / f"{index:05}.png")
    return aside.rename(folder)


def picture(film: Film, index: int) -> av.VideoFrame:
    """A gradient with a bright block that goes round."""
    image = np.zeros((film.height, film.width, 3), np.uint8)
    image[..., 1] = np.linspace(20, 120, film.width).astype(np.uint8)
    size = film.height // 6
    angle = index / film.rate
    top = int((film.height - size) * (1 + np.sin(angle)) / 2)
    left = int((film.width - size) * (1 + np.cos(angle)) / 2)
    image[top : top + size, left : left + size] = 255
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame.pts, frame.time_base = index, Fraction(1, film.rate)
    return frame


def tone(seconds: int) -> list[av.AudioFrame]:
    """A tone that swells, a frame for each second."""
    frames = []
    for second in range(seconds):
        times = second + np.arange(SOUND_RATE) / SOUND_RATE
        wave = (0.3 * np.sin(2 * np.pi * 440 * times) * np.sin(times) ** 2).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = SOUND_RATE, second * SOUND_RATE
        frames.append(frame)
    return frames


def repeat(piece: Path, path: Path, times: int, seconds: int) -> None:
    """Copy the packets of a piece again and again, each time later."""
    with av.open(str(path), "w") as output:
        targets: dict[int, Any] = {}
        last: dict[int, int] = {}
        for turn in range(times):
            with av.open(str(piece)) as source:
                for stream in source.streams:
                    if stream.index not in targets:
                        targets[stream.index] = output.add_stream_from_template(stream)
                for packet in source.demux():
                    if packet.dts is None:
                        continue
                    shift = round(turn * seconds / packet.time_base)
                    index = packet.stream.index
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    if packet.dts <= last.get(index, packet.dts - 1):
                        continue  # the encoder's padding of the turn before
                    last[index] = packet.dts
                    packet.stream = targets[index]
                    output.mux(packet)


def run(command: list[str], source: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and peak memory in MB of one run of avsal."""
    out = folder / ("overlay.mp4" if command[0] == "overlay" else f"maps of {source.stem}")
    begun = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "avsal", command[0], source, "-o", out, *command[1:]],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, kilobytes / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ", ".join([*FILMS, *STILLS])
    parser.add_argument("names", nargs="*", help=f"of {known}; all by default")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| input | frames | s | s of CPU | peak memory |\n|---|---|---|---|---|")
        for title, name, command in RUNS:
            if options.names and name not in options.names:
                continue
            path, frames = prepare(folder, name)
            seconds, cpu, memory = run(command, path, folder)
            print(
                f"| {title} | {frames:,} | {seconds:.0f} | {cpu:.0f} | {memory:.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
