"""Which files belong to a job and where their results go."""

import os
from pathlib import Path

import pytest

from avsal.errors import MediaError, UsageError
from avsal.results.description import DESCRIPTION
from avsal.results.plan import check_source, plan_files, plan_folder, refuse_folders


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
    with pytest.raises(UsageError, match="avsal predict"):
        plan_folder(tmp_path / "a.mp4", Path("out"))
    with pytest.raises(UsageError, match="avsal batch"):
        refuse_folders([tmp_path])
    with pytest.raises(MediaError, match="no such file"):
        check_source(tmp_path / "missing.mp4")
    with pytest.raises(MediaError, match="name too long"):
        check_source(tmp_path / ("n" * 300))
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="pipe"):
        check_source(tmp_path / "pipe.mp4")
