"""Many files on a local Ray cluster: workers that are killed, files that kill, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import samples

from avsal import cli
from avsal.cli.predict import BatchCommand
from avsal.errors import MediaError, UsageError, WeightsError
from avsal.prediction.model import load_model
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results import jobs

WAIT = 300  # seconds at most, where other work keeps the machine busy


class Deadly(Predictor):
    """Ends its process at a file of a certain name, and notes the process."""

    def __init__(self, notes: Path) -> None:
        made = load_model(device="cpu", precision="fp32")
        self.__dict__ = made.__dict__
        notes.mkdir(exist_ok=True)
        self.note = notes / str(os.getpid())
        self.note.touch()

    def predict(self, source, settings=None, **changes):
        if source.name == "deadly.mp4":
            self.note.unlink()  # who notes the living must not find the dead
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(source, settings, **changes)


def no_weights():
    raise WeightsError("no weights here")


def kill_the_first_to_write(output, notes, killed):
    """Kill a worker while it writes maps; which one of the two that is does not matter."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        if any(output.glob(".avsal-partial*/000070.png")):
            for note in list(notes.iterdir()):
                try:
                    os.kill(int(note.name), signal.SIGKILL)
                except ProcessLookupError:  # it came to the deadly file since
                    continue
                killed.append(int(note.name))
                return
        time.sleep(0.01)


@pytest.fixture
def cluster(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e .[ray]")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Workers import this file, and avsal of the same checkout.
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    from avsal.results import cluster

    return cluster


@pytest.mark.slow
def test_killed_workers_lose_nothing(cluster, tmp_path, example_clip, one_thread):
    long, deadly, text = (tmp_path / name for name in ("long.mp4", "deadly.mp4", "text.mp4"))
    long.symlink_to(example_clip)
    samples.film(deadly)
    samples.text(text)
    settings, output, out = PredictSettings(), OutputSettings(), tmp_path / "out"
    load, killed = partial(Deadly, tmp_path / "notes"), []
    worker = cluster.Worker(load, settings, output, skip_existing=True, length=40)
    plan = [(source, out / source.stem) for source in (long, deadly, text)]
    killer = threading.Thread(
        target=kill_the_first_to_write, args=(out, tmp_path / "notes", killed)
    )
    killer.start()
    found = {}
    for number, result, _seconds in cluster.predict_on_cluster(plan, worker, "local", threads=1):
        found[number] = result
    killer.join()
    assert killed
    assert found[0] == 150
    assert isinstance(found[1], MediaError)
    assert "deadly.mp4: 3 workers ended" in str(found[1])
    assert isinstance(found[2], MediaError)
    assert "text.mp4" in str(found[2])
    assert [path.name for path in out.iterdir()] == ["long"]  # nothing partial either
    predictor = load_model(device="cpu", precision="fp32")
    job = jobs.MapJob(predictor, settings, output)
    job.write(predictor.predict(long, settings), tmp_path / "whole")
    assert {path.name: path.read_bytes() for path in (out / "long").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()
    }
    again = cluster.predict_on_cluster(plan[:1], worker, "local", threads=1)
    assert [result for _number, result, _seconds in again] == [None]
    worker = cluster.Worker(no_weights, settings, output, skip_existing=False, length=40)
    with pytest.raises(WeightsError, match="no weights here"):
        list(cluster.predict_on_cluster(plan, worker, "local", threads=1))


@pytest.mark.slow
def test_interrupted_it_leaves_nothing_partial_and_the_same_command_resumes(
    cluster, tmp_path, example_clip
):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.mp4").symlink_to(example_clip)
    samples.text(tmp_path / "in" / "text.mp4")
    out = tmp_path / "out"
    options = ["--ray", "--json", "--skip-existing"]
    command = [sys.executable, "-m", "avsal", "batch", tmp_path / "in", "-o", out, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # What a shell runs in the background ignores Ctrl-C, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run = subprocess.Popen(command, **pipes)
    until = time.monotonic() + WAIT
    while time.monotonic() < until and not any(out.glob(".avsal-partial*/*.png")):
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate(timeout=WAIT)
    assert run.returncode == 130, stderr
    assert "Traceback" not in stderr
    lines = [json.loads(line) for line in stdout.splitlines()]
    done = {Path(line["output"]) for line in lines if line["status"] == "done"}
    assert set(out.iterdir()) == done

    again = subprocess.run(command, **pipes, timeout=WAIT, check=False)
    assert again.returncode == 1, again.stderr
    found = {Path(line["source"]).name: line for line in map(json.loads, again.stdout.splitlines())}
    assert set(found) == {"a.mp4", "b.mp4", "text.mp4"}
    for name in "ab":
        expected = "skipped" if out / name in done else "done"
        assert found[f"{name}.mp4"]["status"] == expected
    assert found["text.mp4"]["status"] == "failed"
    assert "3 files" in again.stderr
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]


def test_without_ray_the_remedy_is_named(avsal_command, tmp_path, example_clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _out, err = avsal_command(
        "batch", example_clip.parent, "-o", tmp_path, "--glob", "*.mp4", "--ray"
    )
    assert code == 2
    assert 'pip install "avsal[ray]"' in err


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (["in", "-o", "out"], None),
        (["in", "--ray", "-o", "out"], "local"),
        (["--ray", "in", "-o", "out"], "local"),
        (["in", "-o", "out", "--ray"], "local"),
        (["in", "-o", "out", "--ray", "head:6379"], "head:6379"),
        (["--ray", "auto", "in", "-o", "out"], "auto"),
    ],
)
def test_ray_stands_with_and_without_an_address(given, address):
    from typer.main import get_command

    command = get_command(cli.app).commands["batch"]
    assert isinstance(command, BatchCommand)
    context = command.make_context("batch", given)
    assert context.params["ray"] == address
    assert context.params["folder"] == Path("in")


def test_a_cluster_that_is_not_there_is_one_line(cluster, tmp_path):
    worker = cluster.Worker(no_weights, PredictSettings(), OutputSettings(), False, 40)
    with pytest.raises(UsageError, match="no such cluster"):
        list(cluster.predict_on_cluster([], worker, "ray-is-not-here.invalid:1", threads=1))
