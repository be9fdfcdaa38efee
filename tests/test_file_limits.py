"""A file that may not grow any more, as on a full disk, without a disk to fill."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import samples

COMMANDS = {"overlay": ["films/a.mp4", "-o", "out/a.mp4"], "batch": ["films", "-o", "out"]}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="limits as POSIX has them")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_may_not_grow_is_one_line(tmp_path: Path, command: str) -> None:
    """Writing fails in the middle of a file, here after its first 1,000 bytes."""
    (tmp_path / "films").mkdir()
    samples.film(tmp_path / "films" / "a.mp4", seconds=1)
    child = subprocess.run(
        [sys.executable, "-m", "avsal", command, *COMMANDS[command], "--stride", "8"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert child.returncode == 1, child.stderr
    (told,) = (line for line in child.stderr.splitlines() if line.startswith("error: "))
    assert told.startswith("error: out/a")
    assert "cannot be written" in told and "unexpected" not in told
    assert list((tmp_path / "out").iterdir()) == []
