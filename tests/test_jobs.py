"""Which files belong to a job and where their results go."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import samples
from PIL import Image

from avsal.errors import MediaError, OutputError, UsageError
from avsal.results.checks import check_source, choose_output, refuse_folders
from avsal.results.description import DESCRIPTION
from avsal.results.plan import plan_files, plan_folder, plan_inputs


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def folders(jobs, root):
    return {str(source.relative_to(root)): str(folder) for source, folder in jobs}


def test_results_are_named_after_stems():
    jobs = plan_files([Path("a/x.mp4"), Path("b/y.mkv")], Path("out"))
    assert [folder for _source, folder in jobs] == [Path("out/x"), Path("out/y")]


def test_colliding_stems_keep_their_suffix():
    jobs = plan_files([Path("x.mp4"), Path("x.mov"), Path("y.mp4")], Path("out"))
    assert [folder.name for _source, folder in jobs] == ["x.mp4", "x.mov", "y"]


def test_a_name_that_is_another_s_stem_is_no_collision():
    names = ["a.mp4", "a.mkv", "a.mp4.mov", "b", "b.mp4", "C.mp4", "c.mov"]
    jobs = plan_files([Path(name) for name in names], Path("out"))
    assert [folder.name for _source, folder in jobs] == names


def test_a_file_that_is_named_twice_is_done_once():
    assert len(plan_files([Path("x.mp4"), Path("x.mp4")], Path("out"))) == 1


def test_no_result_lies_inside_another_one(tmp_path):
    root = tree(tmp_path / "in", "x.mp4", "x/y.mp4", "x/y/deep/z.mp4", "v.mp4", "V/w.mp4", "u.mp4")
    tree(root, "u/notes.txt")
    planned = folders(plan_folder(root, Path("out")), root)
    assert planned == {
        "x.mp4": "out/x.mp4",
        "x/y.mp4": "out/x/y.mp4",
        "x/y/deep/z.mp4": "out/x/y/deep/z",
        "v.mp4": "out/v.mp4",
        "V/w.mp4": "out/V/w",
        "u.mp4": "out/u",
    }
    places = [Path(folder) for folder in planned.values()]
    assert not any(place in other.parents for place in places for other in places)


def test_results_in_the_input_folder_change_no_names(tmp_path):
    root = tree(tmp_path / "in", "a.mp4")
    before = folders(plan_folder(root, root), root)
    tree(root, f"a/{DESCRIPTION}", "a/000000.png")
    assert folders(plan_folder(root, root), root) == before == {"a.mp4": str(root / "a")}


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../*"])
def test_a_glob_that_is_none_or_leaves_the_folder_is_refused(tmp_path, pattern):
    root = tree(tmp_path / "in", "a.mp4")
    with pytest.raises(UsageError, match="--glob"):
        plan_folder(root, Path("out"), pattern)


def test_the_same_name_twice_is_refused_before_anything_runs():
    with pytest.raises(UsageError, match=r"a/x\.mp4 and b/x\.mp4"):
        plan_files([Path("a/x.mp4"), Path("b/x.mp4")], Path("out"))


def test_a_folder_is_mirrored(tmp_path):
    root = tree(tmp_path / "in", "a.mp4", "sub/b.MOV", "sub/deep/c.jpg", "notes.txt", ".hidden.mp4")
    assert folders(plan_folder(root, Path("out")), root) == {
        "a.mp4": "out/a",
        "sub/b.MOV": "out/sub/b",
        "sub/deep/c.jpg": "out/sub/deep/c",
    }


def test_a_glob_chooses_files(tmp_path):
    root = tree(tmp_path / "in", "a.mp4", "b.mov", "sub/c.mp4", "d.odd")
    assert set(folders(plan_folder(root, Path("o"), "*.mp4"), root)) == {"a.mp4", "sub/c.mp4"}
    assert set(folders(plan_folder(root, Path("o"), "*.odd"), root)) == {"d.odd"}
    assert set(folders(plan_folder(root, Path("o"), "sub/*"), root)) == {"sub/c.mp4"}


def test_results_inside_the_input_are_not_inputs(tmp_path):
    root = tree(tmp_path / "in", "a.mp4", "out/a/000000.png", f"old/a/{DESCRIPTION}", "old/a/0.png")
    assert set(folders(plan_folder(root, root / "out"), root)) == {"a.mp4"}


def test_overlays_beside_their_videos_are_not_inputs(tmp_path):
    root = tree(tmp_path / "in", "a.mp4", "a.saliency.mp4", "b.jpg", "b.saliency.png")
    tree(root, "alone.saliency.mp4", "sub/a.saliency.mp4")
    mine = {"a.mp4", "b.jpg", "alone.saliency.mp4", "sub/a.saliency.mp4"}
    assert set(folders(plan_folder(root, Path("out")), root)) == mine
    chosen = plan_folder(root, Path("out"), "a.*.mp4")
    assert set(folders(chosen, root)) == {"a.saliency.mp4", "sub/a.saliency.mp4"}


def test_output_may_be_the_input_folder_itself(tmp_path):
    root = tree(tmp_path / "in", "a.mp4", "sub/b.mp4")
    assert set(folders(plan_folder(root, root), root)) == {"a.mp4", "sub/b.mp4"}


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path):
    tree(tmp_path, "a.mp4")
    with pytest.raises(UsageError, match="not a folder"):
        plan_folder(tmp_path / "a.mp4", Path("out"))
    with pytest.raises(UsageError, match="give a file inside it"):
        refuse_folders([tmp_path])
    with pytest.raises(MediaError, match="no such file"):
        check_source(tmp_path / "missing.mp4")
    with pytest.raises(MediaError, match="name too long"):
        check_source(tmp_path / ("n" * 300))
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="pipe"):
        check_source(tmp_path / "pipe.mp4")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Talk.mp4", "talk.mp4"),
        (unicodedata.normalize("NFC", "\u00e9.mp4"), unicodedata.normalize("NFD", "\u00e9.mp4")),
    ],
)
def test_names_that_a_file_system_may_fold_have_results_of_their_own(first, second):
    jobs = plan_files([Path("d1") / first, Path("d2") / second], Path("out"))
    folded = {unicodedata.normalize("NFC", str(folder)).casefold() for _source, folder in jobs}
    assert len(folded) == 2
    assert [folder.name for _source, folder in jobs] == [first, f"{second}-2"]
    with pytest.raises(UsageError, match="both would be written to"):
        plan_files([Path("d1") / first, Path("d2") / first], Path("out"))


def test_folders_that_a_file_system_may_fold_are_mirrored_apart(tmp_path):
    root = tree(tmp_path / "in", "Sub/a.mp4", "sub/a.mp4", "sub/deep/b.mp4")
    if len(list(root.iterdir())) == 1:
        pytest.skip("this file system folds case itself")
    planned = folders(plan_folder(root, Path("out")), root)
    assert planned == {
        "Sub/a.mp4": "out/Sub/a",
        "sub/a.mp4": "out/sub-2/a",
        "sub/deep/b.mp4": "out/sub-2/deep/b",
    }


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_what_is_left_out_is_told_with_its_reason(tmp_path):
    root = tree(tmp_path / "in", "a.mp4", "a.saliency.mp4", "notes.txt", "no_suffix", ".hidden.mp4")
    tree(root, f"done/{DESCRIPTION}", "done/000000.png", "out/b/000000.png", ".git/c.mp4")
    (root / "more").symlink_to(root)
    (root / "gone.mov").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe.mp4")
    reasons: Counter[str] = Counter()
    jobs = plan_folder(root, root / "out", None, lambda reason: reasons.update([reason]))
    assert [source.name for source, _folder in jobs] == ["a.mp4", "gone.mov"]
    assert reasons.pop("results of avsal") >= 4
    assert reasons == {
        "other suffixes": 2,
        "hidden": 2,
        "links to folders": 1,
        "pipes or devices": 1,
    }
    with pytest.raises(MediaError, match=r"gone.mov: a broken link \(to .*nowhere\)"):
        check_source(root / "gone.mov")


def test_a_pattern_that_fits_nothing_is_refused(tmp_path):
    root = tree(tmp_path / "in", "a.mp4", ".b.mov")
    for pattern in ("*.nope", "*.mov"):
        with pytest.raises(UsageError, match="fits no file"):
            plan_folder(root, tmp_path / "out", pattern)


def test_an_address_that_cannot_be_read_is_named_as_it_was_given():
    with pytest.raises(MediaError, match=r"rtsp://camera/1: rtsp: addresses cannot be read"):
        check_source(Path("rtsp://camera/1"))
    with pytest.raises(MediaError, match=r"^file:///a%20b\.mp4: .*; give the path: /a b\.mp4$"):
        check_source(Path("file:///a%20b.mp4"))


def test_a_long_name_stops_no_folder(tmp_path):
    tree(tmp_path, "n" * 250 + ".mp4", "talk.mp4")
    assert [source.name[0] for source, _place in plan_folder(tmp_path, tmp_path / "out")] == list(
        "nt"
    )


def test_a_name_that_is_too_long_for_a_result_is_one_line(tmp_path):
    source = tmp_path / ("n" * 249 + ".mp4")
    with pytest.raises(OutputError, match="cannot be written"):
        choose_output(source, is_image=False, out=None, force=False)


# ---- several inputs of any kind


def plan(inputs, output, ending=".saliency.*"):
    jobs = plan_inputs(list(inputs), output, ending)
    return {str(source): str(place) for source, place in jobs}


def test_results_are_next_to_their_inputs(footage):
    a, b = footage / "a.mp4", footage / "sub" / "b.mp4"
    assert plan([footage], None) == {
        str(a): str(footage / "a.saliency.*"),
        str(b): str(footage / "sub" / "b.saliency.*"),
    }
    assert plan([footage / "*.mp4"], None, ".measure") == {str(a): str(footage / "a.measure")}


def test_names_that_would_meet_keep_their_suffix(tmp_path):
    one, other = (samples.still(tmp_path / name) for name in ("a.png", "a.jpg"))
    assert plan([one, other], None) == {
        str(one): str(tmp_path / "a.png.saliency.*"),
        str(other): str(tmp_path / "a.jpg.saliency.*"),
    }


def test_an_output_is_a_file_for_one_input_and_a_folder_for_many(footage, tmp_path):
    a, out = footage / "a.mp4", tmp_path / "out"
    tree = {str(a): str(out / "a.*"), str(footage / "sub" / "b.mp4"): str(out / "sub" / "b.*")}
    assert plan([a], out / "x.mp4") == {str(a): str(out / "x.mp4")}
    assert plan([a], out / "x", ".measure") == {str(a): str(out / "x")}
    assert plan([a], out) == {str(a): str(out / "a.*")}  # without a suffix, as for one of *.mp4
    assert plan([footage / "a*"], out) == {str(a): str(out / "a.*")}
    assert plan([footage], out) == tree
    assert plan([footage / "sub", a], out) == {
        str(a): str(out / "a.*"),
        str(footage / "sub" / "b.mp4"): str(out / "sub" / "b.*"),
    }


def test_results_of_earlier_calls_are_no_inputs(footage):
    for name in ("a.saliency.mp4", "a.9x16.mp4", "a.9x16.reframe.json"):
        (footage / name).write_text("earlier")
    expected = [str(footage / "a.mp4"), str(footage / "sub" / "b.mp4")]
    assert list(plan([footage], None)) == expected
    assert list(plan([footage / "*.mp4"], None)) == expected[:1]


def test_pictures_of_results_are_no_inputs(footage):
    """A folder that --output named tells by what it holds that it is a result."""
    measured, stills = footage / "measured", footage / "stills"
    own = [measured / "thumbnail-shot-1.jpg", footage / "thumbnail-shot-1.jpg"]
    own += [stills / "shot-002.jpg"]
    for file in own:
        file.parent.mkdir(exist_ok=True)
        samples.still(file)
    (measured / "summary.json").write_text('{\n "measure": 1}')
    Image.new("RGB", (8, 8)).save(stills / "shot-001.jpg", comment=b"avsal overlay: shot 1")
    wanted = [footage / "a.mp4", *own[1:], footage / "sub" / "b.mp4"]
    assert set(plan([footage], None)) == {str(path) for path in wanted}


@pytest.mark.parametrize("inputs", [("a.mp4", "sub/b.mp4"), ("*.mp4",), ("",)])
def test_a_file_s_name_is_no_folder_for_several_results(footage, inputs):
    given = [footage / name for name in inputs]
    with pytest.raises(UsageError, match=r"all\.mp4: is the name of a file; give a folder"):
        plan(given, footage / "all.mp4")
    with pytest.raises(UsageError, match=r"give a folder for the results, such as .*/tab$"):
        plan(given, footage / "tab.csv", ".measure")
    (footage / "all.mp4").mkdir()
    assert plan(given, footage / "all.mp4")
    assert plan(given, footage / "all.mp4", ".measure")


@pytest.mark.parametrize("command", ["predict", "batch", "measure"])
@pytest.mark.parametrize("name", ["tab.csv", "maps.mp4", "report.html"])
def test_a_file_s_name_is_no_folder_for_one_result(avsal_command, footage, command, name):
    source = footage if command == "batch" else footage / "a.mp4"
    code, _out, err = avsal_command(command, source, "-o", footage / name)
    assert code == 2
    assert "is the name of a file; give a folder" in err
    assert plan([footage / "a.mp4"], footage / "v1.2", ".measure")


def test_standard_output_is_no_place(footage):
    with pytest.raises(UsageError, match="-: results cannot go to standard output"):
        plan([footage], Path("-"))


def test_inputs_that_cannot_be_planned(footage, tmp_path):
    with pytest.raises(UsageError, match="matches no file"):
        plan([footage / "*.nope"], None)
    with pytest.raises(UsageError, match="web address"):
        plan([Path("https://example.org/a.mp4")], None)
    (tmp_path / "other" / "sub").mkdir(parents=True)
    with pytest.raises(UsageError, match="two folders are called sub"):
        plan([footage / "sub", tmp_path / "other" / "sub"], tmp_path / "out")
