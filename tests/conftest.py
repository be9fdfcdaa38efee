"""Fixtures that several test files share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

# Tests must not reach the Hub, whatever the machine's settings are.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# OpenMP's threads spin while they wait by default, which on a shared machine makes the small
# networks of these tests several times slower. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Where pytest-xdist runs a process on every core, more threads would only wait for each other.
# OpenMP, PyTorch and avsal's ONNX Runtime read it; processes that tests start inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nor must the settings of whoever runs them count.
os.environ["XDG_CONFIG_HOME"] = os.devnull
for name in "MODEL WEIGHTS DEVICE PRECISION OFFLINE REVISION ENGINE".split():
    os.environ.pop(f"AVSAL_{name}", None)

TESTS = Path(__file__).parent

# A training run; `make_config` fills in the places.
TRAINING_RUN = """
[run]
output = "{output}"
workers = 0
[network]
variant = "tiny"
[[data.train]]
root = "{data}"
[[data.validation]]
root = "{data}"
[data]
windows = 1
[optimiser]
batch = 2
learning_rate = 1e-3
[schedule]
epochs = 2
validate_every = 1
"""


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of the published network's golden numbers."""
    return TESTS / "parity"


@pytest.fixture(scope="session")
def example_clip() -> Path:
    """The clip that the README's first command runs on."""
    return TESTS.parent / "examples" / "talk_and_bounce.mp4"


@pytest.fixture(scope="module")
def one_thread():
    """At the sizes of tiny networks threads wait for each other; and sums keep their order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_variant():
    """A network with all parts of the published one, small enough for every test."""
    import tiny_network

    from avsal.models.encoders import MOTION

    yield tiny_network.make()
    del MOTION["tiny"]


@pytest.fixture
def tiny(tiny_variant, monkeypatch) -> str:
    """Its name, known to `build` and the command line for one test."""
    import tiny_network

    from avsal.cli import options
    from avsal.models.variants import VARIANTS

    monkeypatch.setitem(VARIANTS, tiny_variant.name, tiny_variant)
    monkeypatch.setattr(options, "Network", tiny_network.Network)
    return tiny_variant.name


@pytest.fixture(scope="session")
def tiny_weights(tiny_variant, parity, tmp_path_factory) -> Path:
    """Weights for it that make every branch matter, filled as the goldens' are."""
    import sys

    from safetensors.torch import save_file

    from avsal import models

    sys.path.insert(0, str(parity))
    import fill

    state = models.build(tiny_variant).state_dict()
    fill.fill(state, seed=0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(state, path, metadata={"variant": "tiny"})
    return path


@pytest.fixture(scope="session")
def fork_server():
    """What starts processes that have imported what a prediction needs."""
    import multiprocessing
    import sys
    from multiprocessing.forkserver import ensure_running

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_network"])
    with pytest.MonkeyPatch.context() as patch:
        # The server of Python 3.11 does not search sys.path, and says nothing of what it misses.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        ensure_running()
    return context


@pytest.fixture
def quick_workers(request, monkeypatch):
    """The process that works on several files starts at once, without importing PyTorch anew."""
    from types import SimpleNamespace

    from avsal.results import isolated

    if os.name == "posix":
        context = SimpleNamespace(get_context=lambda _: request.getfixturevalue("fork_server"))
        monkeypatch.setattr(isolated, "multiprocessing", context)


@pytest.fixture
def avsal_process(fork_server, tiny_weights, tmp_path_factory):
    """Start the command line in a process of its own that knows the tiny network.

    `process, output = avsal_process("predict", ...)`: a started `multiprocessing.Process` and,
    once it has ended, a function for what it wrote to stderr, and to stdout unless that is another.
    """
    import tiny_network

    log = tmp_path_factory.mktemp("log") / "output.txt"
    network = ("--model", "tiny", "--weights", tiny_weights, "--device", "cpu")

    def start(*arguments: object, stdout: Path = log, file_limit: int | None = None):
        words = [str(word) for word in (*arguments, *network)]
        process = fork_server.Process(
            target=tiny_network.run_command, args=(words, stdout, log, file_limit)
        )
        process.start()
        return process, lambda: log.read_text(encoding="utf-8")

    start("--version")[0].join()  # starts the fork server, too
    return start


@pytest.fixture
def avsal_command(capsys, monkeypatch):
    """Run the command line in this process: `code, out, err = avsal_command("predict", ...)`."""
    from avsal import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["avsal", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A tiny data set in the STAViS layout, for reading only."""
    import stavis_tree

    root = tmp_path_factory.mktemp("stavis")
    stavis_tree.write_tree(root)
    return root


@pytest.fixture
def evaluate(avsal_command, tmp_path):
    """Run `avsal evaluate ... -o tmp_path/out`; returns code, stderr, and the summary's groups."""

    def run(*arguments, out="out"):
        code, _out, err = avsal_command("evaluate", *arguments, "-o", tmp_path / out)
        summary = tmp_path / out / "summary.json"
        return code, err, json.loads(summary.read_text())["groups"] if summary.is_file() else {}

    return run


@pytest.fixture
def image_set(tmp_path) -> Path:
    """Four pictures with a table of three observers' fixations."""
    import cv2
    import numpy as np

    root = tmp_path / "photographs"
    (root / "images").mkdir(parents=True)
    random = np.random.default_rng(3)
    rows = []
    for index in range(4):
        picture = random.integers(0, 255, (60, 80, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"p{index}.jpg"), picture)
        places = np.clip(random.normal(0.5, 0.15, (12, 2)), 0, 0.99)
        rows += [(index, number % 3, x, y, 200) for number, (x, y) in enumerate(places)]
    np.savez(
        root / "fixations.npz",
        names=[f"p{index}.jpg" for index in range(4)],
        orig_size=[[80, 60]] * 4,
        fix=np.array(rows, np.float32),
    )
    return root


@pytest.fixture(scope="session")
def four_videos(tree, tmp_path_factory) -> Path:
    """A data set of the tree's database DIEM: four videos to train on, two of them to test."""
    root = tmp_path_factory.mktemp("four")
    for folder in ("video_frames", "video_audio", "annotations"):
        (root / folder).symlink_to(tree / folder, target_is_directory=True)
    (root / "fold_lists").mkdir()
    train, test = (f"fold_lists/DIEM_list_{split}_fps.txt" for split in ("train", "test"))
    (root / test).write_text((tree / test).read_text())
    (root / train).write_text((tree / train).read_text() + (tree / test).read_text())
    return root


@pytest.fixture
def make_config(tiny, four_videos, tmp_path):
    """`make_config("table.key=value", ...)` reads a run on the four videos."""
    from avsal.training.config import read_config

    def make(*changes: str, data: Path = four_videos):
        path = tmp_path / "config.toml"
        path.write_text(TRAINING_RUN.format(output=tmp_path / "run", data=data))
        return read_config(path, changes)

    return make


@pytest.fixture
def footage(tmp_path):
    """A folder with a video and, in a folder of its own, another."""
    import samples

    (tmp_path / "in" / "sub").mkdir(parents=True)
    samples.constant_rate(tmp_path / "in" / "a.mp4", 3, rate=10)
    samples.constant_rate(tmp_path / "in" / "sub" / "b.mp4", 3, rate=10)
    return tmp_path / "in"
