"""Runs that are killed at any moment, and disks that fill up: what is left is whole or nothing."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import samples

from avsal.media import VideoReader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals and limits as POSIX has them"),
]

FRAMES = 40
ROOM = 200_000  # bytes of the small file system
LEFT = 6_000  # bytes of it that are free: less than the smallest result takes
COMMANDS = {
    "predict": ["predict", "films/a.mp4", "films/b.mp4", "-o", "out"],
    "overlay": ["overlay", "films/a.mp4", "-o", "out/a.mp4"],
    "batch": ["batch", "films", "-o", "out"],
}


def start(command: str, folder: Path, **options: object) -> subprocess.Popen[str]:
    code = "from avsal.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *COMMANDS[command], "--stride", "4"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    for name in ("a.mp4", "b.mp4"):
        samples.film(tmp_path / "films" / name, seconds=FRAMES / 25)
    return tmp_path


def check_finals(out: Path) -> int:
    """Whatever stands under a final name is whole; the number of such results."""
    results = 0
    for result in (path for path in out.glob("*") if not path.name.startswith(".")):
        if result.is_dir():
            described = json.loads((result / "saliency.json").read_text())
            assert len(described["frames"]) == len(list(result.glob("*.png"))) == FRAMES
        else:
            with VideoReader(result) as video:
                assert sum(1 for _ in video) == FRAMES
        results += 1
    return results


def partials(out: Path) -> list[str]:
    return [path.name for path in out.rglob(".*")]


@pytest.mark.parametrize(
    ("command", "ways"),
    [
        ("predict", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]),
        ("overlay", [signal.SIGKILL, signal.SIGTERM]),
        ("batch", [signal.SIGKILL]),
    ],
)
def test_a_killed_run_leaves_nothing_half_done(
    folder: Path, command: str, ways: list[signal.Signals]
) -> None:
    """From the moment on that something is being written, which takes seconds to come."""
    choose = random.Random(command)
    for way in ways:
        child = start(command, folder)
        mine = f".{child.pid}."
        while child.poll() is None and not any(mine in name for name in partials(folder / "out")):
            time.sleep(0.005)
        time.sleep(choose.random() * 0.15)
        child.send_signal(way)
        _, errors = child.communicate(timeout=60)
        assert "Traceback" not in errors
        check_finals(folder / "out")
        left = partials(folder / "out")
        assert len(left) <= (way == signal.SIGKILL), left
        shutil.rmtree(folder / "out" / "a", ignore_errors=True)
        (folder / "out" / "a.mp4").unlink(missing_ok=True)
    child = start(command, folder)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    assert check_finals(folder / "out") == (1 if command == "overlay" else 2)
    assert partials(folder / "out") == []  # what the killed ones left is gone


@pytest.mark.parametrize("command", ["overlay", "batch"])
def test_a_file_that_may_not_grow_is_one_line(folder: Path, command: str) -> None:
    """As on a full disk, a write fails in the middle of a file; here at its first 1,000 bytes."""
    child = start(
        command,
        folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    _, errors = child.communicate(timeout=120)
    check_refused(child.returncode, errors, folder / "out", 1 if command == "overlay" else 2)


@pytest.mark.parametrize("command", ["overlay", "batch"])
def test_a_full_disk_is_one_line(folder: Path, command: str) -> None:
    out = folder / "out"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "avsal-test", out]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    try:
        filler = out / "filler"
        filler.write_bytes(bytes(ROOM - LEFT))
        child = start(command, folder)
        _, errors = child.communicate(timeout=120)
        filler.unlink()
        check_refused(child.returncode, errors, out, 1 if command == "overlay" else 2)
    finally:
        subprocess.run(["umount", out], check=True)


def check_refused(code: int, errors: str, out: Path, count: int) -> None:
    assert code == 1, errors
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(told) == count, errors
    assert all("cannot be written" in line and "out/" in line for line in told)
    assert "unexpected" not in errors
    assert list(out.glob("*")) == []
    assert partials(out) == []
