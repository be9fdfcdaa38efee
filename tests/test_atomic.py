"""Files and folders appear under their name whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from avsal import atomic
from avsal.errors import OutputError, UsageError

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX names and signals")
LATIN1 = os.fsdecode(b"caf\xe9")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def own(_folder: Path) -> list[str]:
    """What the tests write themselves."""
    return ["a.txt", "b.txt", "mine.txt"]


def fill(folder: Path, content: str) -> None:
    with atomic.new_folder(folder, own) as aside:
        (aside / "a.txt").write_text(content)


def test_a_file_replaces_an_older_one_in_one_step(tmp_path):
    path = tmp_path / "new" / "a.bin"
    atomic.write_bytes(path, b"old")
    with atomic.new_file(path) as aside:
        aside.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.bin"]


def test_a_folder_replaces_an_older_one_as_a_whole(tmp_path):
    fill(tmp_path / "out", "old")
    with atomic.new_folder(tmp_path / "out", own) as aside:
        (aside / "b.txt").write_text("new")
        assert names(tmp_path / "out") == ["a.txt"]
    assert names(tmp_path / "out") == ["b.txt"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, UsageError])
def test_an_exception_leaves_what_was_there(tmp_path, error):
    fill(tmp_path / "out", "old")
    atomic.write_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(error), atomic.new_folder(tmp_path / "out", own) as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "b.txt").write_text("new")
        raise error("stop")
    with pytest.raises(error), atomic.new_file(tmp_path / "a.bin") as aside:
        aside.write_bytes(b"new")
        raise error("stop")
    assert names(tmp_path) == ["a.bin", "out"]
    assert (tmp_path / "out" / "a.txt").read_text() == "old"
    assert (tmp_path / "a.bin").read_bytes() == b"old"


@pytest.mark.parametrize("step", ["mkdir", "open", "replace"])
def test_a_failure_of_any_step_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, step):
    def no_space(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, step, no_space)
    make = atomic.new_folder if step == "mkdir" else atomic.new_file
    with (
        pytest.raises(OutputError, match=r"out.*: cannot be written \(no space left"),
        make(tmp_path / "out" / "thing"),
    ):
        pass
    monkeypatch.undo()
    assert names(tmp_path / "out") == []


def test_an_error_inside_a_folder_names_the_final_place(tmp_path):
    with pytest.raises(OutputError) as caught, atomic.new_folder(tmp_path / "out", own) as aside:
        (aside / "a").mkdir()
        atomic.write_bytes(aside / "a", b"")
    assert str(caught.value).startswith(f"{tmp_path / 'out' / 'a'}: cannot be written")


def test_an_old_folder_stands_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    fill(tmp_path / "out", "old")
    replace = Path.replace

    def fail(self, target):
        if target.name == "out" and any(p.read_text() == "new" for p in self.iterdir()):
            code = errno.EACCES if not target.exists() else errno.ENOTEMPTY
            raise OSError(code, os.strerror(code))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="permission denied"):
        fill(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


def test_another_process_may_finish_the_same_folder_first(tmp_path):
    with atomic.new_folder(tmp_path / "out", own) as aside:
        (aside / "mine.txt").write_text("mine")
        fill(tmp_path / "out", "theirs")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["mine.txt"]


RACE = """
import sys
from pathlib import Path
from avsal import atomic
for number in range(100):
    with atomic.new_folder(Path(sys.argv[1]), lambda _: ["a.txt", "b.txt"]) as aside:
        (aside / "a.txt").write_text(sys.argv[2])
        (aside / "b.txt").write_text(sys.argv[2])
