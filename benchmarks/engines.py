"""Milliseconds per map of the default network on its engines, beside UNISAL's network and the
published loop.

    python benchmarks/engines.py [--wheel UNPACKED] [--runs 5]

UNPACKED is the wheel of pyautoflip 0.2.1, unzipped, which has UNISAL's code and weights. Frames
are in memory at the network's size and every one is predicted: what counts is the network, with the
default's pre- and post-processing. All rows take turns, round after round; the first round warms up
and does not count. Ratios are taken round by round, so they hold when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from avsal import load_model, models
from avsal.media.resample import SAMPLE_RATE
from avsal.prediction.model import engine_obstacle
from avsal.prediction.predictor import Predictor
from avsal.prediction.threads import thread_count
from avsal.prediction.windows import CLIP_FRAMES

RATE = 25  # frames per second
BATCHES = (1, 4)
FULL = "mvitv2s-224x384"  # the published network

Row = tuple[Callable[[], object], int]  # work, and the number of maps that it makes


class Noise:
    """Sound without end."""

    def __init__(self) -> None:
        self._second = np.random.default_rng(0).standard_normal(SAMPLE_RATE, np.float32) / 8

    def read(self, start: int, end: int) -> np.ndarray:
        return self._second[np.arange(start, end) % SAMPLE_RATE]

    def release(self, before: int) -> None:
        pass


def default_rows(engine: str, frames: list[np.ndarray], precision: str = "fp32") -> dict[str, Row]:
    """The default network on an engine, in silence and with sound, at both sizes of a batch."""
    predictor: Predictor = load_model(engine=engine, device="cpu", precision=precision)

    def predict(batch: int, audio: Noise | None) -> None:
        made = predictor.predict_frames(
            frames, audio, fps=RATE, stride=1, batch=batch, size="model"
        )
        assert sum(1 for _map in made) == len(frames)

    return {
        f"default, {engine} {precision}, {heard}, batch {batch}": (
            lambda batch=batch, audio=audio: predict(batch, audio),
            len(frames),
        )
        for batch in BATCHES
        for heard, audio in (("silent", None), ("with sound", Noise()))
    }


def unisal_rows(wheel: Path, frames: list[np.ndarray]) -> dict[str, Row]:
    """UNISAL's network on PyTorch; a batch is that many interleaved sequences, as its authors have
    them."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "weights" / "recipe"))
    from teacher import RATE as EVERY
    from teacher import Teacher

    teacher = Teacher.load(wheel)
    return {
        f"UNISAL's network, batch {batch}": (
            lambda batch=batch: list(teacher.video(frames, batch * EVERY)),
            len(frames),
        )
        for batch in BATCHES
    }


def published_rows() -> dict[str, Row]:
    """The published network, the whole of it for every window, on the layers as they are stored."""
    variant = models.VARIANTS[FULL]
    torch.manual_seed(0)
    network = models.build(variant.name, heads=True).eval()
    clip = torch.randn(1, 3, CLIP_FRAMES, variant.height, variant.width)
    spectrogram = torch.randn(1, 1, *models.network.SPECTROGRAM)

    def loop() -> None:
        with torch.inference_mode():
            network.forward_with_alignment(clip, spectrogram)

    return {"published loop": (loop, 1)}


def milliseconds(row: Row) -> float:
    work, maps = row
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began) / maps


def report(rounds: list[dict[str, float]]) -> None:
    """A table of medians, with ratios to the first row."""
    first = next(iter(rounds[0]))
    print(f"| | ms per map | times as fast as {first} |\n|---|---|---|")
    for name in rounds[0]:
        times = [each[name] for each in rounds]
        ratios = sorted(each[first] / each[name] for each in rounds)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {name} | {statistics.median(times):.1f} | {spread} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--wheel", type=Path, help="unzipped wheel of pyautoflip 0.2.1")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--without-published", action="store_true", help="saves 10 s a round")
    arguments = parser.parse_args()
    torch.set_num_threads(thread_count())
    size = models.VARIANTS["small-224x384"].size
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.frames, *size, 3), np.uint8)
    frames = list(pixels)
    rows: dict[str, Row] = {}
    if arguments.wheel:
        rows |= unisal_rows(arguments.wheel, frames)
    rows |= default_rows("torch", frames) | default_rows("onnx", frames)
    for precision in ("fp32", "bf16"):
        if not engine_obstacle("openvino", "cpu", precision):
            rows |= default_rows("openvino", frames, precision)
    if not arguments.without_published:
        rows |= published_rows()
    rounds = [
        {name: milliseconds(row) for name, row in rows.items()} for _ in range(arguments.runs + 1)
    ]
    print(f"{size[0]}x{size[1]} pixels, {thread_count()} threads, {arguments.runs} rounds\n")
    report(rounds[1:])


if __name__ == "__main__":
    main()
