"""`avsal export onnx`: networks as files that ONNX Runtime computes without avsal."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import samples

import avsal
from avsal.models import onnx_files
from avsal.models.variants import VARIANTS
from avsal.prediction.inputs import log_spectrogram
from avsal.weights.onnx_export import export_onnx

onnx = pytest.importorskip("onnx", reason="the extra graphs is not installed")
pytest.importorskip("onnxscript", reason="the extra graphs is not installed")
numpy_helper = pytest.importorskip("onnx.numpy_helper")

PAGE = Path(__file__).parents[1] / "docs" / "onnx.md"
RATE, STEPS = 25, 4  # frames per second; four of them are 0.16 s
SIZE = (224, 384)
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def default_file(tmp_path_factory):
    """The default network, exported once."""
    path = tmp_path_factory.mktemp("default") / "avsal-small.onnx"
    export_onnx(path)
    return path


@pytest.fixture(scope="module")
def tiny_file(tiny_variant, tiny_weights, tmp_path_factory):
    """A network that takes clips, exported once."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, tiny_variant.name, tiny_variant)
        export_onnx(path, tiny_variant.name, tiny_weights)
    return path


@pytest.fixture
def export_tiny(tiny, tiny_weights, tiny_file, avsal_command, tmp_path, monkeypatch):
    """Run the command for that network; what PyTorch's exporter gave is changed on its way."""

    def run(change=lambda model: None):
        model = onnx.load(tiny_file)
        change(model)
        monkeypatch.setattr(onnx_files, "to_onnx", lambda network: model)
        path = tmp_path / "tiny.onnx"
        return avsal_command("export", "onnx", tiny, "--weights", tiny_weights, "-o", path)

    return run


class Noise:
    """Sound at 16 kHz, as a predictor reads it."""

    def __init__(self, seconds):
        self.samples = np.random.default_rng(1).normal(0, 0.1, round(16000 * seconds))

    def read(self, start, end):
        return self.samples[max(0, start) : end].astype(np.float32)

    def release(self, before):
        pass


