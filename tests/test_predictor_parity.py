"""The whole path on the published clip: video in, golden maps out, through the command line."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file

from avsal import models
from avsal.media import AudioReader, VideoReader
from avsal.media.resample import resample
from avsal.prediction.model import load_model
from avsal.results.description import DESCRIPTION

VARIANT = "mvitv2s-224x384"
MAX_LEVELS, MEAN_LEVELS = 2, 0.05  # of 255; where the decoded frames are identical


@pytest.fixture(scope="module")
def weights(parity, tmp_path_factory):
    """Seed-0 filled weights of the published network."""
    sys.path.insert(0, str(parity))
    import fill

    state = models.build(VARIANT).state_dict()
    fill.fill(state, seed=0)
    path = tmp_path_factory.mktemp("weights") / "filled.safetensors"
    save_file(state, path, metadata={"variant": VARIANT})
    return path


def test_the_clip_decodes_to_the_published_frames(parity):
    with VideoReader(parity / "clip.mp4") as video:
        frames = {f.index: f.image for f in video if f.index in (0, 40)}
    with np.load(parity / "golden" / "image_transform.npz") as golden:
        for index, image in frames.items():
            expected = golden[f"frame.{index}"].astype(int)
            assert np.abs(image.astype(int) - expected).max() == 0


def test_the_clip_s_sound_is_the_published_sound(parity):
    with np.load(parity / "golden" / "audio_features.npz") as golden:
        pcm = golden["clip.pcm"].astype(np.float32).mean(axis=0) / 32768
    expected = resample(pcm, 44_100)
    with VideoReader(parity / "clip.mp4") as video:
        origin = video.origin
    with AudioReader(parity / "clip.mp4", origin) as audio:
        found = audio.read(0, 16_000 * 10)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4  # 16-bit rounding of the published file


@pytest.fixture(scope="module")
def golden_maps(parity):
    """The published maps of the clip: all 60 as 80x60 whole levels, some as 640x480."""
    with np.load(parity / "golden" / "pipeline.npz") as golden:
        reduced = golden["maps_80x60"].astype(float)
    files = {number - 1: f"pipeline_{number:05d}.png" for number in (1, 15, 16, 60)}
    whole = {
        index: cv2.imread(str(parity / "golden" / name), -1).astype(int)
        for index, name in files.items()
    }
    return reduced, whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "given", "predicted"),
    [
        # As published: windows that are mirrored before frame 15, and then those that are not.
        (("--end", 0.1), range(3), range(3)),
        (("--start", 0.52, "--end", 0.66), range(13, 17), range(13, 17)),
        # The rest with every 16th frame through the network, the last one too.
        (("--start", 0.66, "--stride", 16), range(17, 60), [*range(32, 60, 16), 59]),
    ],
)
def test_predict_gives_the_golden_maps(
    parity, weights, golden_maps, tmp_path, avsal_command, part, given, predicted
):
    code, _out, err = avsal_command(
        "predict", parity / "clip.mp4", "-o", tmp_path, "--weights", weights, *part,
        "--size", "640x480", "--device", "cpu", "--precision", "fp32",
    )  # fmt: skip
    assert code == 0, err
    described = json.loads((tmp_path / "clip" / DESCRIPTION).read_text())
    assert described["model"] == VARIANT
    assert [frame["index"] for frame in described["frames"]] == list(given)
    reduced, whole = golden_maps
    assert len(reduced) == 60
    for index in predicted:
        gray = cv2.imread(str(tmp_path / "clip" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
        difference = gray.reshape(60, 8, 80, 8).mean(axis=(1, 3)) - reduced[index]
        # The golden reduction is rounded to whole levels.
        assert np.abs(difference).max() <= MAX_LEVELS + 0.5, index
        assert abs(difference.mean()) <= MEAN_LEVELS + 0.5, index
        if index in whole:
            difference = np.abs(gray.astype(int) - whole[index])
            assert difference.max() <= MAX_LEVELS, index
            assert difference.mean() < MEAN_LEVELS, index


@pytest.mark.slow
def test_half_precision_keeps_the_maps(parity, weights):
    """CC >= 0.999 for a mirrored and a plain window; emulated, bfloat16 takes minutes."""
    from avsal.prediction.device import cpu_has_bfloat16

    if not cpu_has_bfloat16():
        pytest.skip("this processor has no bfloat16 instructions and no CUDA device is here")
    single, half = (load_model(None, weights, "cpu", name) for name in ("fp32", "bf16"))
    part = {"end": 0.84, "stride": 20}
    pairs = zip(
        single.predict(parity / "clip.mp4", **part), half.predict(parity / "clip.mp4", **part),
        strict=True,
    )  # fmt: skip
    for one, other in pairs:
        assert np.corrcoef(one.density.ravel(), other.density.ravel())[0, 1] >= 0.999
