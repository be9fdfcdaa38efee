"""What `predict`, `overlay`, `reframe` and `measure` have in common on the command line."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import samples
import typer

from avsal import cli
from avsal.cli.defaults import read_defaults
from avsal.errors import UsageError
from avsal.prediction.settings import seconds_of
from avsal.results.description import DESCRIPTION

COMMANDS = {
    "overlay": ((), "{}.saliency.mp4", "{}.mp4"),
    "reframe": ((), "{}.9x16.mp4", "{}.mp4"),
    "measure": (("--grid", "2x2"), "{}.measure/report.html", "{}/report.html"),
}


@pytest.fixture
def command(avsal_command, tiny, tiny_weights, quick_workers):
    """A command with the tiny network and what else it needs."""
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")

    def run(name, *arguments):
        return avsal_command(name, *arguments, *COMMANDS.get(name, ((),))[0], *network)

    return run


def records(text):
    return [json.loads(line) for line in text.splitlines()]


# ---- the commands


@pytest.mark.parametrize("name", COMMANDS)
def test_many_inputs_next_to_them_and_never_overwritten(command, footage, name):
    ending = COMMANDS[name][1]
    samples.text(footage / "bad.mp4")
    code, out, err = command(name, footage, "--json")
    assert code == 1
    assert err.count("error:") == 1 and "bad.mp4" in err
    done = [record for record in records(out) if record["status"] == "done"]
    places = [footage / ending.format("a"), footage / "sub" / ending.format("b")]
    assert [record["output"] for record in done] == [str(place) for place in places]
    assert [record["frames"] for record in done] == [3, 3]
    if name != "overlay":  # what follows is the same code for all of them
        return
    (footage / "bad.mp4").unlink()
    written = [place.stat().st_mtime_ns for place in places]
    code, _out, err = command(name, footage)
    assert code == 1
    assert err.count("exists; give --force to replace it, --skip-existing to keep it") == 2
    code, out, err = command(name, footage, "--skip-existing")
    assert (code, out.count(": kept")) == (0, 2)
    assert [place.stat().st_mtime_ns for place in places] == written
    kept = records(command(name, footage, "--skip-existing", "--json")[1])
    assert [record["status"] for record in kept if record["status"] != "omitted"] == ["skipped"] * 2
    assert not any("frames" in record for record in kept)  # nobody has counted them


def test_a_measurement_is_kept_if_files_and_settings_are_the_same(command, footage, tmp_path):
    video, report = footage / "a.mp4", footage / "a.measure" / "report.html"
    areas = tmp_path / "areas.csv"
    areas.write_text("name,x,y,w,h\nlogo,0,0,9,9\n")

    def kept(*options):
        code, out, err = command("measure", video, "--skip-existing", *options)
        assert (code, err) == (0, "")
        return out == f"{report.parent}: kept\n"

    assert not kept()
    assert kept() and kept("--batch", "1")
    assert not kept("--end", "0.2")
    assert kept("--end", "0.2")
    assert not kept("--areas", areas)
    assert kept("--areas", areas)
    areas.write_text("name,x,y,w,h\nlogo,0,0,12,9\n")
    assert not kept("--areas", areas)
    late = report.stat().st_mtime - 1000
    os.utime(video, (late, late))  # another file of an earlier date
    assert not kept("--areas", areas)
    assert command("measure", footage, "--skip-existing", "--json", "--areas", areas)[1].count(
        '"skipped"'
    )


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cudaa", "device cudaa: is unknown; did you mean cuda?"),
        ("gpu", "did you mean cuda?"),
        ("cp", "did you mean cpu?"),
        ("toaster", "give auto, cpu, cuda or cuda:N"),
        ("mps", "device mps: is unknown"),
    ],
)
def test_a_misspelt_device_gets_the_nearest_word(avsal_command, footage, device, says):
    code, _out, err = avsal_command("overlay", footage / "a.mp4", "--device", device)
    assert (code, err.count("\n")) == (2, 1)
    assert says in err


@pytest.mark.parametrize("name", COMMANDS)
def test_one_input_and_force(command, footage, tmp_path, name):
    ending, inside = COMMANDS[name][1:]
    a = footage / "a.mp4"
    assert command(name, a, "--quiet") == (0, "", "")
    place = footage / ending.format("a")
    first = place.stat().st_mtime_ns
    code, out, err = command(name, a)
    assert (code, out) == (2, "")
    assert "--force" in err
    assert command(name, a, "--force")[0] == 0
    assert place.stat().st_mtime_ns > first
    late = place.stat().st_mtime + 10
    os.utime(a, (late, late))  # the input has changed since
    second = place.stat().st_mtime_ns
    code, out, _err = command(name, a, "--skip-existing")
    assert (code, "kept" in out) == (0, False)
    assert place.stat().st_mtime_ns > second
    assert command(name, footage / "sub", "-o", tmp_path / "out", "--end", "0:00.2")[0] == 0
    assert (tmp_path / "out" / inside.format("b")).is_file()


def test_a_file_that_ends_the_process_fails_alone(command, footage, monkeypatch):
    """Several files run in another process, whatever the command."""
    from avsal.results import isolated

    tried = []
    real = isolated.predict_isolated
    monkeypatch.setattr(
        isolated, "predict_isolated", lambda plan, *rest: tried.append(plan) or real(plan, *rest)
    )
    assert command("overlay", footage / "a.mp4")[0] == 0
    assert tried == []
    assert command("overlay", footage / "a.mp4", footage / "sub" / "b.mp4", "--force")[0] == 0
    assert len(tried[0]) == 2


def late(path, seconds):
    """Let a file be newer than all others."""
    time = path.stat().st_mtime + seconds
    os.utime(path, (time, time))


def test_what_was_made_of_earlier_maps_or_paths_is_made_again(command, footage, tmp_path):
    a, maps = footage / "a.mp4", tmp_path / "maps" / "a"
    assert command("predict", a, "-o", maps.parent)[0] == 0
    saved = ("--saliency", maps, "--skip-existing")
    for name, ending in (("overlay", "saliency"), ("reframe", "9x16")):
        assert command(name, a, "--saliency", maps)[0] == 0
        assert command(name, a, *saved)[1] == f"{footage / f'a.{ending}.mp4'}: kept\n"
        late(maps / DESCRIPTION, 1000)
        assert command(name, a, *saved)[1] == f"{footage / f'a.{ending}.mp4'}: 3 frames\n"
        late(maps / DESCRIPTION, -1000)
    edited = (footage / "a.9x16.reframe.json").rename(tmp_path / "edited.json")
    given = ("reframe", a, "--path", edited, "--skip-existing")
    assert "kept" in command(*given)[1]
    late(edited, 1000)
    assert "kept" not in command(*given)[1]


def test_a_measurement_that_lacks_a_file_is_not_kept(command, footage):
    assert command("measure", footage / "a.mp4")[0] == 0
    assert "kept" in command("measure", footage / "a.mp4", "--skip-existing")[1]
    (footage / "a.measure" / "report.html").unlink()
    assert "kept" not in command("measure", footage / "a.mp4", "--skip-existing")[1]
    assert (footage / "a.measure" / "report.html").is_file()


def test_an_error_that_nobody_foresaw_names_its_file(command, footage, monkeypatch):
    def fail(*_values, **_options):
        raise ValueError("empty sequence")

    monkeypatch.setattr("avsal.results.api.write_overlay", fail)
    code, out, err = command("overlay", footage / "a.mp4", "--json")
    why = f"{footage / 'a.mp4'}: ValueError: empty sequence"
    assert code == 1
    assert err == f"error: {why} (unexpected; --debug shows where)\n"
    assert records(out)[0]["error"] == why


def test_addresses_are_reported_whole_and_without_their_keys(command, tmp_path):
    code, out, _err = command("predict", Path("http://127.0.0.1:1/a.mp4?key=secret"), "--json")
    assert code == 1
    assert records(out)[0]["source"] == "http://127.0.0.1:1/a.mp4"
    assert "secret" not in out


@pytest.mark.parametrize("name", ["predict", *COMMANDS])
def test_a_still_image_is_a_video_of_one_frame(command, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(name, samples.still(tmp_path / "a.png"), "--json")
    assert code == 0, err
    assert records(out)[0]["frames"] == 1


def test_predict_takes_folders_and_keeps_what_exists(command, footage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _out, err = command("predict", "in", "in/a.mp4")
    assert (code, err) == (0, "")
    assert (tmp_path / "saliency" / "a" / DESCRIPTION).is_file()
    assert (tmp_path / "saliency" / "in" / "sub" / "b" / DESCRIPTION).is_file()
    code, _out, err = command("predict", "in/a.mp4")
    assert code == 2
    assert "saliency/a: exists; give --force" in err
    assert command("predict", "in/a.mp4", "--skip-existing")[1] == "saliency/a: kept\n"
    assert command("predict", "in/a.mp4", "--force")[1] == "saliency/a: 3 maps\n"
    assert command("predict", "in/a.mp4", "-o", "saliency")[1] == "saliency/a: 3 maps\n"


def test_maps_of_several_files_are_found_by_name(command, footage, tmp_path):
    assert command("predict", footage, "-o", tmp_path / "maps")[0] == 0
    for name in COMMANDS:
        code, out, err = command(name, footage, "--saliency", tmp_path / "maps", "--json")
        assert code == 0, err
        assert [record["status"] for record in records(out)][:2] == ["done", "done"]


@pytest.mark.parametrize("name", ["reframe", "measure"])
def test_part_of_a_video_and_of_its_maps(command, tmp_path, name):
    film = samples.film(tmp_path / "film.mp4", seconds=1.0, rate=10)
    part = ("--start", "0.3", "--end", "0:00.8", "--json")
    code, out, err = command(name, film, *part)
    assert code == 0, err
    assert records(out)[0]["frames"] == 5
    assert command("predict", film, "-o", tmp_path / "maps")[0] == 0
    out = tmp_path / ("saved.mp4" if name == "reframe" else "saved")
    saved = ("--saliency", tmp_path / "maps" / "film", "-o", out)
    code, out, err = command(name, film, *part, *saved)
    assert code == 0, err
    assert records(out)[0]["frames"] == 5
    code, _out, err = command(name, film, "--start", "7", *saved)
    assert code in (1, 2)
    assert "no map from 7.0 s to the end" in err


def test_a_pipe_is_predicted(command, tmp_path, monkeypatch):
    film = samples.constant_rate(tmp_path / "film.mp4", 3, rate=10)
    pipe = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(film.read_bytes()))
    monkeypatch.setattr("sys.stdin", pipe)
    code, out, err = command("predict", "-", "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert out == f"{tmp_path / 'out' / 'stdin'}: 3 maps\n"
    code, _out, err = command("overlay", "-")
    assert code == 2
    assert "give --output" in err


def test_what_was_piped_is_called_as_it_was_given(command, tmp_path, monkeypatch):
    """The temporary file is nobody's business, and gone once the command has ended."""
    pipe = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(b""))
    monkeypatch.setattr("sys.stdin", pipe)
    code, out, err = command("overlay", "-", "-o", tmp_path / "out.mp4", "--json")
    assert code == 1
    assert err == "error: -: is empty (0 bytes); copy or download it again\n"
    assert records(out)[0]["source"] == "-"
    assert records(out)[0]["error"] == "-: is empty (0 bytes); copy or download it again"
    export = ("--export", tmp_path / "a.fcpxml")
    code, _out, err = command("reframe", "-", "-o", tmp_path / "out.mp4", *export)
    assert code == 2
    assert "save it to a file first" in err


