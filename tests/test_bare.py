"""The network runs where neither PyAV nor OpenCV is installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np

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
