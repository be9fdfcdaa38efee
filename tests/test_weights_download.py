"""Downloads at the same time as others, or after others that did not end well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from release_server import running_github

from avsal.errors import OutputError, WeightsError
from avsal.weights import reading
from avsal.weights.download import WebFile, use_download

CONTENT = os.urandom(3 << 20)


@pytest.fixture
def github():
    with running_github() as server:
        server.files["x.pt"] = CONTENT
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("avsal.weights.download.PAUSE", 0)
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def left(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def read(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.parametrize("digest", [True, False], ids=["sha256 known", "nothing known"])
@pytest.mark.parametrize("tags", [True, False], ids=["ETag", "no ETag"])
def test_the_same_address_twice_at_once(github, home, digest, tags):
    """The second one begins while the first is in the middle, and the first reads its file last."""
    import hashlib

    github.tags = tags
    file = WebFile(
        f"{github.url}/download/x.pt",
        "x.pt",
        len(CONTENT) if digest else None,
        hashlib.sha256(CONTENT).hexdigest() if digest else None,
    )
    half_way, other_began, other_ended = (threading.Event() for _ in range(3))

    def stop_half_way(here: int, _total: int | None) -> None:
        if here > len(CONTENT) // 2 and not half_way.is_set():
            half_way.set()
            assert other_began.wait(20)

    def stop_at_the_start(_here: int, _total: int | None) -> None:
        if not other_began.is_set():
            other_began.set()
            assert first_received.wait(20)

    first_received = threading.Event()

    def read_last(path: Path) -> bytes:
        first_received.set()
        assert other_ended.wait(20)
        return path.read_bytes()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(use_download, file, read_last, stop_half_way)
        assert half_way.wait(20)
        second = pool.submit(use_download, file, read, stop_at_the_start)
        assert second.result(30) == CONTENT
        other_ended.set()
        assert first.result(30) == CONTENT
    assert left(home) == []


def failing(error: Exception) -> Callable[[Path], bytes]:
    def use(_path: Path) -> bytes:
        raise error

    return use


def test_what_could_not_be_used_is_not_downloaded_again(github, home):
    file = WebFile(f"{github.url}/download/x.pt", "x.pt")
    with pytest.raises(OutputError):
        use_download(file, failing(OutputError("disk full")))
    assert use_download(file, read) == CONTENT
    assert github.requests[1:] == [f"GET /download/x.pt from {len(CONTENT)}"]
    assert left(home) == []


def test_wrong_content_is_not_kept(github, home):
    with pytest.raises(WeightsError, match="no weights"):
        use_download(
            WebFile(f"{github.url}/download/x.pt", "x.pt"), failing(WeightsError("no weights"))
        )
    assert left(home) == []


def test_nothing_is_kept_that_could_belong_to_another_version(github, home):
    github.tags, github.fault = False, "cut"
    file = WebFile(f"{github.url}/download/x.pt", "x.pt")
    with pytest.raises(WeightsError, match=r"cannot be downloaded .*; try again$"):
        use_download(file, read)
    assert left(home) == []
    github.fault = "cut once"
    assert use_download(file, read) == CONTENT
    assert all(" from " not in request for request in github.requests)


def test_a_server_that_sends_the_rest_of_another_version(github, home):
    """It understands Range, but not If-Range."""
    github.fault = "cut"
    file = WebFile(f"{github.url}/download/x.pt", "x.pt")
    with pytest.raises(WeightsError, match=r"same command.* resume"):
        use_download(file, read)
    github.fault, github.conditions = "", False
    github.files["x.pt"] = new = os.urandom(len(CONTENT))
    assert use_download(file, read) == new


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_the_part_of_a_killed_process_is_discarded(github, home):
    code = """
import os, signal, sys
from avsal.weights.download import WebFile, use_download
kill = lambda here, total: here > 1 << 20 and os.kill(os.getpid(), signal.SIGKILL)
use_download(WebFile(sys.argv[1], "x.pt"), print, kill)
"""
    url = f"{github.url}/download/x.pt"
    environment = {**os.environ, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code, url]
    killed = subprocess.run(command, env=environment, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(left(home)) == 1
    assert use_download(WebFile(url, "x.pt"), read) == CONTENT
    assert left(home) == []


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    says = r"x\.safetensors: .*changed while"
    with pytest.raises(WeightsError, match=says), reading.unchanged(path):
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").replace(path)