# ---- words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("3.5", 3.5), ("0:03", 3), ("00:01:02.5", 62.5), ("90", 90), ("2:00:00", 7200)],
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["-1", "0:75", "1:60:00", "nan", "inf", "1e3", "soon", "", ":3"])
def test_times_that_are_none(avsal_command, tmp_path, text):
    with pytest.raises(UsageError, match="give a time such as"):
        seconds_of(text)
    code, _out, err = avsal_command("overlay", tmp_path / "a.mp4", "--start", text)
    assert code == 2
    assert len(err.splitlines()) == 1 and "'--start'" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["overlay", ""], "overlay"),
        (["predict", "a.mp4", "-o", ""], "-o"),
        (["reframe", "a.mp4", "--output="], "--output="),
        (["batch", "", "-o", "out"], "batch"),
    ],
)
def test_an_empty_argument_is_not_the_working_folder(
    avsal_command, footage, monkeypatch, arguments, says
):
    monkeypatch.chdir(footage)
    before = sorted(footage.rglob("*"))
    code, _out, err = avsal_command(*arguments)
    assert code == 2 and len(err.splitlines()) == 1
    assert f"an empty argument follows '{says}'; give a value" in err
    assert sorted(footage.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (("predict", "a.mp4", "--modle", "x"), "did you mean --model?"),
        (("predict", "a.mp4", "--format", "pgn"), "did you mean png?"),
        (("overlay", "a.mp4", "--colormap", "viridi"), "did you mean viridis?"),
        (("predikt", "a.mp4"), "did you mean 'predict'?"),
    ],
)
def test_the_nearest_word(avsal_command, words, suggestion):
    code, _out, err = avsal_command(*words)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert err.strip().endswith(suggestion)


