"""Training in processes of its own: signals, and several processes under torchrun."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_state import checkpoint, log_rows, same

from avsal import cli
from avsal.errors import AvsalError, DataError
from avsal.training.engine import Engine
from avsal.training.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")

# The command, which knows the tiny network, in a process of its own: TESTS CONFIG [CHANGES].
SCRIPT = """
import sys
sys.path.append(sys.argv[1])
import tiny_network
import torch
from avsal import cli
from avsal.models.variants import VARIANTS
torch.set_num_threads(1)
VARIANTS["tiny"] = tiny_network.make()
changes = [word for change in sys.argv[3:] for word in ("--set", change)]
sys.argv = ["avsal", "train", sys.argv[2], *changes]
cli.main()
"""


@pytest.fixture
def script(make_config, tmp_path) -> list[str]:
    """Arguments of a Python that trains the run on the four videos."""
    make_config()
    path = tmp_path / "run.py"
    path.write_text(SCRIPT)
    return [str(path), str(Path(__file__).parent), str(tmp_path / "config.toml")]


def test_a_stopped_run_tells_by_which_signal():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signals = []
    with Engine("cpu") as engine, cli._stopped_by(signals):
        with pytest.raises(KeyboardInterrupt), engine.stop_signal() as stopped:
            signal.raise_signal(signal.SIGTERM)
            assert stopped()
            assert signals == []  # while there is something to save
            raise KeyboardInterrupt
        assert signals == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, before)


def _one_of_two(rank: int, folder: str) -> None:
    """What a process of two does; the results go into a file."""
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ.update(place, MASTER_ADDR="127.0.0.1", MASTER_PORT=Path(folder, "port").read_text())

    def fail() -> None:
        raise DataError("a.mp4: cannot be read")

    def note() -> str:
        logging.getLogger("avsal").warning("a note")
        return "done"

    notes: list[str] = []
    logging.getLogger("avsal").addFilter(lambda record: bool(notes.append(record.getMessage())))
    with Engine("cpu") as engine:
        norm = torch.nn.BatchNorm1d(2)
        norm.running_mean += 1 + rank
        engine.share_buffers(norm)
        done, told = engine.together(note), ""
        try:
            engine.together(fail)
        except AvsalError as error:
            told = str(error)
        alone = ""
        try:
            engine.together(fail if rank else note)
        except AvsalError as error:
            alone = str(error)
        rank_told = [norm.running_mean.tolist(), done, len(notes), told, alone]
        Path(folder, f"{rank}.json").write_text(json.dumps(rank_told))


@pytest.mark.slow
def test_processes_share_statistics_and_tell_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    torch.multiprocessing.spawn(_one_of_two, (str(tmp_path),), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    elsewhere = "another process of the run reports the error"
    assert first == [[1.0, 1.0], "done", 2, "a.mp4: cannot be read", elsewhere]
    assert second == [[1.0, 1.0], "done", 0, elsewhere, "a.mp4: cannot be read"]


@pytest.mark.parametrize("ended", ["well", "signal", "failed"])
def test_launched_processes_leave_an_exit_code_and_no_traceback(ended, monkeypatch, avsal_command):
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    given = []

    def run(arguments: argparse.Namespace) -> None:
        given.append((arguments.nproc_per_node, arguments.training_script_args))
        if ended == "signal":
            raise SignalException("stopped", signal.SIGINT)
        if ended == "failed":
            raise ChildFailedError("avsal", {0: ProcessFailure(0, 1, 2, "none")})

    monkeypatch.setattr(torchrun, "run", run)
    code, out, err = avsal_command("train", "c.toml", "--processes", 2, "--set", "run.seed=3")
    assert given == [("2", ["train", "c.toml", "--set", "run.seed=3"])]
    assert code == {"well": 0, "signal": 130, "failed": 2}[ended]
    assert (out, err) == ("", "")


@pytest.mark.slow
def test_a_signal_stops_a_run_between_two_steps(make_config, script, tmp_path):
    changes = ("schedule.epochs=4", "loss.alignment=0")
    folder = train(make_config(*changes))
    expected, curve = checkpoint(folder), log_rows(folder)
    stopped = tmp_path / "stopped"
    command = [sys.executable, *script, *changes, f"run.output={stopped}"]
    command.append("run.workers=1")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    process.stdout.readline()  # the first epoch is done
    os.killpg(process.pid, signal.SIGTERM)  # workers too, as a scheduler or Ctrl-C does
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert 0 < int(checkpoint(stopped)["position"]["step"]) < len(curve)
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert log_rows(stopped) == curve
    assert same(checkpoint(stopped)["task"], expected["task"])


@pytest.mark.slow
def test_two_processes_train_and_stop_together(script, tmp_path):
    """Two gloo processes with one sample each write one set of files; Ctrl-C saves, and the same
    command resumes exactly."""

    def command(folder: str) -> list[str]:
        torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"
        changes = f"run.output={tmp_path / folder}", "schedule.epochs=2", "data.train.0.repeat=3"
        return [sys.executable, *torchrun, *script, *changes, "optimiser.batch=1"]

    def run(folder: str) -> None:
        done = subprocess.run(
            command(folder), env=alone, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]

    alone = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run("whole")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert [row["step"] for row in log_rows(whole)] == [str(step) for step in range(1, 13)]
    assert (checkpoint(whole)["world"], len(checkpoint(whole)["random"])) == (2, 2)

    process = subprocess.Popen(command("parts"), env=alone, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()  # the first epoch is done
    process.send_signal(signal.SIGINT)  # torchrun passes it on
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert checkpoint(parts)["position"]["batch"] > 0  # in the middle of an epoch
    run("parts")
    assert log_rows(parts) == log_rows(whole)
    assert same(checkpoint(parts)["task"], checkpoint(whole)["task"])
