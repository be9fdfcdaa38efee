"""The default network on OpenVINO, compared with ONNX Runtime, and what chooses it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from engine_checks import assert_a_forked_child_predicts, maps, needs_forks

from avsal import load_model
from avsal.errors import OutputError, UsageError, WeightsError
from avsal.media import VideoReader
from avsal.prediction import model as models
from avsal.prediction import onnx_engine
from avsal.weights import places

pytest.importorskip("openvino", reason="the extra openvino is not installed")
from avsal.prediction import openvino_engine

pytestmark = pytest.mark.slow  # each process compiles the graphs

SHIPPED = Path(__file__).parents[1] / "weights" / "avsal-small.safetensors"
TOLERANCE = 1e-4  # of a log-density in float32
CORRELATION = 0.998  # of a density in bfloat16 with that in float32

HAS_BFLOAT16 = openvino_engine.has_bfloat16()
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="the processor has no bfloat16")
PRECISIONS = ["fp32", pytest.param("bf16", marks=needs_bfloat16)]


@pytest.fixture(scope="module")
def onnx():
    return load_model(device="cpu", engine="onnx")


@pytest.fixture(scope="module", params=PRECISIONS)
def openvino(request):
    return load_model(device="cpu", engine="openvino", precision=request.param)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The user's folder of these tests, so that they share a translation."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def load_tiny(tiny, tiny_weights, monkeypatch, home):
    monkeypatch.setenv("AVSAL_HOME", str(home))
    return lambda **how: load_model(tiny, weights=tiny_weights, device="cpu", **how)


@pytest.fixture
def load(load_tiny):
    """`load(network, precision=...)` loads "default" or "tiny"."""

    def load(network: str, precision: str):
        choice = {"engine": "openvino", "precision": precision}
        return load_tiny(**choice) if network == "tiny" else load_model(device="cpu", **choice)

    return load


def silent_maps(model, frames, **settings) -> list[np.ndarray]:
    made = model.predict_frames(frames, None, size="model", **settings)
    return [frame.log_density for frame in made]


def assert_alike(ones: list[np.ndarray], others: list[np.ndarray], precision: str) -> None:
    """float32 agrees but for rounding; bfloat16 agrees as densities."""
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        if precision == "fp32":
            assert np.abs(one - other).max() <= TOLERANCE
        else:
            assert np.corrcoef(np.exp(one).ravel(), np.exp(other).ravel())[0, 1] >= CORRELATION


# --- the same maps ------------------------------------------------------------------------------


def test_maps_agree_with_onnx_runtime_s(onnx, openvino, example_clip):
    ours, others = (maps(model, example_clip, stride=8) for model in (openvino, onnx))
    assert_alike(ours, others, openvino.engine.precision)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(ours, others, strict=True))


def test_maps_without_sound_agree_with_onnx_runtime_s(onnx, openvino, example_clip):
    with VideoReader(example_clip) as video:
        frames = [frame for _, frame in zip(range(32), video, strict=False)]
    ours, others = (silent_maps(model, frames, stride=8) for model in (openvino, onnx))
    assert_alike(ours, others, openvino.engine.precision)


@needs_bfloat16
def test_motion_is_not_rounded_to_bfloat16(onnx):
    """A change just short of a cut, then a small object that moves."""
    dark = np.full((224, 384, 3), 40, np.uint8)
    bright = dark + 20
    bright[:8] -= 1  # the mean change is 19.96 levels, which bfloat16 rounds to 20, that of a cut
    moved = bright.copy()
    moved[96:128, 288:320] += 60
    frames = [dark, bright, bright, moved]
    model = load_model(device="cpu", engine="openvino", precision="bf16")
    ours, others = (silent_maps(each, frames, stride=1, fps=6.25)[-1:] for each in (model, onnx))
    assert_alike(ours, others, "bf16")


def test_a_part_equals_the_whole_bit_for_bit(openvino, example_clip):
    whole = {frame.index: frame for frame in openvino.predict(example_clip, stride=1, end=0.8)}
    part = list(openvino.predict(example_clip, stride=1, start=0.4, end=0.8))
    assert 0 < len(part) < len(whole)
    for frame in part:
        assert np.array_equal(frame.log_density, whole[frame.index].log_density)


def test_threads_and_batches_change_nothing(openvino, example_clip, monkeypatch):
    precision = openvino.engine.precision
    found = []
    for threads, batch in (("1", 1), ("3", 1), ("3", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        anew = load_model(device="cpu", engine="openvino", precision=precision)
        found.append(maps(anew, example_clip, stride=1, end=0.4, batch=batch))
    for others in found[1:]:
        assert all(np.array_equal(*pair) for pair in zip(found[0], others, strict=True))


def test_pictures_of_many_sizes_keep_few_sessions(onnx, monkeypatch):
    monkeypatch.setattr(onnx_engine, "MOST_SESSIONS", 3)
    model = load_model(device="cpu", engine="openvino", precision="fp32")
    pixels = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    for columns in (640, 480, 200, 640):
        frames = [pixels[:, :columns]] * 2
        ours, others = (silent_maps(each, frames, fps=25) for each in (model, onnx))
        assert_alike(ours, others, "fp32")
        assert len(model.engine._sessions) <= 3


def test_damaged_graphs_are_one_line(tmp_path, example_clip, monkeypatch):
    path = tmp_path / places.GRAPHS
    with zipfile.ZipFile(models.shipped(places.GRAPHS)) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as damaged:
        for name, entry in entries.items():
            damaged.writestr(name, entry[:1000] if name == "frame.onnx" else entry)
    monkeypatch.setattr(models, "shipped", lambda name: path if name == path.name else SHIPPED)
    model = load_model(device="cpu", engine="openvino", precision="fp32")
    with pytest.raises(WeightsError, match=r"damaged.*install avsal again") as caught:
        maps(model, example_clip, end=0.1)
    assert "\n" not in str(caught.value)


def test_signals_are_handled_after_models_of_other_threads_have_gone(example_clip):
    """Each core of OpenVINO frees the stack of signal handlers; 2026.4 ended the process so."""
    script = """