def test_models_that_are_listed_have_weights(command, footage, avsal_command):
    code, _out, err = avsal_command("overlay", footage / "a.mp4", "--model", "xyzzy")
    assert code == 2
    assert "avsal-small" in err
    assert "bilinear" not in err and "224x224" not in err


@pytest.mark.parametrize("name", ["predict", *COMMANDS])
def test_a_file_is_looked_at_before_the_network(avsal_command, tmp_path, name):
    bad = samples.text(tmp_path / "bad.mp4")
    options = COMMANDS.get(name, ((),))[0]
    code, _out, err = avsal_command(name, bad, "--weights", "missing.pt", *options)
    assert code == 1
    assert "bad.mp4" in err and "missing.pt" not in err


# ---- settings files


@pytest.fixture
def settings_file(tmp_path, monkeypatch):
    """Write avsal.toml in the working folder."""
    monkeypatch.chdir(tmp_path)
    return (tmp_path / "avsal.toml").write_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_settings_file_gives_defaults(command, footage, settings_file, encoding):
    settings_file("quiet = true\n[overlay]\nend = 0.2\nforce = true\n", encoding)
    assert command("overlay", footage / "a.mp4") == (0, "", "")
    code, out, _err = command("overlay", footage / "a.mp4", "--json")
    assert (code, records(out)[0]["frames"]) == (0, 2)
    code, out, _err = command("overlay", footage / "a.mp4", "--json", "--end", "0.1")
    assert (code, records(out)[0]["frames"]) == (0, 1)


