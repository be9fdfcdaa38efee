"""The default network on ONNX Runtime, compared with PyTorch, and what chooses between them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from engine_checks import assert_a_forked_child_predicts, maps, needs_forks
from safetensors.numpy import load_file, save_file

from avsal import load_model, weights
from avsal.errors import UsageError, WeightsError
from avsal.media import VideoReader
from avsal.media.frames import FrameInfo
from avsal.models.graph_weights import ORIGINS
from avsal.prediction import model as models
from avsal.prediction.frames import CachedFrame, WindowInput
from avsal.prediction.threads import thread_count
from avsal.prediction.windows import Window
from avsal.weights import places

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "weights"
FILE = "avsal-small.safetensors"
VARIANT = "small-224x384"
HELD = "decoder.habit.share"  # a weight that an exporter computes with in advance
TOLERANCE = 1e-4  # of a log-density


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def onnx():
    return load_model(device="cpu", engine="onnx")


@pytest.fixture(scope="module")
def torch_model():
    return load_model(device="cpu", precision="fp32", engine="torch")


def distance(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
    assert len(ones) == len(others) > 0
    return max(float(np.abs(a - b).max()) for a, b in zip(ones, others, strict=True))


# --- the same maps ------------------------------------------------------------------------------


def test_maps_agree_with_pytorch_s(onnx, torch_model, example_clip):
    assert (onnx.engine.name, torch_model.engine.name) == ("onnx", "torch")
    with_sound = maps(onnx, example_clip, stride=16)
    assert distance(with_sound, maps(torch_model, example_clip, stride=16)) <= TOLERANCE


def test_maps_without_sound_agree_with_pytorch_s(onnx, torch_model, example_clip):
    with VideoReader(example_clip) as video:
        frames = [frame for _, frame in zip(range(48), video, strict=False)]
    silent = [
        [frame.log_density for frame in model.predict_frames(frames, None, stride=8, size="model")]
        for model in (onnx, torch_model)
    ]
    assert distance(*silent) <= TOLERANCE
    assert distance(silent[0], maps(onnx, example_clip, stride=8, end=1.92)) > TOLERANCE


def test_a_part_equals_the_whole_bit_for_bit(onnx, example_clip):
    whole = {frame.index: frame for frame in onnx.predict(example_clip, stride=1, end=0.8)}
    part = list(onnx.predict(example_clip, stride=1, start=0.4, end=0.8))
    assert 0 < len(part) < len(whole)
    for frame in part:
        assert np.array_equal(frame.log_density, whole[frame.index].log_density)


def test_a_batch_changes_nothing(onnx, example_clip):
    alone, together = (maps(onnx, example_clip, end=0.4, batch=size) for size in (1, 4))
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))


def test_threads_change_nothing(onnx, example_clip, monkeypatch):
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(maps(onnx, example_clip, stride=1, end=0.4))
    assert all(np.array_equal(*pair) for pair in zip(*found, strict=True))


def test_the_command_s_threads_are_those_that_compute(
    example_clip, avsal_command, monkeypatch, tmp_path
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    command = ("predict", example_clip, "--end", 0.04, "--format", "csv", "-o", tmp_path)
    assert avsal_command(*command, "--quiet") == (0, "", "")
    assert thread_count() == 2
    assert avsal_command(*command, "--quiet", "--threads", 3) == (0, "", "")
    assert thread_count() == 3


def test_a_model_may_be_sent_to_another_process(onnx, example_clip):
    here = next(onnx.predict(example_clip)).density  # makes the sessions
    sent = pickle.loads(pickle.dumps(onnx))
    assert (repr(sent), sent.weights_id) == (repr(onnx), onnx.weights_id)
    assert np.array_equal(next(sent.predict(example_clip)).density, here)


def test_a_frame_that_fails_ends_the_windows_that_wait_for_it(onnx, example_clip, monkeypatch):
    run = onnx.engine._run
    calls = []

    def failing(graph, values):
        calls.append(graph)
        if calls.count("frame") == 3:
            raise MemoryError("no memory")
        return run(graph, values)

    monkeypatch.setattr(onnx.engine, "_run", failing)
    with pytest.raises(MemoryError, match="no memory"):
        maps(onnx, example_clip, end=1, batch=3)


def test_one_window_at_a_time_is_asked_for_after_the_map_of_the_one_before(onnx):
    tags = [FrameInfo(i, Fraction(i), Fraction(i), Fraction(1), 384, 224) for i in range(3)]
    cached = [CachedFrame(tag, np.zeros((224, 384, 3), np.uint8)) for tag in tags]
    window = Window(0, (0, 0, 0, 0), 0, reverse=False)
    asked = []

    def windows():
        for number, frame in enumerate(cached):
            asked.append(number)
            yield WindowInput(window, (frame,) * 4, None)

    for number, _batch in enumerate(onnx.engine.batches(windows(), batch=1)):
        assert asked == list(range(number + 1))


# --- weights ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    """The default network's weights as training might leave them."""
    noise = np.random.default_rng(0)
    state = {
        name: np.asarray(value * (1 + 0.02 * noise.standard_normal(value.shape)), np.float32)
        if value.dtype.kind == "f"
        else value
        for name, value in load_file(SHIPPED / FILE).items()
    }
    path = tmp_path_factory.mktemp("tuned") / "tuned.safetensors"
    save_file(state, path, {"variant": VARIANT})
    return path


