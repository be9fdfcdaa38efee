"""The real Hub client against a small Hub on this machine.

Each command runs in its own process, because the client reads its settings when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import COMMIT, OLD_COMMIT, REPO, running_hub

NAME = "mspi-s3d"
FILE = f"{NAME}.safetensors"
CONTENT = b"not really weights " * 5000
IMPATIENT = """
from functools import partial
from avsal.weights import places
places.unreachable = partial(places.unreachable, seconds=1)
"""
PINNED = """
import dataclasses
from avsal.weights import registry
row = dataclasses.replace(registry.REGISTRY["{name}"], sha256="{sha256}")
registry.REGISTRY["{name}"] = row
"""


class Machine:
    """A person's machine: empty caches, and the Hub's address in its environment."""

    def __init__(self, hub, home: Path) -> None:
        self.hub = hub
        self.home = home
        kept = ("PATH", "LANG", "SYSTEMROOT", "PYTHONPATH", "VIRTUAL_ENV")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "AVSAL_HOME": str(home / "avsal"),
            "AVSAL_HUB_REPO": REPO,
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def run(self, *arguments: str, before: str = "", **environment: str):
        """Run `avsal` with the arguments, after the statements in `before`."""
        code = f"{before}\nfrom avsal.cli import main\nmain()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def cached_files(self) -> list[str]:
        """Names of the whole and half-written files in the Hub's cache."""
        blobs = (self.home / "hf").rglob("blobs/*")
        return [path.name for path in blobs if path.is_file()]


@pytest.fixture
def hub():
    with running_hub() as hub:
        hub.files["main", FILE] = CONTENT
        hub.files["old", FILE] = CONTENT[:100]
        yield hub


@pytest.fixture
def machine(hub, tmp_path) -> Machine:
    return Machine(hub, tmp_path)


def fails(result, *parts: str, code: int = 1) -> None:
    """One line on stderr with all parts, and the exit code."""
    assert result.returncode == code, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stdout == ""
    for part in parts:
        assert part in result.stderr


def test_pull_downloads_once_and_path_finds_it(machine):
    first = machine.run("weights", "pull", NAME)
    assert first.returncode == 0, first.stderr
    path = Path(first.stdout.strip())
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(machine.home / "hf")
    second = machine.run("weights", "pull", NAME)
    assert second.stdout == first.stdout
    assert machine.hub.downloads() == 1
    asked = len(machine.hub.requests)
    assert machine.run("weights", "path", NAME).stdout == first.stdout
    assert len(machine.hub.requests) == asked  # `path` does not ask the Hub


@pytest.mark.parametrize("offline", [("--offline", {}), (None, {"HF_HUB_OFFLINE": "1"})])
def test_offline_with_and_without_cache(machine, offline):
    option, environment = offline
    arguments = ["weights", "pull", NAME] + ([option] if option else [])
    empty = machine.run(*arguments, **environment)
    fails(empty, NAME, "offline", f"avsal weights pull {NAME}")
    pulled = machine.run("weights", "pull", NAME)
    asked = len(machine.hub.requests)
    again = machine.run(*arguments, **environment)
    assert again.returncode == 0, again.stderr
    assert again.stdout == pulled.stdout
    assert len(machine.hub.requests) == asked


def test_unreachable_hub(machine):
    begun = time.monotonic()
    result = machine.run("weights", "pull", NAME, HF_ENDPOINT="http://127.0.0.1:9")
    fails(result, NAME, "http://127.0.0.1:9 cannot be reached", "not in the cache")
    assert time.monotonic() - begun < 25  # the client alone would try for half a minute


def test_a_hub_that_never_answers(machine):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = machine.run("weights", "pull", NAME, before=IMPATIENT, HF_ENDPOINT=address)
    fails(result, NAME, "cannot be reached")
    assert time.monotonic() - begun < 25  # of which a busy machine may take most to start


def test_unreachable_hub_with_cache(machine):
    pulled = machine.run("weights", "pull", NAME)
    again = machine.run("weights", "pull", NAME, HF_ENDPOINT="http://127.0.0.1:9")
    assert again.returncode == 0, again.stderr
    assert again.stdout == pulled.stdout


