"""Scripts beside the package: they load, and benchmarks run in their smallest form."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    path
    for folder in ("weights/recipe", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
]
CLIP = "examples/talk_and_bounce.mp4"
SMALLEST = [
    ("engines.py", "--frames", "2", "--runs", "1", "--without-published"),
    ("gpu.py", "--device", "cpu", "--reduced"),
    ("predict.py", "--variant", "s3d-224x224", "--runs", "1"),
    ("speed.py", CLIP, "--strides", "4", "--runs", "1"),
    ("stages.py", CLIP, "--frames", "4", "--weights", "avsal-small"),
    ("stills.py", "--pictures", "4", "--share", "2", "--processes", "2"),
]
# Loads scripts as `python SCRIPT` does, beside those of their folder, but does not run them.
LOAD = """
import runpy, sys
from pathlib import Path
for script in map(Path, sys.argv[1:]):
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="loaded")
    del sys.path[0]
    print(script.name, flush=True)
"""


@pytest.mark.slow
def test_scripts_load():
    """In one process, which imports PyTorch once."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *SCRIPTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [path.name for path in SCRIPTS], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", SMALLEST, ids=lambda command: command[0])
def test_benchmarks_run(command):
    script, *options = command
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_boxes_that_a_prior_does_not_tell_apart_have_a_dash(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    areas = import_module("areas")
    prior = areas.on_grid(areas.centre_prior(areas.FINE))
    first, second = np.random.default_rng(1).random((2, 30, 2)) * 0.7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        areas.report([(prior[:, ::-1] ** 2, first, second)], prior, 2)
    row = next(line for line in capsys.readouterr().out.splitlines() if "centre prior" in line)
    assert "above even -, below 0." in row
    assert row.endswith("rank correlation -")