def test_fine_tuned_weights_run_on_both(onnx, tuned, example_clip, home):
    weights.import_checkpoint(tuned, name="mine")
    ours = load_model(weights="mine", device="cpu")
    assert ours.engine.name == "onnx"
    assert ours.description.weights == "mine"
    by_torch = load_model(weights=tuned, device="cpu", precision="fp32", engine="torch")
    found = maps(ours, example_clip, end=0.4)
    assert distance(found, maps(by_torch, example_clip, end=0.4)) <= TOLERANCE
    assert distance(found, maps(onnx, example_clip, end=0.4)) > 100 * TOLERANCE
    with VideoReader(example_clip) as video:
        frames = [frame for _, frame in zip(range(8), video, strict=False)]
    silent = [
        [frame.log_density for frame in model.predict_frames(frames, None, size="model")]
        for model in (ours, by_torch)
    ]
    assert distance(*silent) <= TOLERANCE


def test_graphs_that_hold_a_weight_compute_the_shipped_weights_only(tuned, installed):
    path = installed / places.GRAPHS
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    tables = json.loads(entries[ORIGINS])
    for table in tables.values():
        for constant in [name for name, origin in table.items() if origin[1] == HELD]:
            del table[constant]
    with zipfile.ZipFile(path, "w") as archive:
        for name, entry in {**entries, ORIGINS: json.dumps(tables)}.items():
            archive.writestr(name, entry)
    assert load_model(device="cpu").engine.name == "onnx"
    assert load_model(weights=tuned, device="cpu").engine.name == "torch"
    with pytest.raises(UsageError, match="for the weights that come with avsal only"):
        load_model(weights=tuned, device="cpu", engine="onnx")


@pytest.mark.parametrize("name", [None, "avsal-small", "small", VARIANT])
def test_the_shipped_weights_by_each_of_their_names(name, monkeypatch):
    def fail(*_arguments, **_named):
        raise AssertionError("loaded by PyTorch")

    monkeypatch.setattr("avsal.weights.loading.load_weights", fail)
    for choice in ({"name": name}, {"weights": name}, {"name": name, "weights": name}):
        model = load_model(device="cpu", **choice)
        assert (model.engine.name, model.description.weights) == ("onnx", "avsal-small")


def test_an_imported_file_of_the_shipped_weights_name_is_never_used(tuned, home):
    (home / "weights").mkdir(parents=True)
    shutil.copy(tuned, home / "weights" / FILE)
    assert load_model(device="cpu").weights_id[1] == weights.get_row("avsal-small").sha256


def test_a_file_in_the_working_directory_comes_first(tuned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tuned, "avsal-small")
    for engine in ("onnx", "torch"):
        model = load_model(weights="avsal-small", device="cpu", engine=engine)
        assert model.weights_id[1] == weights.sha256_of(tuned)


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A folder with the shipped files as in a wheel, in place of the checkout's."""
    folder = tmp_path / "installed"
    folder.mkdir()
    for name in (FILE, places.GRAPHS):
        shutil.copy(SHIPPED / name, folder)
    monkeypatch.setattr(places, "PACKAGE", folder)
    monkeypatch.setattr(places, "CHECKOUT", tmp_path / "none")
    return folder


def test_weights_in_the_package_s_folder_are_found(installed):
    assert load_model(device="cpu").engine.name == "onnx"


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damaged_shipped_weights_are_one_line(engine, damage, installed):
    content = bytearray((installed / FILE).read_bytes())
    content[-1] ^= 1
    (installed / FILE).write_bytes(content if damage == "flipped" else content[:1000])
    with pytest.raises(WeightsError, match=rf"{FILE}: damaged.*reinstall") as caught:
        load_model(device="cpu", engine=engine)
    assert "\n" not in str(caught.value)


