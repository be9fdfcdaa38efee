"""What a host program or a container has set changes no map and breaks nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Maps of every kind of network that predicts, under settings of the host and without them.
SETTINGS = """
import sys
import numpy as np, torch
sys.path[:0] = ["tests"]
import tiny_network
from avsal.media.frames import VideoFrame
from avsal.models.variants import VARIANTS
from avsal.prediction.model import load_model
torch.set_num_threads(1)
VARIANTS["tiny"] = tiny_network.make()
images = [np.full((48, 64, 3), 10 * index, np.uint8) for index in range(6)]

class Tone:
    def read(self, start, end):
        return np.sin(np.arange(start, end) / 5).astype(np.float32)
    def release(self, before):
        pass

def maps(name, weights):
    predictor = load_model(name, weights, "cpu", "fp32")
    return np.stack([f.density for f in predictor.predict_frames(images, Tone(), fps=25)])

networks = [("tiny", "untrained"), (None, None)]
hosts = [(torch.float64, None), (torch.bfloat16, None), (torch.float16, None)]
hosts += [(torch.float32, "meta")]  # float64 first: what the first call keeps must serve all
given = {}
for dtype, device in hosts:
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    given[dtype, device] = [maps(*network) for network in networks]
torch.set_default_dtype(torch.float32)
torch.set_default_device(None)
plain = [maps(*network) for network in networks]
for host, found in given.items():
    print(*host, *map(np.array_equal, found, plain), flush=True)
"""


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=ROOT,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.slow
def test_the_default_type_and_device_of_the_host_change_no_map():
    code, out, err = run(SETTINGS)
    assert code == 0, err
    assert len(out) == 4
    assert all(line.endswith(" True True") for line in out), out


# A container that runs under any number: no HOME, and no entry for the user.
HOMELESS = """
import os, pwd, sys
os.environ.pop("HOME", None)
def no_entry(number):
    raise KeyError(number)
pwd.getpwuid = no_entry
import avsal
model = avsal.load_model(precision="fp32")
with model.predict(sys.argv[1], end=0.05, size="model") as maps:
    print(model.description.weights, len(list(maps)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has such users")
def test_a_user_without_a_home_or_an_entry_predicts_with_the_embedded_weights(example_clip):
    code, out, err = run(HOMELESS, example_clip)
    assert (code, out) == (0, ["avsal-small 2"]), err


# Where there is a variable CI, the libraries that compute networks send no reports anyway.
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_prediction_reports_nothing_and_leaves_only_its_result(engine, example_clip, tmp_path):
    pytest.importorskip(engine if engine == "openvino" else "onnxruntime")
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    folders = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD")
    settings = {name: value for name, value in os.environ.items() if name not in folders}
    settings |= {"HOME": str(home), "USERPROFILE": str(home), "TMPDIR": str(home / "tmp")}
    command = ["-m", "avsal", "predict", example_clip, "-o", tmp_path / "out", "--end", "0.1"]
    done = subprocess.run(
        [sys.executable, *map(str, command), "--engine", engine],
        capture_output=True,
        text=True,
        check=False,
        env=settings,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(home.rglob("*")) == [home / "tmp"]


def test_the_folder_of_a_user_without_a_home_is_under_the_root(monkeypatch):
    from avsal.weights import places

    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    for name in ("AVSAL_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert places.user_folder() == Path("/.local/share/avsal/weights")