def moving_pictures(count, size=SIZE):
    """Blocks that move down, with a box that moves right."""
    height, width = size
    random = np.random.default_rng(0)
    blocks = random.integers(0, 200, (height // 16 + count, width // 16, 3), np.uint8)
    rows = blocks.repeat(16, axis=0).repeat(16, axis=1)
    frames = [rows[4 * index :][:height].copy() for index in range(count)]
    for index, frame in enumerate(frames):
        frame[height // 3 : height // 2, 8 * index : 8 * index + width // 6] = 255
    return frames


def raw_log_densities(frames, audio=None):
    """What the default network gives for each frame, before smoothing over time."""
    model = avsal.load_model(engine="torch", device="cpu", precision="fp32")
    model.variant = replace(model.variant, smoothing=None, smoothing_ahead=None)
    maps = model.predict_frames(frames, audio, fps=RATE, stride=1, size="model")
    return [frame.log_density for frame in maps]


def stream(file, frames, spectrograms):
    """Log-densities from the file alone, one frame after the other."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    channels = session.get_inputs()[1].shape[1]
    height, width = frames[0].shape[:2]
    states = [np.zeros((1, channels, height // 32, width // 32), np.float32)]
    for index, (frame, spectrogram) in enumerate(zip(frames, spectrograms, strict=True)):
        inputs = {"frame": frame[None], "state": states[0], "spectrogram": spectrogram[None]}
        log_density, state = session.run(None, inputs)
        states = [*states[1:], state] if index else [state] * STEPS
        yield log_density[0]


@pytest.mark.slow
@pytest.mark.parametrize("size", [SIZE, (384, 224)], ids=["wide", "tall"])
def test_the_file_of_the_default_network_gives_the_maps_of_avsal(default_file, size):
    frames = moving_pictures(14, size)
    silence = [np.zeros((1, 257, 111), np.float32)] * len(frames)
    maps = stream(default_file, frames, silence)
    for found, expected in zip(maps, raw_log_densities(frames), strict=True):
        np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.slow  # the default network takes half a minute to export
def test_the_file_of_the_default_network_uses_sound(default_file):
    frames = moving_pictures(8)
    noise = Noise(len(frames) / RATE)
    ends = [round(16000 * index / RATE) for index in range(len(frames))]
    heard = [log_spectrogram(noise.read(0, end)) for end in ends]
    maps = list(stream(default_file, frames, heard))
    for found, expected in zip(maps, raw_log_densities(frames, noise), strict=True):
        np.testing.assert_allclose(found, expected, **CLOSE)
    silent = list(stream(default_file, frames, [0 * each for each in heard]))
    assert np.abs(maps[-1] - silent[-1]).max() > 1e-2


@pytest.mark.slow  # the default network takes half a minute to export
def test_the_file_says_what_it_is(default_file):
    model = onnx.load(default_file)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    assert texts["name"] == "avsal-small"
    assert texts["licence"] == "Apache-2.0"
    assert texts["weights_sha256"] == avsal.load_model().weights_id[1]
    assert texts["seconds_between_frames"] == "0.16"
    for value in (*model.graph.input, *model.graph.output):
        assert value.doc_string == texts[value.name]
    assert str(Path(__file__).parents[1]).encode() not in model.SerializeToString()


@pytest.mark.slow  # the default network takes half a minute to export
def test_the_code_of_the_page_gives_the_maps_of_avsal(default_file, tmp_path, monkeypatch, capsys):
    frames = moving_pictures(6)
    samples.lossless(tmp_path / "video.mov", frames).rename(tmp_path / "video.mp4")
    shutil.copy(default_file, tmp_path)
    code = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    values = {}
    exec(compile(code, str(PAGE), "exec"), values)
    assert len(capsys.readouterr().out.splitlines()) == len(frames)
    np.testing.assert_allclose(values["log_density"][0], raw_log_densities(frames)[-1], **CLOSE)


@pytest.mark.slow  # a small one takes ten seconds to export
def test_the_file_of_a_published_network_gives_the_maps_of_avsal(tiny, tiny_file, tiny_weights):
    frames = moving_pictures(17, (32, 64))
    model = avsal.load_model(tiny, tiny_weights, device="cpu", precision="fp32")
    session = onnxruntime.InferenceSession(tiny_file, providers=["CPUExecutionProvider"])
    silence = log_spectrogram(np.zeros(0, np.float32))
    expected = [frame.log_density for frame in model.predict_frames(frames, fps=RATE)]
    for target in (15, 16):
        clip = np.stack(frames[target - 15 : target + 1])
        inputs = {"clip": clip[None], "spectrogram": silence[None]}
        np.testing.assert_allclose(session.run(None, inputs)[0][0], expected[target], **CLOSE)


@pytest.mark.slow
def test_the_command_replaces_the_file_that_it_is_given(export_tiny, tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"older")
    assert export_tiny() == (0, f"{path}: the network of tiny\n", "")
    assert onnx.load(path).producer_name == "avsal"
    assert [each.name for each in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.slow
def test_a_model_that_computes_something_else_is_not_written(export_tiny, tmp_path):
    def brighten(model):
        last = [node for node in model.graph.node if node.op_type == "Conv"][-1].input[1]
        (weight,) = (each for each in model.graph.initializer if each.name == last)
        weight.raw_data = (1.01 * numpy_helper.to_array(weight)).astype(np.float32).tobytes()

    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"older")
    code, out, err = export_tiny(brighten)
    assert (code, out) == (1, "") and "differ" in err and len(err.splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["tiny.onnx"]
    assert path.read_bytes() == b"older"


def test_what_is_missing_or_in_the_way_is_one_line(avsal_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("avsal-small.onnx").touch()
    Path("maps").mkdir()
    cases = [
        (("onnx",), 2, "avsal-small.onnx: exists"),
        (("onnx", "-o", "net.pb"), 2, ".onnx"),
        (("onnx", "no-such-network", "-o", "a.onnx"), 2, "no-such-network"),
        (("onnx", "s3d-224x384", "--offline", "-o", "a.onnx"), 1, "s3d"),
        (("onnx", "--video", "a.mp4"), 2, "--video"),
        (("maps", "avsal-small", "--to", "a.csv"), 2, "avsal-small"),
        (("maps",), 2, "--to"),
    ]
    for arguments, code, text in cases:
        found, out, err = avsal_command("export", *arguments)
        assert (found, out) == (code, "") and text in err and len(err.splitlines()) == 1, arguments
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _out, err = avsal_command("export", "onnx", "-o", "a.onnx")
    assert code == 2 and "pip install 'avsal[graphs]'" in err
    assert {path.name for path in tmp_path.iterdir()} == {"avsal-small.onnx", "maps"}


def test_a_folder_called_onnx_is_still_a_folder(avsal_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("onnx").mkdir()
    code, _out, err = avsal_command("export", "onnx", "--to", "a.csv")
    assert code == 1 and "saliency.json" in err