def test_missing_shipped_weights_are_asked_of_the_hub(installed, monkeypatch):
    (installed / FILE).unlink()
    asked = []
    monkeypatch.setattr(
        "avsal.weights.places.pull",
        lambda _row, *, offline, revision: asked.append(offline) or FOUND,
    )
    assert load_model(device="cpu").engine.name == "onnx"
    assert asked == [False]


FOUND = SHIPPED / FILE


@pytest.mark.parametrize("damage", ["cut", "flipped", "other graphs", "no graph"])
def test_a_damaged_archive_of_graphs_is_one_line(damage, installed, example_clip, avsal_command):
    path = installed / places.GRAPHS
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        spoilt = bytearray(content)
        spoilt[200:300] = bytes(100)
        path.write_bytes(spoilt)
    else:
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, entry in entries.items():
                broken = b"x" if damage == "no graph" else entry.replace(b"weight", b"w8ight")
                archive.writestr(
                    name, entry if name.endswith(".onnx") == (damage != "no graph") else broken
                )
    code, _out, err = avsal_command(
        "predict", example_clip, "-o", path.parent / "out", "--end", 0.1, "--device", "cpu"
    )
    assert code == 1
    assert len(err.splitlines()) == 1
    assert f"{places.GRAPHS}: damaged" in err
    assert "install avsal again" in err


def test_without_graphs_pytorch_computes(installed):
    (installed / places.GRAPHS).unlink()
    assert load_model(device="cpu").engine.name == "torch"
    with pytest.raises(UsageError, match=r"engine onnx: avsal-small\.graphs\.zip is missing"):
        load_model(device="cpu", engine="onnx")


# --- choosing -----------------------------------------------------------------------------------


def test_engines_by_name():
    for engine, name in (("auto", "onnx"), ("onnx", "onnx"), ("torch", "torch")):
        assert load_model(device="cpu", engine=engine).engine.name == name
    with pytest.raises(UsageError, match=r"engine tensorflow.*give one of auto, torch, onnx"):
        load_model(engine="tensorflow")


def test_what_onnx_cannot_compute(tiny, tiny_weights, monkeypatch):
    other = {"name": tiny, "weights": tiny_weights, "device": "cpu"}
    assert load_model(**other).engine.name == "torch"
    with pytest.raises(UsageError, match=r"engine onnx: tiny has no graphs; use --engine auto"):
        load_model(**other, engine="onnx")
    with pytest.raises(UsageError, match=r"engine onnx: it computes in fp32, not in bf16"):
        load_model(device="cpu", precision="bf16", engine="onnx")
    with pytest.raises(UsageError, match=r"engine onnx: it is used on CPUs only"):
        load_model(device="cuda", engine="onnx")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _name: None)
    assert load_model(device="cpu").engine.name == "torch"
    with pytest.raises(UsageError, match="onnxruntime is not installed"):
        load_model(device="cpu", engine="onnx")


def test_the_command_s_words(example_clip, avsal_command, tmp_path):
    command = ("predict", example_clip, "--end", 0.1, "-o")
    for word in ("onnx", "torch", "auto"):
        arguments = (tmp_path / word, "--engine", word, "--device", "cpu")
        code, _out, err = avsal_command(*command, *arguments)
        assert (code, err) == (0, "")
    command = (*command, tmp_path / "none")
    code, _out, err = avsal_command(*command, "--engine", "tensorflow")
    assert code == 2
    assert "--engine" in err
    arguments = ("--engine", "onnx", "--precision", "bf16", "--device", "cpu")
    code, _out, err = avsal_command(*command, *arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "engine onnx: it computes in fp32" in err


# --- processes ----------------------------------------------------------------------------------

ALONE = """
import sys
import avsal
model = avsal.load_model(device="cpu")
maps = list(model.predict(sys.argv[1], end=0.2, size="model"))
print(len(maps), "torch" in sys.modules)
"""


def test_pytorch_is_not_imported(example_clip):
    command = [sys.executable, "-c", ALONE, str(example_clip)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=100, env=environment
    )
    assert result.stdout.split() == ["5", "False"]


@needs_forks
def test_a_forked_child_predicts(onnx, example_clip):
    assert_a_forked_child_predicts(onnx, example_clip)
