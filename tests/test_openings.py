"""How often a command opens its file: every opening reads or downloads it once more."""

from __future__ import annotations

import av
import pytest
import samples


@pytest.fixture
def film(tmp_path):
    return samples.film(tmp_path / "film.mp4", seconds=1.0, rate=10)


@pytest.fixture
def network(tiny, tiny_weights):
    return ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")


@pytest.fixture
def openings(avsal_command, film, monkeypatch):
    """Run a command and return how often it opened the film."""
    opened = []
    real = av.open

    def counted(name, mode="r", **options):
        if mode == "r" and str(film) in str(name):
            opened.append(name)
        return real(name, mode, **options)

    monkeypatch.setattr(av, "open", counted)

    def run(*arguments):
        opened.clear()
        code, _out, err = avsal_command(*arguments)
        assert code == 0, err
        return len(opened)

    return run


def place(folder, command):
    """Where a command writes: a folder, or a video."""
    return folder / ("out" if command in ("predict", "measure") else "out.mp4")


@pytest.mark.parametrize(
    ("command", "options", "count"),
    [
        ("predict", (), 2),  # pictures and sound
        ("overlay", (), 2),
        ("reframe", (), 4),  # pictures and sound for the network, and again when the path is known
        ("measure", ("--grid", "2x2"), 2),
        ("overlay", ("--still", "-o", "out.jpg"), 2),
        ("overlay", ("--contact-sheet", "--per-shot", "-o", "out.jpg"), 2),
        ("overlay", ("-o", "out.gif"), 2),
    ],
)
def test_with_the_network(openings, film, network, tmp_path, monkeypatch, command, options, count):
    monkeypatch.chdir(tmp_path)
    assert openings(command, film, "-o", place(tmp_path, command), *options, *network) == count


@pytest.mark.parametrize(
    ("command", "options", "count"),
    [
        ("overlay", (), 2),
        ("reframe", (), 2),
        ("measure", ("--grid", "2x2"), 1),
    ],
)
def test_with_saved_maps(openings, film, network, tmp_path, command, options, count):
    openings("predict", film, "-o", tmp_path, *network)
    saved = ("--saliency", tmp_path / "film")
    assert openings(command, film, "-o", place(tmp_path, command), *saved, *options) == count


def test_an_edited_path(openings, film, network, tmp_path):
    openings("reframe", film, "-o", tmp_path / "one.mp4", *network)
    path = ("--path", tmp_path / "one.reframe.json")
    assert openings("reframe", film, "-o", tmp_path / "two.mp4", *path) == 2


def test_a_crop_path_for_other_programs(openings, film, network, tmp_path):
    openings("reframe", film, "-o", tmp_path / "film.9x16.mp4", *network)
    path = tmp_path / "film.9x16.reframe.json"
    assert openings("export", path, "--to", tmp_path / "a.sendcmd") == 1


def test_evaluate(openings, film, network, tmp_path):
    table = tmp_path / "gaze.csv"
    table.write_text("time,x,y,observer\n0.11,0.5,0.5,anna\n0.12,0.4,0.5,bert\n")
    options = ("--fixations", table, "-o", tmp_path / "out")
    assert openings("evaluate", film, *options, *network) == 2