import signal, sys, threading
import avsal

def load(kept):
    kept.append(avsal.load_model(device="cpu", engine="openvino"))
    next(iter(kept[-1].predict(sys.argv[1])))

kept = []
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
load(kept)
load(kept)
del kept[0]
for step in (lambda: load(kept), kept.clear):
    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
signal.raise_signal(signal.SIGTERM)
"""
    command = [sys.executable, "-c", script, str(example_clip)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")


# --- choosing -----------------------------------------------------------------------------------


@needs_bfloat16
def test_what_is_taken_by_default():
    def made(**choice) -> tuple[str, str]:
        engine = load_model(device="cpu", **choice).engine
        return engine.name, engine.precision

    assert made() == made(precision="fp32") == ("onnx", "fp32")
    assert made(precision="bf16") == made(engine="openvino") == ("openvino", "bf16")
    assert made(engine="openvino", precision="fp32") == ("openvino", "fp32")
    assert made(engine="torch", precision="bf16") == ("torch", "bf16")


def test_a_processor_without_bfloat16(monkeypatch):
    monkeypatch.setattr(openvino_engine, "has_bfloat16", lambda: False)
    assert load_model(device="cpu", engine="openvino").engine.precision == "fp32"
    assert load_model(device="cpu", precision="bf16").engine.name == "torch"
    with pytest.raises(UsageError, match="engine openvino: this processor has no bfloat16"):
        load_model(device="cpu", engine="openvino", precision="bf16")


def test_what_openvino_and_onnx_runtime_cannot_compute(tiny, tiny_weights, monkeypatch):
    with pytest.raises(UsageError, match="engine onnx: tiny has no graphs; use --engine auto"):
        load_model(tiny, tiny_weights, "cpu", engine="onnx")
    with pytest.raises(UsageError, match=r"it computes in fp32 and bf16, not in fp16"):
        load_model(device="cpu", precision="fp16", engine="openvino")
    with pytest.raises(UsageError, match=r"engine openvino: it is used on CPUs only"):
        load_model(device="cuda", engine="openvino")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"not installed \(pip install 'avsal\[openvino\]'\)"):
        load_model(device="cpu", engine="openvino")


def test_a_result_names_its_engine_and_is_redone_by_another(example_clip, avsal_command, tmp_path):
    precision = "bf16" if HAS_BFLOAT16 else "fp32"
    command = ("predict", example_clip, "--end", 0.1, "-o", tmp_path, "--device", "cpu")
    made = tmp_path / example_clip.stem / "saliency.json"
    options = ("--precision", precision, "--skip-existing", "--quiet")
    for engine in ("openvino", "torch"):
        code, _out, err = avsal_command(*command, "--engine", engine, *options)
        assert (code, err) == (0, "")
        header = json.loads(made.read_text())
        kept = engine == "torch" and precision == "fp32"  # whose maps are the same but for rounding
        assert header["engine"] == ("openvino" if kept else engine)
        assert header["precision"] == precision
        assert (header["versions"]["openvino"] is None) == (header["engine"] == "torch")


# --- processes ----------------------------------------------------------------------------------


@needs_forks
@pytest.mark.parametrize("network", ["default", "tiny"])
def test_a_forked_child_predicts(network, load, example_clip):
    assert_a_forked_child_predicts(load(network, precision="fp32"), example_clip)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", ["default", "tiny"])
def test_a_model_may_be_sent_to_another_process(network, precision, load, example_clip):
    model = load(network, precision=precision)
    sent = pickle.loads(pickle.dumps(model))
    assert sent.description == model.description
    pairs = zip(*(maps(each, example_clip, end=0.2) for each in (sent, model)), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


# --- published networks -------------------------------------------------------------------------


def least_correlation(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
    pairs = zip(ones, others, strict=True)
    return min(np.corrcoef(np.exp(a).ravel(), np.exp(b).ravel())[0, 1] for a, b in pairs)


def test_a_published_network_is_translated_once(load_tiny, example_clip, home, caplog):
    exact = maps(load_tiny(engine="torch", precision="fp32"), example_clip, stride=8)
    model = load_tiny(engine="openvino", precision="fp32")
    assert model.description.engine == "openvino"
    assert_alike(maps(model, example_clip, stride=8), exact, "fp32")
    kept = list((home / "openvino").iterdir())
    caplog.clear()
    load_tiny(engine="openvino")
    assert not caplog.records
    assert kept == list((home / "openvino").iterdir())


@needs_bfloat16
def test_a_published_network_is_as_exact_in_bfloat16_as_by_pytorch(load_tiny, example_clip):
    exact, ours, torch_s = (
        maps(load_tiny(engine=engine, precision=precision), example_clip, stride=8)
        for engine, precision in (("torch", "fp32"), ("openvino", "bf16"), ("torch", "bf16"))
    )
    assert least_correlation(ours, exact) > least_correlation(torch_s, exact) - 0.001


def test_a_part_of_a_published_network_s_maps_equals_the_whole(load_tiny, example_clip):
    model = load_tiny(engine="openvino", precision="fp32")
    whole = {frame.index: frame for frame in model.predict(example_clip, end=0.8, batch=3)}
    for frame in model.predict(example_clip, start=0.4, end=0.8):
        assert np.array_equal(frame.log_density, whole[frame.index].log_density)


def test_other_weights_are_another_translation(load_tiny, tiny, home, caplog):
    load_tiny(engine="openvino")
    kept = set((home / "openvino").iterdir())
    caplog.clear()
    load_model(tiny, weights="untrained", device="cpu", engine="openvino")
    assert "translating the network" in caplog.text
    assert len({*(home / "openvino").iterdir()} - kept) == 1


@needs_bfloat16
def test_auto_takes_openvino_in_bfloat16_for_weights_that_it_has_translated(
    load_tiny, tiny, tmp_path, monkeypatch
):
    def taken(**choice) -> tuple[str, str]:
        engine = load_tiny(**choice).engine
        return engine.name, engine.precision

    monkeypatch.setenv("AVSAL_HOME", str(tmp_path))
    assert taken(precision="bf16") == ("torch", "bf16")
    load_tiny(engine="openvino")
    assert taken(precision="bf16") == ("openvino", "bf16")
    assert taken(precision="fp32") == ("torch", "fp32")
    assert taken(engine="torch", precision="bf16") == ("torch", "bf16")
    others = load_model(tiny, weights="untrained", device="cpu", precision="bf16")
    assert others.engine.name == "torch"


def test_a_damaged_translation_is_one_line(load_tiny, home):
    load_tiny(engine="openvino")
    files = list((home / "openvino").glob("*/*.xml"))
    whole = [path.read_bytes() for path in files]
    for path in files:
        path.write_bytes(b"<net>")
    with pytest.raises(WeightsError, match=r"tiny-[0-9a-f]+: damaged; delete this folder"):
        load_tiny(engine="openvino")
    for path, content in zip(files, whole, strict=True):
        path.write_bytes(content)


def test_a_folder_that_cannot_be_written_does_not_stop_a_translation(
    load_tiny, example_clip, tmp_path, monkeypatch, caplog
):
    exact = maps(load_tiny(engine="torch", precision="fp32"), example_clip, stride=8)
    (tmp_path / "home").write_bytes(b"")  # as for root no folder is read-only
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path / "home"))
    caplog.clear()
    model = load_tiny(engine="openvino", precision="fp32")
    (told,) = [each.getMessage() for each in caplog.records if each.name == "avsal"]
    assert "home" in told and told.endswith("the network is translated for this process alone")
    assert_alike(maps(model, example_clip, stride=8), exact, "fp32")
    caplog.clear()
    load_tiny(engine="openvino", precision="fp32")
    assert not caplog.records


def test_a_translation_that_does_not_fit_on_the_disk_is_one_line(load_tiny, tmp_path, monkeypatch):
    """OpenVINO reports a full disk by an error of its own, which names no file."""
    resource = pytest.importorskip("resource")
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OutputError, match=r"tiny-[0-9a-f]+: .* cannot be written; free space"):
            load_tiny(engine="openvino")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "openvino").iterdir())
