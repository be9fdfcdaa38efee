"""What a Ray cluster on this machine gains, and what it costs.

    python benchmarks/cluster.py VIDEO [--copies 4] [--runs 3]

Copies of a video are predicted by plain code in one thread, by two such processes that know nothing
of each other, by one one-thread worker and by two, in turn. The two processes show what the machine
itself gives. The clock runs from the first map's file to the last one's, and also from the call on:
starting processes and loading the network is stated apart.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import avsal
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.cluster import STRETCH, Worker, predict_on_cluster
from avsal.results.jobs import MapJob


def working_seconds(out: Path) -> float:
    """From the first map's file to the last one's."""
    times = [path.stat().st_mtime for path in out.glob("*/*.png")]
    return max(times) - min(times)


def predict(videos: list[Path], out: Path) -> float:
    """Return the seconds it took once the network was loaded."""
    model, began = avsal.load_model(device="cpu"), time.perf_counter()
    job = MapJob(model, PredictSettings(), OutputSettings())
    for video in videos:
        job.write(model.predict(video), out / video.stem)
    return time.perf_counter() - began


def plain(videos: list[Path], out: Path) -> tuple[float, float]:
    seconds = predict(videos, out)
    return working_seconds(out), seconds


def two_processes(videos: list[Path], out: Path) -> tuple[float, float]:
    began = time.perf_counter()
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        list(processes.map(predict, (videos[::2], videos[1::2]), (out, out)))
    return working_seconds(out), time.perf_counter() - began


def load() -> avsal.Predictor:
    return avsal.load_model(device="cpu")


def cluster(videos: list[Path], out: Path, workers: int) -> tuple[float, float]:
    import ray

    began = time.perf_counter()
    ray.init(num_cpus=workers, log_to_driver=False, logging_level="ERROR")
    worker = Worker(load, PredictSettings(), OutputSettings(), False, STRETCH)
    plan = [(video, out / video.stem) for video in videos]
    for _number, result, _seconds in predict_on_cluster(plan, worker, "local", threads=1):
        assert isinstance(result, int), result
    ray.shutdown()
    return working_seconds(out), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    ways = {
        "plain": plain,
        "2 plain": two_processes,
        "1 worker": lambda videos, out: cluster(videos, out, 1),
        "2 workers": lambda videos, out: cluster(videos, out, 2),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        videos = [Path(folder, f"{number}.mp4") for number in range(arguments.copies)]
        for video in videos:
            video.symlink_to(arguments.video.absolute())
        for turn in range(arguments.runs):
            for name, way in ways.items():
                found[name].append(way(videos, Path(folder, f"{turn} {name}")))
    for name, runs in found.items():
        working = statistics.median(run[0] for run in runs)
        whole = statistics.median(run[1] for run in runs)
        print(f"{name:<10} {working:6.2f} s of work, {whole:6.2f} s in all")
    pairs = ("1 worker", "plain"), ("1 worker", "2 workers"), ("plain", "2 plain")
    for name, other in pairs:
        ratios = [a[0] / b[0] for a, b in zip(found[name], found[other], strict=True)]
        middle = statistics.median(ratios)
        print(f"{name} / {other}: {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