"""


def test_processes_that_write_the_same_folder_leave_one_whole_result(tmp_path):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path / "out"), name])
        for name in ("one", "two", "three")
    ]
    assert [racer.wait(timeout=60) for racer in racers] == [0, 0, 0]
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["a.txt", "b.txt"]
    assert len({path.read_text() for path in (tmp_path / "out").iterdir()}) == 1


def test_a_file_and_a_folder_are_not_exchanged(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="in the way"), atomic.new_folder(tmp_path / "file"):
        pytest.fail("found out too late")
    with pytest.raises(OutputError, match="is a directory"), atomic.new_file(tmp_path / "folder"):
        pytest.fail("found out too late")
    with pytest.raises(
        OutputError, match=r"file: cannot be written \(file exists\); choose another"
    ):
        fill(tmp_path / "file" / "out", "new")
    assert (tmp_path / "file").read_text() == "mine"


@POSIX
def test_names_of_any_length_and_encoding(tmp_path):
    for name in ("n" * 255, "é" * 127, "a." + "s" * 253, LATIN1, LATIN1 + ".mp4"):
        fill(tmp_path / name, "new")
        atomic.write_bytes(tmp_path / name / "deeper" / name, b"new")
        assert (tmp_path / name / "deeper" / name).read_bytes() == b"new"
    for make in (atomic.new_file, atomic.new_folder):
        with pytest.raises(OutputError, match="name too long"), make(tmp_path / ("n" * 256)):
            pytest.fail("found out too late")
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@POSIX
def test_a_locale_of_ascii_is_no_hindrance(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from avsal import atomic\n"
        "root = Path(sys.argv[1])\n"
        "atomic.write_bytes(root / os.fsdecode(b'caf\\xe9') / os.fsdecode(b'\\xc3\\xa9'), b'x')\n"
        "try:\n    atomic.write_bytes(root / '\\u6f22', b'x')\n"
        "except atomic.OutputError as error:\n    print(ascii(str(error)))\n"
    )
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=ascii_only,
        capture_output=True,
        text=True,
        check=True,
    )
    assert names(tmp_path) == [LATIN1]
    assert names(tmp_path / LATIN1) == ["é"]
    assert "PYTHONUTF8=1" in done.stdout
    assert done.stdout.count("\n") == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from avsal import atomic
with atomic.new_folder(Path(sys.argv[1]) / "out") as folder:
    (folder / "a.txt").write_text("partial")
    with atomic.new_file(Path(sys.argv[1]) / "b.mp4") as file:
        file.write_text("partial")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@POSIX
def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = names(tmp_path)
    assert len(left) == 2
    assert all(name.startswith(atomic.PARTIAL) for name in left)
    atomic.write_bytes(tmp_path / "c.txt", b"")
    assert names(tmp_path) == ["c.txt"]


@POSIX
def test_only_dead_processes_of_this_machine_are_swept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = atomic._HOST
    kept = [
        f"{atomic.PARTIAL}.{host}.{os.getpid()}.0123abcd",
        f"{atomic.PARTIAL}.{host}.{os.getppid()}.0123abcd.mp4",
        f"{atomic.PARTIAL}.other-{host}.{dead.pid}.0123abcd",
        f"{atomic.PARTIAL}.{host}.{dead.pid}",
        f"{atomic.PARTIAL}-notes.txt",
        "notes.txt",
    ]
    swept = f"{atomic.PARTIAL}.{host}.{dead.pid}.0123abcd"
    for name in [*kept, swept]:
        (tmp_path / name).write_text("")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (tmp_path / f"{swept}.link").symlink_to(outside)
    (tmp_path / f"{swept}.folder").mkdir()
    (tmp_path / f"{swept}.folder" / "a.txt").write_text("")
    atomic.prepare_folder(tmp_path)
    assert names(tmp_path) == sorted([*kept, "outside"])
    assert names(outside) == ["mine.txt"]


@pytest.mark.parametrize("name", ["Talk 1", "a.b", "..a", "\u0646\u200c\u0645", LATIN1, "x" * 300])
def test_a_name_of_a_list_becomes_a_part_of_a_path_as_it_is(name):
    assert atomic.path_part(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "...", " ", "../up", "a/b", "a\\b", "/etc", "C:", "C:x", "a\0b", "a\nb"]
)
def test_a_name_that_leads_elsewhere_is_refused_in_one_line(name):
    with pytest.raises(UsageError) as refusal:
        atomic.path_part(name)
    assert str(refusal.value).isprintable()


def test_only_what_the_command_wrote_is_replaced(tmp_path):
    fill(tmp_path / "out", "old")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"out: holds notes\.txt, so it is not an earlier result"):
        fill(tmp_path / "out", "new")
    assert names(tmp_path / "out") == ["a.txt", "notes.txt"]
    assert names(tmp_path) == ["out"]


def test_what_came_in_while_a_result_was_made_is_kept(tmp_path):
    fill(tmp_path / "out", "old")
    with (
        pytest.raises(OutputError, match="holds notes"),
        atomic.new_folder(tmp_path / "out", own) as aside,
    ):
        (aside / "a.txt").write_text("new")
        (tmp_path / "out" / "notes.txt").write_text("mine")
    assert names(tmp_path / "out") == ["a.txt", "notes.txt"]
    assert names(tmp_path) == ["out"]


def test_what_came_in_in_the_last_moment_moves_to_the_new_folder(tmp_path, monkeypatch):
    fill(tmp_path / "out", "old")
    replace = Path.replace

    def late(self, target):
        if self.name == "out":
            (self / "notes.txt").write_text("mine")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", late)
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["out"]


@POSIX
def test_a_link_to_a_folder_stays_one(tmp_path):
    fill(tmp_path / "disk" / "out", "old")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "out" / "a.txt").read_text() == "new"
    assert names(tmp_path / "disk") == ["out"]


def test_single_names_of_a_folder_may_be_checked(tmp_path):
    fill(tmp_path, "old")
    (tmp_path / "b.bin").write_text("mine")
    atomic.check_replaceable(tmp_path, own, ["a.txt", "c.bin"])
    with pytest.raises(OutputError, match="holds b\\.bin"):
        atomic.check_replaceable(tmp_path, own, ["a.txt", "b.bin"])


@POSIX
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(OutputError, match="is a pipe or a device; give the name of a file"):
        atomic.write_bytes(tmp_path / "a.mp4", b"new")
    assert (tmp_path / "a.mp4").is_fifo()
