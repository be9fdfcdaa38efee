"""The examples run as they are, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
import samples

from avsal import media

EXAMPLES = Path(__file__).parents[1] / "examples"
WAIT = 120  # seconds


def run(name, *arguments):
    command = [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return samples.film(tmp_path_factory.mktemp("clip") / "a.mp4", seconds=1)


@pytest.mark.slow
def test_maps_to_numpy(clip, tmp_path):
    run("maps_to_numpy", clip, tmp_path / "maps.npz")
    maps = np.load(tmp_path / "maps.npz")
    assert maps["density"].shape == (25, 256, 352)  # the shape of the picture
    assert np.allclose(maps["density"].sum(axis=(1, 2)), 1, atol=1e-4)
    assert np.allclose(maps["seconds"], np.arange(25) / 25)


@pytest.mark.slow
def test_overlay(clip, tmp_path):
    run("overlay", clip, tmp_path / "out.mp4")
    info = media.probe(tmp_path / "out.mp4")
    assert info.frames == 25
    assert info.has_audio


@pytest.mark.slow
def test_area_share(clip):
    halves = [
        [int(share) for share in re.findall(r"(\d+) %", run("area_share", clip, *area))]
        for area in ((0, 0, 0.5, 1), (0.5, 0, 1, 1))
    ]
    assert len(halves[0]) == 1
    assert abs(halves[0][0] + halves[1][0] - 100) <= 1


@pytest.mark.slow
def test_batch_with_ray(clip, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e .[ray]")
    said = run("batch_with_ray", clip.parent, tmp_path / "out")
    assert f"{tmp_path / 'out' / 'a'}: 25 maps" in said
    assert (tmp_path / "out" / "a" / "saliency.json").is_file()


@pytest.mark.slow
def test_live(example_clip):
    command = [sys.executable, EXAMPLES / "live.py", example_clip, "--port", "0", "--seconds", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as live:
        address = live.stdout.readline().strip()
        with urllib.request.urlopen(address, timeout=WAIT) as viewer:
            while not (length := viewer.readline()).startswith(b"Content-Length"):
                assert length, "the stream ended before its first picture"
            viewer.readline()
            jpeg = viewer.read(int(length.split()[1]))
        summary = live.communicate(timeout=WAIT)[0]
    assert live.returncode == 0
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (360, 640, 3)
    assert re.search(r"[\d.]+ maps/s; a map's picture is [\d.]+ s old", summary)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_without_arguments_say_what_they_want(path, tmp_path):
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert path.name in done.stderr
    assert list(tmp_path.iterdir()) == []
