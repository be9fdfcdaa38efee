"""The network runs where neither PyAV nor OpenCV is installed, its benchmark with PyTorch alone."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest

IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "scenedetect-headless": "scenedetect",
}

BLOCKED = """
    import sys
    for name in ("av", "cv2"):
        sys.modules[name] = None  # importing it raises ImportError
"""
FRAMES = """
    from fractions import Fraction
    import numpy as np
    from avsal.media.frames import VideoFrame

    def frames():
        random = np.random.default_rng(0)
        for index in range(18):
            image = random.integers(0, 256, (48, 64, 3), np.uint8)
            yield VideoFrame(index, Fraction(index, 25), Fraction(1, 25), image)
"""
PREDICT = """
    from avsal import load_model

    predictor = load_model(device="cpu", precision="fp32")
    found = list(predictor.predict_frames(frames()))
    np.savez(sys.argv[1], *[frame.density for frame in found])
"""


def test_frames_are_predicted_without_pyav_and_opencv(tmp_path):
    maps = {}
    for name, start in (("bare", BLOCKED), ("full", "    import sys\n")):
        script = textwrap.dedent(start + FRAMES + PREDICT)
        command = [sys.executable, "-c", script, str(tmp_path / f"{name}.npz")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / f"{name}.npz") as found:
            maps[name] = np.stack(list(found.values()))
    assert maps["bare"].shape == (18, 48, 64)
    np.testing.assert_allclose(maps["bare"], maps["full"], rtol=1e-4)


BENCHMARK = """
    import runpy, sys

    class Others:
        def find_spec(name, path=None, target=None):
            if name.split(".")[0] in {others}:
                raise ModuleNotFoundError(name, name=name)

    sys.meta_path.insert(0, Others)
    sys.argv = ["gpu.py", "--reduced", "--device", "cpu"]
    runpy.run_path({path!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_what_a_gpu_has_to_show_needs_pytorch_and_numpy_alone():
    """The benchmark's reduced form, without any other dependency of avsal."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[>=<]", line)[0] for line in project["dependencies"]} - {"torch", "numpy"}
    others = {IMPORTED_AS.get(name, name).replace("-", "_") for name in names}
    assert {"av", "cv2", "PIL", "torchaudio"} < others
    script = textwrap.dedent(BENCHMARK).format(others=others, path=str(root / "benchmarks/gpu.py"))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks passed" in done.stdout
