"""What an attacker or bad luck hands to the commands: one line, no hang, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import samples

from avsal.cli.console import printable
from avsal.results.description import DESCRIPTION

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX names, pipes and devices")
LATIN1 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def film(tmp_path):
    return samples.constant_rate(tmp_path / "film.mp4", 2)


@pytest.fixture
def network(tiny, tiny_weights, quick_workers):
    return ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("talk.mp4", "talk.mp4"),
        ("\u00e9t\u00e9 \u6f22\u5b57 \U0001f3ac.mp4", "\u00e9t\u00e9 \u6f22\u5b57 \U0001f3ac.mp4"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x1b[2J\x9b1m\x7f", "\\x1b[2J\\x9b1m\\x7f"),
        ("a\u202egpj.exe\u2028b", "a\\u202egpj.exe\\u2028b"),
        (LATIN1, "caf\\udce9"),
    ],
)
def test_names_are_printed_so_that_they_cannot_move_the_cursor(text, shown):
    assert printable(text) == shown


@POSIX
@pytest.mark.parametrize("name", ["a\n\x1b[31mb\u202e[bold]", LATIN1])
def test_odd_names_reach_no_terminal_raw(avsal_command, film, network, tmp_path, name):
    root = tmp_path / "in"
    root.mkdir()
    film.rename(root / f"{name}.mp4")
    samples.text(root / f"{name} broken.mp4")
    code, out, err = avsal_command("batch", root, "-o", tmp_path / "out", *network)
    assert code == 1
    assert (tmp_path / "out" / name / DESCRIPTION).is_file()
    for text in (out, err):
        assert printable(text.replace("\n", "")) == text.replace("\n", "")
        assert printable(name) in text
    assert len(out.splitlines()) == 1
    code, _out, err = avsal_command("predict", root / f"{name} missing.mp4")
    assert code == 1
    assert len(err.splitlines()) == 1
    code, out, _err = avsal_command("overlay", root / f"{name}.mp4", *network)
    assert code == 0
    assert out == printable(str(root / f"{name}.saliency.mp4")) + ": 2 frames\n"


@POSIX
def test_a_name_that_is_not_utf_8_is_kept_in_json(avsal_command, film, network, tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    film.rename(root / f"{LATIN1}.mp4")
    arguments = ("batch", root, "-o", tmp_path / "out", "--json", "--skip-existing", *network)
    _code, out, _err = avsal_command(*arguments)
    assert json.loads(out)["source"] == str(root / f"{LATIN1}.mp4")
    described = (tmp_path / "out" / LATIN1 / DESCRIPTION).read_text(encoding="utf-8")
    assert json.loads(described)["source"]["name"] == f"{LATIN1}.mp4"
    _code, out, _err = avsal_command(*arguments)
    assert json.loads(out)["status"] == "skipped"


@POSIX
def test_an_ascii_locale_changes_nothing(film, tmp_path):
    film.rename(tmp_path / f"{LATIN1}.mp4")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "avsal", "predict", f"{LATIN1}.mp4", "missing \u6f22.mp4"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["saliency/caf\\udce9: 2 maps"]
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in (tmp_path / "saliency").iterdir()] == [LATIN1]


@POSIX
@pytest.mark.parametrize("command", ["predict", "overlay"])
def test_pipes_and_devices_are_no_videos(avsal_command, tmp_path, command):
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    out = tmp_path / ("out.mp4" if command == "overlay" else "out")
    for place in (pipe, Path("/dev/zero")):
        code, _out, err = avsal_command(command, place, "-o", out)
        assert code == 1
        assert "pipe or a device" in err
        assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.mp4"]


@POSIX
def test_a_pipe_in_a_folder_is_passed_over(avsal_command, film, network, tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    film.rename(root / "film.mp4")
    os.mkfifo(root / "pipe.mp4")
    code, out, _err = avsal_command("batch", root, "-o", tmp_path / "out", *network)
    assert (code, len(out.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    "options",
    [
        ("--size", "99999x99999"),
        ("--size", "20000x20000"),
        ("--start", "inf"),
        ("--start", "nan"),
        ("--start", "1e308"),
        ("--end", "inf"),
        ("--end", "nan"),
    ],
    ids=" ".join,
)
def test_numbers_out_of_reason_are_wrong_usage(avsal_command, film, tmp_path, options):
    code, _out, err = avsal_command("predict", film, "-o", tmp_path / "out", *options)
    assert code == 2
    assert options[0].removeprefix("--") in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pattern", ["/etc/*", "../*"])
def test_a_glob_outside_the_folder_is_wrong_usage(avsal_command, tmp_path, pattern):
    code, _out, err = avsal_command("batch", tmp_path, "-o", tmp_path / "out", "--glob", pattern)
    assert code == 2
    assert "--glob" in err
    assert len(err.splitlines()) == 1


@POSIX
def test_stdout_that_cannot_be_written_is_one_line(film):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    for arguments in (["--version"], ["weights", "list"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "avsal", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: standard output: cannot be written (no space left")


@POSIX
def test_a_batch_whose_lines_go_nowhere_is_one_line(avsal_process, film, tmp_path):
    process, output = avsal_process(
        "batch", tmp_path, "-o", tmp_path / "out", "--json", stdout=Path("/dev/full")
    )
    process.join(timeout=60)
    assert process.exitcode == 1
    (line,) = output().splitlines()
    assert line.startswith("error: standard output: cannot be written")


def test_maps_that_are_no_numbers_are_one_line_and_no_result(
    avsal_command, film, network, tmp_path, monkeypatch
):
    from avsal.prediction import predictor

    def broken(log_density, size):
        density = to_density(log_density, size)
        density[0, 0] = float("nan")
        return density

    to_density = predictor.to_density
    monkeypatch.setattr(predictor, "to_density", broken)
    for scale in ("frame", "clip", "probability"):
        code, _out, err = avsal_command(
            "predict", film, "-o", tmp_path / "out", "--scale", scale, *network
        )
        assert code == 1
        assert "not numbers" in err
        assert list((tmp_path / "out").iterdir()) == []


def test_a_result_is_replaced_only_if_nothing_else_is_in_it(avsal_command, film, network, tmp_path):
    """`x.mp4` was done while there was no folder x; later a result was put into it."""
    out = tmp_path / "out"
    assert avsal_command("predict", film, "-o", out, *network)[0] == 0
    assert avsal_command("predict", film, "-o", out / "film", *network)[0] == 0
    code, _out, err = avsal_command("predict", film, "-o", out, *network)
    assert code == 1
    assert "holds film" in err
    assert (out / "film" / "film" / DESCRIPTION).is_file()


def test_a_file_and_a_folder_of_the_same_name_keep_their_results(
    avsal_command, film, network, tmp_path
):
    """They once gave OUT/x and OUT/x/y, and doing x again deleted y."""
    root = tmp_path / "in"
    (root / "x").mkdir(parents=True)
    for name in ("x.mp4", "x/y.mp4"):
        samples.constant_rate(root / name, 2)
    for _again in range(2):
        code, _out, _err = avsal_command("batch", root, "-o", tmp_path / "out", *network)
        assert code == 0
        for place in ("x.mp4", "x/y"):
            assert (tmp_path / "out" / place / DESCRIPTION).is_file()
    arguments = ("batch", root, "-o", tmp_path / "out", "--skip-existing", "--json", *network)
    _code, out, _err = avsal_command(*arguments)
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["skipped", "skipped"]


def test_help_lists_the_words_and_completion_is_there():
    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "avsal", *arguments],
            env={**os.environ, "TERMINAL_WIDTH": "200", **environment},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    predict = run("predict", "--help")
    for words in (
        "png|png16|npy|video|csv|parquet",
        "frame|clip|probability",
        "auto|fp32|fp16|bf16",
        "32|16",
    ):
        assert words in predict
    assert "turbo, inferno, jet" in run("overlay", "--help")
    words = {"_AVSAL_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    completed = run(COMP_WORDS="avsal predict --format ", **words)
    assert completed.split() == ["png", "png16", "npy", "video", "csv", "parquet"]
    completed = run(COMP_WORDS="avsal predict --device c", **words)
    assert completed.split() == ["cpu", "cuda"]


def test_a_summary_of_many_files_lists_those_that_failed(capsys):
    from avsal.cli.run import MAX_ROWS, Outcome, print_summary

    outcomes = [Outcome(f"{n}.jpg", "out", "done", 1) for n in range(MAX_ROWS)]
    print_summary([*outcomes, Outcome("bad\n.jpg", "out", "failed")], Path("in"))
    err = capsys.readouterr().err
    assert f"{MAX_ROWS + 1} files ({MAX_ROWS} done, 1 failed)" in err
    print_summary([*outcomes, Outcome("last.jpg", "out", "done", 1)], Path("in"))
    assert (
        capsys.readouterr().err.split() == f"in: {MAX_ROWS + 1} files ({MAX_ROWS + 1} done)".split()
    )
    assert "bad\\n.jpg" in err
    assert "0.jpg" not in err