def test_revision(machine):
    result = machine.run("weights", "pull", NAME, "--revision", "old")
    assert Path(result.stdout.strip()).read_bytes() == CONTENT[:100]
    by_commit = machine.run("weights", "pull", NAME, "--revision", OLD_COMMIT)
    assert by_commit.stdout == result.stdout
    fails(machine.run("weights", "pull", NAME, "--revision", "none"), "no revision none")


def test_missing_file_and_missing_repository(machine):
    fails(machine.run("weights", "pull", "mspi-x3dl"), "no file mspi-x3dl.safetensors", REPO)
    missing = machine.run("weights", "pull", NAME, AVSAL_HUB_REPO="no/where")
    fails(missing, "no/where", "does not exist", "AVSAL_HUB_REPO")
    malformed = machine.run("weights", "pull", NAME, AVSAL_HUB_REPO="no where")
    fails(malformed, "owner/name", code=2)


def test_a_hub_without_the_file_names_the_release(machine):
    machine.hub.files.clear()
    command = f"avsal weights pull {NAME} --fold 1"
    fails(machine.run("weights", "pull", NAME), NAME, command)
    fails(machine.run("weights", "pull", NAME, AVSAL_HUB_REPO="no/where"), NAME, command)


def test_no_permission(machine):
    machine.hub.fault = "gated"
    fails(machine.run("weights", "pull", NAME), "needs permission", "hf auth login")


def test_truncated_body_leaves_nothing(machine):
    machine.hub.fault = "short"
    fails(machine.run("weights", "pull", NAME), NAME, "try again")
    assert machine.cached_files() == []
    machine.hub.fault = ""
    assert machine.run("weights", "pull", NAME).returncode == 0


def test_dropped_connection_is_resumed(machine):
    machine.hub.fault = "cut"
    result = machine.run("weights", "pull", NAME)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).read_bytes() == CONTENT
    assert machine.hub.downloads() == 2


def test_altered_content_is_refused_and_removed(machine):
    machine.hub.fault = "altered"
    fails(machine.run("weights", "pull", NAME), "sha256", f"avsal weights pull {NAME}")
    assert machine.cached_files() == []
    fails(machine.run("weights", "path", NAME), "offline")


def test_content_that_is_not_the_published_is_refused(machine):
    wrong = PINNED.format(name=NAME, sha256="0" * 64)
    fails(machine.run("weights", "pull", NAME, before=wrong), "sha256", "not 000000000000")
    assert machine.cached_files() == []
    right = PINNED.format(name=NAME, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert machine.run("weights", "pull", NAME, before=right).returncode == 0


def test_nobody_published_under_the_default_name(machine):
    del machine.environment["AVSAL_HUB_REPO"]
    result = machine.run("weights", "pull", NAME, AVSAL_GITHUB_API="http://127.0.0.1:9")
    fails(
        result, NAME, "http://127.0.0.1:9", "https://github.com/oraclefina/MSPI", "import FILE.pt"
    )
    assert machine.hub.requests == []


def safetensors(metadata: dict[str, str]) -> bytes:
    """A file with one number, written by hand."""
    header = {"__metadata__": metadata, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", 1.0)


def test_push_then_pull(machine, tmp_path):
    file = tmp_path / "mspi-x3dl.safetensors"
    file.write_bytes(safetensors({"variant": "x3dl-224x224"}))
    result = machine.run("weights", "push", str(file), HF_TOKEN=machine.hub.token)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{machine.hub.url}/{REPO}/commit/{COMMIT}",
        f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}",
    ]
    pulled = machine.run("weights", "pull", "mspi-x3dl")
    assert Path(pulled.stdout.strip()).read_bytes() == file.read_bytes()


def test_push_needs_a_token_and_weights_of_avsal(machine, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(safetensors({"variant": "x3dl-224x224"}))
    fails(machine.run("weights", "push", str(file)), REPO, "upload failed", "token")
    file.write_bytes(safetensors({}))
    fails(machine.run("weights", "push", str(file)), "network", "avsal weights import")
    del machine.environment["AVSAL_HUB_REPO"]
    fails(machine.run("weights", "push", str(file)), "--repo", code=2)
