"""Commands that are killed or run out of disk: nothing partial stands under a final name."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import samples

from avsal.atomic import PARTIAL
from avsal.media import VideoReader
from avsal.results.description import DESCRIPTION
from avsal.results.folder import read_result

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and file systems")

FRAMES = 12


@pytest.fixture
def footage(tmp_path):
    """A folder of two videos with sound and a still image."""
    root = tmp_path / "footage"
    (root / "sub").mkdir(parents=True)
    samples.film(root / "a.mp4", seconds=1.2, rate=10)
    samples.film(root / "sub" / "b.mp4", seconds=1.2, rate=10)
    samples.still(root / "sub" / "c.jpg")
    return root


def command(kind: str, footage: Path, out: Path) -> list[object]:
    film = footage / "a.mp4"
    return {
        "predict": ["predict", film, "-o", out, "--scale", "clip"],
        "overlay": ["overlay", film, "-o", out / "a.mp4"],
        "batch": ["batch", footage, "-o", out, "--format", "video"],
    }[kind]


def files_in(out: Path) -> list[Path]:
    """All files and folders; a worker of a killed command may still be cleaning up."""
    while True:
        try:
            return sorted(out.rglob("*"))
        except FileNotFoundError:
            time.sleep(0.01)


def partials(out: Path) -> list[str]:
    return [str(path) for path in files_in(out) if path.name.startswith(PARTIAL)]


def check_finished(out: Path) -> int:
    """Everything under a final name is whole; returns how many results there are."""
    results = 0
    for path in files_in(out):
        if any(part.startswith(PARTIAL) for part in path.relative_to(out).parts):
            continue
        if path.name == DESCRIPTION:
            maps = list(read_result(path.parent).densities())
            assert len(maps) == (1 if path.parent.name == "c" else FRAMES)
            results += 1
        elif path.is_file() and path.parent == out:
            with VideoReader(path) as video:
                assert len(list(video)) == FRAMES
            results += 1
        elif path.is_dir() and path.name in ("a", "b", "c"):
            assert (path / DESCRIPTION).is_file(), f"{path} is no whole result"
    return results


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["predict", "overlay", "batch"])
def test_a_command_that_is_killed_leaves_nothing_partial(avsal_process, footage, tmp_path, kind):
    whole = tmp_path / "whole"
    began = time.monotonic()
    process, output = avsal_process(*command(kind, footage, whole))
    process.join(timeout=60)
    took = time.monotonic() - began
    assert process.exitcode == 0, output()
    expected = check_finished(whole)
    assert expected == (3 if kind == "batch" else 1)

    choose = random.Random(kind)
    for number in (signal.SIGKILL, signal.SIGTERM):
        out = tmp_path / number.name
        stopped = 0
        for _round in range(4):
            process, output = avsal_process(*command(kind, footage, out))
            process.join(timeout=choose.uniform(0.2, 1.0) * took)
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
            process.join(timeout=60)
            assert process.exitcode in (0, -number, 128 + number), output()
            assert "Traceback" not in output()
            stopped += process.exitcode != 0
            if out.is_dir():
                check_finished(out)
            if number == signal.SIGTERM and out.is_dir():
                assert not partials(out)
        assert stopped, "every run was over before it was killed"
        process, output = avsal_process(*command(kind, footage, out))
        process.join(timeout=60)
        assert process.exitcode == 0, output()
        assert check_finished(out) == expected
        assert not partials(out)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_clean_up_and_tell_their_number(avsal_process, tmp_path, name):
    film = samples.film(tmp_path / "a.mp4", seconds=20, rate=10)  # never over before the signal
    out = tmp_path / "out"
    number = getattr(signal, name)
    process, output = avsal_process("predict", film, "-o", out)
    deadline = time.monotonic() + 60
    while not (out.is_dir() and partials(out)) and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, number)
    process.join(timeout=60)
    assert process.exitcode == 128 + number, output()
    assert list(out.iterdir()) == []
    assert "Traceback" not in output()


@pytest.fixture
def small_disk(tmp_path):
    """An empty file system of 300 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["png", "png16", "npy", "video"])
@pytest.mark.parametrize("scale", ["frame", "clip"])
def test_a_full_disk_is_one_line_and_is_left_as_it_was(
    avsal_process, small_disk, tmp_path, format, scale
):
    pictures = [samples.moving_noise(index, 320, 240) for index in range(3)]
    film = samples.lossless(tmp_path / "film.mkv", pictures, "yuv420p")
    ballast = small_disk / "mine.bin"
    ballast.write_bytes(bytes(290_000))
    out = small_disk / "out"
    options = ("--format", format, "--scale", scale, "--size", "640x480")
    process, output = avsal_process("predict", film, "-o", out, *options)
    process.join(timeout=60)
    assert process.exitcode == 1, output()
    (line,) = output().splitlines()
    assert line.startswith(f"error: {out / 'film'}")
    assert "no space left on device" in line
    assert {path.name for path in small_disk.rglob("*")} == {"mine.bin", "out"}
    assert ballast.stat().st_size == 290_000


@pytest.mark.slow
def test_a_full_disk_stops_an_overlay_in_one_line(avsal_process, small_disk, tmp_path):
    pictures = [samples.moving_noise(index, 320, 240) for index in range(8)]
    film = samples.lossless(tmp_path / "film.mkv", pictures, "yuv420p")
    out = small_disk / "film.mp4"
    process, output = avsal_process("overlay", film, "-o", out, "--crf", "0")
    process.join(timeout=60)
    assert process.exitcode == 1, output()
    (line,) = output().splitlines()
    assert line.startswith(f"error: {out}: cannot be written (no space left on device)")
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["predict", "overlay"])
def test_a_file_that_may_not_grow_is_one_line(avsal_process, footage, tmp_path, kind):
    """As on a full disk a write fails in the middle of a file; needs no right to mount."""
    out = tmp_path / "out"
    process, output = avsal_process(*command(kind, footage, out), file_limit=1000)
    process.join(timeout=60)
    assert process.exitcode == 1, output()
    (line,) = output().splitlines()
    assert line.startswith(f"error: {out}/a")
    assert "cannot be written (file too large)" in line
    assert not [path for path in out.rglob("*") if path.is_file()]
    assert not partials(out)
