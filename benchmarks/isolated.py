"""What it costs that `avsal batch` predicts in a process of its own, see `avsal.results.isolated`.

    python benchmarks/isolated.py FOLDER [--pairs 5]

Runs the folder in one process and in two, in turn, and prints the seconds of CPU and of the clock
that each took, starting included, and the median of the pairs' ratios. On a machine that does other
work at the same time, only those of CPU tell something.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = """
import sys
from pathlib import Path
from avsal.cli import options
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.isolated import Task, predict_isolated
from avsal.results.plan import plan_folder
from avsal.results.work import Work
network = options.Network(None, None, "cpu", "fp32", True, None)
if __name__ == "__main__":
    plan = plan_folder(Path(sys.argv[1]), Path(sys.argv[2]))
    work = Work(network.load, PredictSettings(), OutputSettings())
    tasks = [Task(number, *job) for number, job in enumerate(plan)]
    isolated = sys.argv[3] == "True"
    list(predict_isolated(plan, work) if isolated else work.run(work.load(), tasks))
"""


def seconds(folder: Path, isolated: bool) -> tuple[float, float]:
    """Seconds of CPU and of the clock."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", RUN, str(folder), out, str(isolated)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    ratios: list[tuple[float, float]] = []
    for _pair in range(given.pairs):
        one, two = seconds(given.folder, False), seconds(given.folder, True)
        ratios.append((two[0] / one[0], two[1] / one[1]))
        print(f"one process {one[0]:.2f} s CPU {one[1]:.2f} s, two {two[0]:.2f} {two[1]:.2f}")
    cpu, clock = (statistics.median(values) for values in zip(*ratios, strict=True))
    print(f"median of {given.pairs} pairs: CPU {cpu:.3f}x, clock {clock:.3f}x")


if __name__ == "__main__":
    main()
