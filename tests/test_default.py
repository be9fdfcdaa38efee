"""The weights that are shipped: what a person gets who installs avsal and gives no options."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from avsal import load_model, metrics, weights
from avsal.media.frames import VideoFrame
from avsal.models import build
from avsal.models.measure import MEASURES

ROOT = Path(__file__).parents[1]
FILE = ROOT / "weights" / "avsal-small.safetensors"
EXAMPLE = ROOT / "examples" / "talk_and_bounce.mp4"


@pytest.fixture(scope="module")
def default():
    return load_model(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def every_frame(default):
    return [frame.log_density for frame in default.predict(EXAMPLE, stride=1, end=1.6)]


def cc(one: np.ndarray, other: np.ndarray) -> float:
    return metrics.cc(np.exp(one), np.exp(other))


def test_the_file_is_the_registry_s_and_small():
    row = weights.get_row(weights.DEFAULT)
    assert row.file == FILE.name
    assert weights.sha256_of(FILE) == row.sha256
    assert FILE.stat().st_size <= 20e6
    state = load_file(FILE)
    assert {each.dtype for each in state.values() if each.is_floating_point()} == {torch.float16}
    assert MEASURES[row.variant].parameters <= 8_000_000
    build(row.variant).load_state_dict(state)


def test_a_wheel_has_it(tmp_path):
    pytest.importorskip("setuptools", minversion="77")  # as pyproject.toml asks
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    shipped = tmp_path / "avsal" / "weights" / FILE.name
    assert shipped.read_bytes() == FILE.read_bytes()


def test_predict_needs_no_options_and_no_network(avsal_command, tmp_path):
    code, _out, err = avsal_command("predict", EXAMPLE, "-o", tmp_path, "--end", "0.4")
    assert (code, err) == (0, "")
    folder = tmp_path / EXAMPLE.stem
    assert len(list(folder.glob("*.png"))) == 10
    described = json.loads((folder / "saliency.json").read_text())
    assert described["weights"]["name"] == "avsal-small"
    assert described["settings"]["stride"] == 2


def test_what_came_with_avsal_is_not_pulled(avsal_command):
    assert avsal_command("weights", "pull") == (0, f"{FILE}\n", "")


def test_skipped_frames_are_close_to_predicted_ones(default, every_frame):
    default_stride = [frame.log_density for frame in default.predict(EXAMPLE, end=1.6)]
    assert len(default_stride) == len(every_frame) == 40
    skipped = [cc(*pair) for pair in zip(default_stride[1::2], every_frame[1::2], strict=True)]
    assert np.mean(skipped) >= 0.99


def test_people_look_at_the_face_and_at_the_word(every_frame):
    """Drawn, so unlike anything that it was trained on; places in shares of the picture."""
    density = np.exp(every_frame[20])
    rows, columns = density.shape
    y, x = np.unravel_index(density.argmax(), density.shape)
    assert (0.18 < x / columns < 0.38) and (0.2 < y / rows < 0.7)
    word = density[int(0.14 * rows) : int(0.36 * rows), int(0.62 * columns) : int(0.95 * columns)]
    assert word.mean() > 1.5 * density.mean()


def test_sound_reaches_the_map(default, every_frame):
    from avsal.media import VideoReader

    with VideoReader(EXAMPLE) as video:
        frames = [frame for _, frame in zip(range(40), video, strict=False)]
    silent = list(default.predict_frames(frames, None))
    assert len(silent) == 40
    assert np.abs(silent[30].log_density - every_frame[30]).max() > 1e-4


class Recorded:
    """Sound of one kind, without end."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples

    def read(self, start: int, end: int) -> np.ndarray:
        return self.samples[max(0, start) : end]

    def release(self, before: int) -> None:
        pass


def moving(fps: float, seconds: float = 1.7) -> list[VideoFrame]:
    """A disc that crosses a textured picture, drawn for the time of each frame."""
    texture = np.random.default_rng(3).integers(60, 120, (14, 24, 3)).astype(np.uint8)
    behind = cv2.resize(texture, (384, 224), interpolation=cv2.INTER_CUBIC)
    frames = []
    for index in range(round(seconds * fps)):
        image, time = behind.copy(), index / fps
        centre = round(16 * (60 + 150 * time)), round(16 * (110 + 40 * np.sin(4 * time)))
        cv2.circle(image, centre, 16 * 18, (240, 220, 60), -1, cv2.LINE_AA, shift=4)
        step = 1 / Fraction(str(fps))
        frames.append(VideoFrame(index, index * step, step, image))
    return frames


def test_a_scene_has_the_same_maps_at_every_frame_rate(default):
    """60, 30 and 12.5 frames a second against 25, at times that all of them have."""
    maps = {}
    for fps in (60, 30, 25, 12.5):
        predicted = default.predict_frames(moving(fps))
        maps[fps] = {round(float(each.time), 3): each.log_density for each in predicted}
    for time in (0.0, 0.4, 0.8, 1.2, 1.6):
        for fps in (60, 30, 12.5):
            assert cc(maps[fps][time], maps[25][time]) >= 0.98, (fps, time)


def test_silence_leaves_the_maps_and_noise_nearly(default):
    frames = moving(25, 1.2)
    noise = np.random.default_rng(4).normal(0, 0.1, 32_000).astype(np.float32)
    sounds = (None, Recorded(np.zeros(32_000, np.float32)), Recorded(noise))
    unheard, silent, noisy = (
        [each.log_density for each in default.predict_frames(frames, sound)] for sound in sounds
    )
    np.testing.assert_allclose(silent, unheard, atol=1e-5)
    assert min(cc(*pair) for pair in zip(noisy, unheard, strict=True)) >= 0.98


def test_maps_are_those_of_the_release(every_frame):
    with np.load(ROOT / "tests" / "avsal-small.npz") as golden:
        for index, expected in zip(golden["frames"], golden["log_densities"], strict=True):
            small = cv2.resize(
                every_frame[index], expected.shape[::-1], interpolation=cv2.INTER_AREA
            )
            assert np.abs(small - expected).max() < 2e-2


def test_a_still_picture_has_a_map(default, tmp_path):
    path = tmp_path / "picture.png"
    picture = np.full((120, 200, 3), 40, np.uint8)
    cv2.circle(picture, (150, 60), 18, (60, 200, 240), -1)
    cv2.imwrite(str(path), picture)
    (frame,) = default.predict(path)
    assert abs(frame.peak[0] - 150) < 30
