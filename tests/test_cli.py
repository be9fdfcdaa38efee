"""The commands as a person types them: results, messages and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import copies
import cv2
import numpy as np
import pytest
import samples

from avsal.results.description import DESCRIPTION


@pytest.fixture
def predict(avsal_command, tiny, tiny_weights, quick_workers, tmp_path):
    """`avsal predict ... -o tmp_path/out` with the tiny network."""
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")

    def run(*arguments):
        return avsal_command("predict", "-o", tmp_path / "out", *network, *arguments)

    return run


@pytest.fixture
def film(tmp_path):
    """One second of picture and sound, with a rate that keeps the tests fast."""
    return samples.film(tmp_path / "film.mp4", seconds=1.0, rate=10)


BLACK = np.zeros((48, 64, 3), np.uint8)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def one_line(text):
    lines = [line for line in text.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def test_predict_writes_a_map_for_every_frame(predict, film, tmp_path):
    code, _out, err = predict(film)
    assert (code, err) == (0, "")
    assert names(tmp_path / "out" / "film") == [*(f"{i:06d}.png" for i in range(10)), DESCRIPTION]
    described = json.loads((tmp_path / "out" / "film" / DESCRIPTION).read_text())
    assert described["model"] == "tiny"
    assert len(described["weights"]["sha256"]) == 64
    assert described["fps"] == 10
    assert described["sound"] is True
    assert [frame["time"] for frame in described["frames"]] == [i / 10 for i in range(10)]
    gray = cv2.imread(str(tmp_path / "out" / "film" / "000003.png"), cv2.IMREAD_UNCHANGED)
    assert gray.shape == (described["height"], described["width"])


@pytest.mark.parametrize(
    ("options", "files"),
    [
        (("--format", "npy", "--size", "model"), ["000000.npy", "000001.npy"]),
        (("--format", "png16", "--scale", "clip"), ["000000.png", "000001.png"]),
        (("--format", "video", "--scale", "probability"), ["saliency.mp4"]),
        (
            ("--size", "33x17", "--stride", "5", "--audio-context", "16"),
            ["000000.png", "000001.png"],
        ),
    ],
)
def test_predict_s_formats_and_sizes(predict, film, tmp_path, options, files):
    code, _out, err = predict(film, "--end", "0.2", *options)
    assert (code, err) == (0, "")
    assert names(tmp_path / "out" / "film") == sorted([*files, DESCRIPTION])


def test_a_gray_video_keeps_the_frames_times(predict, tmp_path):
    times = [Fraction(n, 10) for n in (0, 1, 3, 6, 10)]
    source = samples.variable_rate(tmp_path / "vfr.mp4", times)
    assert predict(source, "--format", "video")[0] == 0
    with av.open(str(tmp_path / "out" / "vfr" / "saliency.mp4")) as container:
        found = [frame.time for frame in container.decode(video=0)]
    assert found == pytest.approx([float(t) for t in times], abs=1e-4)


@pytest.mark.parametrize(
    ("make", "frames"),
    [
        (lambda folder: samples.still(folder / "a.jpg"), 1),
        (lambda folder: samples.constant_rate(folder / "a.mp4", 1), 1),
        (lambda folder: samples.constant_rate(folder / "a.mp4", 5, rate=60), 5),
        (lambda folder: samples.rotated(folder / "a.mp4", 90), None),
        (lambda folder: samples.rotated(folder / "a.mp4", 180), None),
        (lambda folder: samples.changing_size(folder / "a.ts"), 20),
        (lambda folder: samples.raw_h264(folder / "a.h264"), 12),
        (lambda folder: samples.interlaced(folder / "a.mp4"), None),
        (lambda folder: _lossless(folder, (1, 37), "rgb24"), 2),
        (lambda folder: _lossless(folder, (37, 1), "rgb24"), 2),
        (lambda folder: _lossless(folder, (33, 51), "gray"), 2),
        (lambda folder: _lossless(folder, (48, 64), "rgba"), 2),
        (lambda folder: _lossless(folder, (48, 64), "yuv420p10le"), 2),
        (lambda folder: samples.lossless(folder / "black.mov", [BLACK] * 3), 3),
    ],
)
def test_unusual_videos_get_a_map_for_every_frame(predict, tmp_path, make, frames):
    source = make(tmp_path)
    code, _out, err = predict(source)
    assert code == 0, err
    described = json.loads((tmp_path / "out" / source.stem / DESCRIPTION).read_text())
    maps = [p for p in names(tmp_path / "out" / source.stem) if p.endswith(".png")]
    assert len(maps) == len(described["frames"])
    assert frames is None or len(maps) == frames


def _lossless(folder: Path, size: tuple[int, int], pix_fmt: str) -> Path:
    suffix = ".mov" if pix_fmt in ("rgb24", "gray", "rgba") else ".mkv"
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2)]
    return samples.lossless(folder / f"a{suffix}", images, pix_fmt)


@pytest.mark.slow
def test_an_8k_frame(predict, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4320, 7680, 3), dtype=np.uint8)
    source = samples.still(tmp_path / "huge.png", image)
    assert predict(source)[0] == 0
    gray = cv2.imread(str(tmp_path / "out" / "huge" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert gray.shape == (4320, 7680)


BAD = {
    "missing": lambda folder: folder / "missing.mp4",
    "0 bytes": lambda folder: samples.empty(folder / "bad.mp4"),
    "text": lambda folder: samples.text(folder / "bad.mp4"),
    "header cut": lambda folder: copies.without_header(
        samples.film(folder / "whole.mp4"), folder / "bad.mp4"
    ),
    "index cut": lambda folder: copies.cut_off(
        samples.film(folder / "whole.mp4"), folder / "bad.mp4"
    ),
    "audio only": lambda folder: samples.audio_only(folder / "bad.m4a"),
    "mp3 with cover": lambda folder: samples.mp3_with_cover(folder / "bad.mp3"),
    "unknown codec": lambda folder: samples.unknown_codec(folder / "bad.mp4"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line_and_never_stops_the_others(predict, film, tmp_path, kind):
    bad = BAD[kind](tmp_path)
    code, _out, err = predict(bad, film, "--end", "0.2")
    assert code == 1
    assert str(bad) in one_line(err)
    assert names(tmp_path / "out") == ["film"]


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_give_maps_or_one_line(predict, tmp_path, seed):
    whole = copies.with_index_first(samples.film(tmp_path / "whole.mp4"), tmp_path / "first.mp4")
    bad = copies.flipped(whole, tmp_path / "bad.mp4", seed=seed, spare=0.2)
    code, _out, err = predict(bad, "--end", "0.5")
    if code:
        one_line(err)
    assert (code == 0) == ((tmp_path / "out" / "bad" / DESCRIPTION).is_file())
    assert not list(tmp_path.rglob("*.partial-*"))


def test_a_cut_tail_gives_what_is_left_and_says_so(predict, tmp_path):
    whole = copies.with_index_first(
        samples.film(tmp_path / "whole.mp4", seconds=4, rate=10), tmp_path / "first.mp4"
    )
    cut = copies.cut_off(whole, tmp_path / "cut.mp4", share=0.7)
    code, _out, err = predict(cut, "--stride", "8")
    assert code == 0
    assert "cut" in err
    assert 2 < len(names(tmp_path / "out" / "cut")) < 41


@pytest.mark.parametrize("name", ["été 漢字 🎬.mp4", "-leading.mp4", "a b'c\".mp4", "[x]*.mp4"])
def test_names_of_all_kinds(predict, film, tmp_path, name, monkeypatch):
    film.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    code, _out, err = predict("--end", "0.1", "--", name)
    assert code == 0, err
    assert (tmp_path / "out" / Path(name).stem / DESCRIPTION).is_file()


USAGE = [
    ("--format", "gif"),
    ("--scale", "loud"),
    ("--size", "big"),
    ("--stride", "0"),
    ("--audio-context", "20"),
    ("--precision", "fp8"),
    ("--device", "cuda:99"),
    ("--device", "toaster"),
    ("--start", "5", "--end", "2"),
    ("--model", "nonesuch"),
    ("--nonsense",),
]


@pytest.mark.parametrize("options", USAGE, ids=" ".join)
def test_wrong_usage_is_exit_2_and_makes_nothing(predict, film, tmp_path, options):
    code, _out, err = predict(film, *options)
    assert code == 2
    assert err.strip()
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_colliding_names_are_refused(predict, film, tmp_path):
    (tmp_path / "other").mkdir()
    second = samples.film(tmp_path / "other" / "film.mp4", seconds=0.2)
    code, _out, err = predict(film, second)
    assert code == 2
    assert str(second) in one_line(err)


def test_an_output_that_is_in_the_way(predict, film, tmp_path):
    (tmp_path / "out" / "film").mkdir(parents=True)
    (tmp_path / "out" / "film" / "notes.txt").write_text("mine")
    code, _out, err = predict(film)
    assert code == 1
    assert "not an earlier result" in one_line(err)


def test_debug_shows_the_traceback(predict, tmp_path):
    from avsal.cli import console

    code, _out, err = predict(tmp_path / "missing.mp4", "--debug")
    console.debug = False
    assert code == 1
    assert "Traceback" in err


@pytest.fixture
def footage(tmp_path):
    """A tree of inputs, one of them broken."""
    root = tmp_path / "footage"
    (root / "sub").mkdir(parents=True)
    samples.constant_rate(root / "a.mp4", 2)
    samples.text(root / "broken.mp4")
    samples.still(root / "sub" / "b.jpg")
    return root


@pytest.fixture
def batch(avsal_command, tiny, tiny_weights, quick_workers, footage, tmp_path):
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")

    def run(*arguments):
        return avsal_command("batch", footage, "-o", tmp_path / "out", *network, *arguments)

    return run


def test_batch_mirrors_the_tree_and_goes_on_after_a_bad_file(batch, tmp_path):
    code, out, err = batch("--json")
    assert code == 1
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["status"] for line in lines] == ["done", "failed", "done"]
    assert [line["frames"] for line in lines] == [2, 0, 1]
    assert (tmp_path / "out" / "a" / "000001.png").is_file()
    assert (tmp_path / "out" / "sub" / "b" / "000000.png").is_file()
    assert not (tmp_path / "out" / "broken").exists()
    assert "3 files" in err


def test_skip_existing_keeps_only_what_the_same_settings_made(batch, tmp_path, footage):
    def statuses(*arguments):
        _code, out, _err = batch("--json", "--skip-existing", "--glob", "a.mp4", *arguments)
        return [json.loads(line)["status"] for line in out.splitlines()]

    assert statuses() == ["done"]
    assert statuses() == ["skipped"]
    assert statuses("--batch", "2") == ["skipped"]  # changes no map
    assert statuses("--stride", "2") == ["done"]
    assert statuses("--stride", "2", "--weights", "untrained") == ["done"]
    assert statuses("--stride", "2", "--weights", "untrained") == ["skipped"]
    described = tmp_path / "out" / "a" / DESCRIPTION
    earlier = json.loads(described.read_text())
    assert earlier.pop("processing")  # as before smoothing
    described.write_text(json.dumps(earlier))
    assert statuses("--stride", "2", "--weights", "untrained") == ["done"]
    described.unlink()
    (tmp_path / "out" / "a" / "000000.png").unlink()
    (tmp_path / "out" / "a" / "000001.png").unlink()
    assert statuses("--stride", "2", "--weights", "untrained") == ["done"]
    samples.constant_rate(footage / "a.mp4", 3)
    assert statuses("--stride", "2", "--weights", "untrained") == ["done"]


def test_batch_tells_what_it_leaves_out_and_how_many_maps_it_keeps(batch, footage):
    (footage / "notes.txt").write_text("mine")
    (footage / "broken.mp4").unlink()
    batch("--glob", "*.jpg")
    code, out, err = batch("--json", "--skip-existing")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["status"] for line in lines] == ["skipped", "done", "omitted"]
    assert lines[0]["frames"] == 1
    assert lines[2]["reasons"] == {"other suffixes": 1}
    assert "1 file omitted (other suffixes: 1)" in err
    code, out, err = batch("--glob", "*.nope")
    assert (code, out) == (2, "")
    assert "--glob *.nope" in one_line(err)


def test_batch_of_nothing_says_so(avsal_command, tmp_path):
    code, _out, err = avsal_command("batch", tmp_path, "-o", tmp_path / "out")
    assert code == 0
    assert "no videos or images" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("predict",), "Missing argument 'VIDEO'; see avsal predict --help"),
        (("export",), "Missing argument 'SOURCE'; see avsal export --help"),
        (("batch", "-o", "x"), "Missing argument 'FOLDER'; see avsal batch --help"),
        (("predict", "a.mp4", "--wrong"), "No such option: --wrong; see avsal predict --help"),
        (("predict", "a.mp4", "--stride", "x"), "Invalid value for '--stride'"),
        (("nothing",), "No such command 'nothing'; see avsal --help"),
        (("weights", "nothing"), "No such command 'nothing'; see avsal weights --help"),
    ],
)
def test_a_wrong_command_line_is_one_line(avsal_command, arguments, says):
    code, out, err = avsal_command(*arguments)
    assert (code, out) == (2, "")
    assert says.lower() in one_line(err).lower()
    assert len(err.splitlines()) == 1


def test_no_arguments_show_the_help_once(avsal_command):
    code, out, err = avsal_command()
    assert (code, err) == (2, "")
    assert out.count("Usage:") == 1


def test_help_names_the_commands(avsal_command):
    code, out, _err = avsal_command("--help")
    assert code == 0
    for command in ("predict", "overlay", "batch", "weights", "models", "info", "train"):
        assert command in out
    assert "<bool>" not in out  # a flag takes no value


@pytest.mark.skipif(os.name != "posix", reason="closes the streams of another process")
def test_closed_standard_streams_are_not_given_to_files(tmp_path):
    """As with `2>&-`; processes for several files then failed without a word."""
    script = """
