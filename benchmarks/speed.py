"""Frames a second of `avsal predict`, files read and PNGs written, at several strides.

    python benchmarks/speed.py VIDEO [--model NAME] [--strides 1 2 4] [--runs 5]

The strides take turns, and every run covers the whole video; the first round warms up and does not
count. Starting Python and loading the network is not in the figures.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from avsal.prediction.model import load_model
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.jobs import MapJob


def frames_a_second(predictor: Predictor, video: Path, stride: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        settings = PredictSettings(stride=stride)
        job = MapJob(predictor, settings, OutputSettings())
        count = job.write(predictor.predict(video, settings), Path(folder) / "maps")
        return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--weights")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    predictor = load_model(arguments.model, arguments.weights, precision=arguments.precision)
    print(f"{arguments.video.name}, {predictor.description}, {torch.get_num_threads()} threads")
    rounds = [
        [frames_a_second(predictor, arguments.video, stride) for stride in arguments.strides]
        for _ in range(arguments.runs + 1)
    ]
    for stride, found in zip(arguments.strides, zip(*rounds[1:], strict=True), strict=True):
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"stride {stride}: {middle:6.1f} frames a second ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
