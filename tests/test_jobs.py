"""Which files belong to a job and where their results go."""

from pathlib import Path

import pytest

from avsal.errors import MediaError, UsageError
from avsal.results.description import DESCRIPTION
from avsal.results.jobs import check_source, plan_files, plan_folder, refuse_folders


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def folders(jobs, root):
    return {str(job.source.relative_to(root)): str(job.folder) for job in jobs}


def test_results_are_named_after_stems():
    jobs = plan_files([Path("a/x.mp4"), Path("b/y.mkv")], Path("out"))
    assert [job.folder for job in jobs] == [Path("out/x"), Path("out/y")]


def test_colliding_stems_keep_their_suffix():
    jobs = plan_files([Path("x.mp4"), Path("x.mov"), Path("y.mp4")], Path("out"))
    assert [job.folder.name for job in jobs] == ["x.mp4", "x.mov", "y"]


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