import os, subprocess, sys
for number in (0, 2):
    os.close(number)
from avsal.cli import console
console.prepare_streams()
with open(sys.argv[1], "w") as file:
    assert file.fileno() > 2
subprocess.run([sys.executable, "-c", "import os; os.fstat(0), os.fstat(2)"], check=True)
print("fine")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "fine\n")


def test_python_m_avsal():
    done = subprocess.run(
        [sys.executable, "-m", "avsal", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("avsal ")


def test_info_tells_what_is_here(avsal_command):
    code, out, _err = avsal_command("info")
    assert code == 0
    for word in ("torch", "device", "precision", "weights cache", "weights present"):
        assert word in out
    by_onnx_runtime = "computed by ONNX Runtime" in out  # which computes in fp32 alone
    assert ("fp32; where PyTorch computes" in out) == by_onnx_runtime


@pytest.mark.parametrize("command", ["info", "weights list", "weights verify"])
def test_tables_show_brackets_of_paths(command, avsal_command, tmp_path, monkeypatch):
    """What is in brackets is no markup, as in a folder called "a[red]b"."""
    home = tmp_path / "a[red]b[/]"
    (home / "weights").mkdir(parents=True)
    (home / "weights" / "mine.safetensors").write_bytes(b"not weights")
    monkeypatch.setenv("AVSAL_HOME", str(home))
    _code, out, _err = avsal_command(*command.split())
    assert str(home / "weights") in "".join(out.split())


@pytest.mark.parametrize("loads", [True, False])
def test_info_says_what_computes_and_what_resamples(avsal_command, monkeypatch, loads):
    import importlib.util

    from avsal.media import resample

    found = importlib.util.find_spec
    if not loads:
        monkeypatch.setattr(resample, "torchaudio_module", lambda: None)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name)
        )
    elif found("onnxruntime") is None or resample.torchaudio_module() is None:
        pytest.skip("ONNX Runtime or torchaudio does not load here")
    monkeypatch.setattr("avsal.prediction.model._may_have_cuda", lambda: False)
    out = " ".join(avsal_command("info")[1].split())
    assert ("computed by ONNX Runtime" in out) == loads
    assert ("computed by PyTorch" in out) == (not loads)
    assert ("torchaudio does not load here" in out) == (not loads)