def test_the_file_of_the_working_folder_is_asked_first(
    command, footage, settings_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "avsal").mkdir(parents=True)
    (tmp_path / "config" / "avsal" / "avsal.toml").write_text("end = 0.1\njson = true\n")
    _code, out, _err = command("overlay", footage / "a.mp4")
    assert records(out)[0]["frames"] == 1
    settings_file("end = 0.2\n")
    _code, out, _err = command("overlay", footage / "a.mp4", "--force")
    assert records(out)[0]["frames"] == 2


def test_the_environment_gives_defaults(avsal_command, footage, settings_file, monkeypatch):
    settings_file('weights = "from_file.pt"\n')
    assert "from_file.pt" in avsal_command("overlay", footage / "a.mp4")[2]
    monkeypatch.setenv("AVSAL_WEIGHTS", "from_environment.pt")
    assert "from_environment.pt" in avsal_command("overlay", footage / "a.mp4")[2]
    assert "typed.pt" in avsal_command("overlay", footage / "a.mp4", "--weights", "typed.pt")[2]
    out = " ".join(avsal_command("info")[1].split())
    assert "AVSAL_WEIGHTS=from_environment.pt" in out
    assert "weights = 'from_file.pt'" in out


def test_a_settings_file_gives_defaults_to_commands_of_a_group(
    avsal_command, settings_file, monkeypatch
):
    asked = []
    monkeypatch.setattr("avsal.weights.resolve", lambda *_names, **named: asked.append(named))
    settings_file("[weights.path]\nrevision = 'one'\n")
    avsal_command("weights", "path", "mspi-mvitv2s")
    assert asked.pop()["revision"] == "one"
    settings_file("revision = 'two'\n")
    avsal_command("weights", "path", "mspi-mvitv2s")
    assert asked.pop()["revision"] == "two"
    settings_file("[weights]\nrevision = 'one'\n[weights.path]\nrevision = 'three'\n")
    avsal_command("weights", "path", "mspi-mvitv2s")
    assert asked.pop()["revision"] == "three"
    shown = " ".join(avsal_command("info")[1].split())
    assert "weights: revision = 'one'" in shown and "weights path: revision = 'three'" in shown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("strid = 2", "no option strid; did you mean stride?"),
        ("[overly]\nstride = 2", "no command overly; did you mean overlay?"),
        ("[overlay]\naspect = '1:1'", "overlay has no option aspect"),
        ("[overlay]\nalpha = 7", "(from avsal.toml)"),
        ("stride = {a = 1}", "no command stride"),
        ("[weights.pul]\nyes = true", "no command weights pul; did you mean weights pull?"),
        ("[weights.pull]\nyess = true", "weights pull has no option yess; did you mean yes?"),
        ("stride =", "avsal.toml: cannot be read"),
        ("size = [640, 360]", "size: give one value, without brackets"),
        ("end = 2026-01-01", "end: give a text, a number"),
    ],
)
def test_a_wrong_settings_file_is_one_line(avsal_command, settings_file, text, says):
    settings_file(text)
    code, _out, err = avsal_command("overlay", "a.mp4")
    assert code == 2
    assert len(err.splitlines()) == 1 and says in err
    assert avsal_command("overlay", "--help")[0] == 0


def test_a_working_folder_that_was_removed_is_told(avsal_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    told = "error: the working folder was removed; change to another one\n"
    assert avsal_command("predict", "a.mp4") == (2, "", told)


def test_an_option_for_many_takes_one_too(settings_file):
    group = typer.main.get_command(cli.app)
    for area in ("'a:0,0,9,9'", "['a:0,0,9,9']"):
        settings_file(f"[measure]\narea = {area}\n")
        assert read_defaults(group) == {"measure": {"area": ["a:0,0,9,9"]}}
