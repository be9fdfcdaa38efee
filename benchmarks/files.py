"""Which files of avsal run again and again for the frames of `avsal predict`: a trace of its calls.

    python benchmarks/files.py VIDEO --stride 1

Two runs, over one and over two seconds; what is called more often in the second serves the frames.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

import avsal
from avsal.cli import app

PACKAGE = Path(avsal.__file__).parent


def calls(seconds: int) -> tuple[Counter[str], int]:
    """How often functions of each file are called, and how many frames got a map."""
    found: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            found[frame.f_code.co_filename] += 1

    with tempfile.TemporaryDirectory() as folder:
        threading.setprofile(count)
        sys.setprofile(count)
        given = ["predict", *sys.argv[1:], "--end", str(seconds), "-o", folder, "--quiet"]
        app(given, standalone_mode=False)
        sys.setprofile(None)
        return found, len(list(Path(folder).rglob("*.png")))


def main() -> None:
    calls(1)  # what runs once in a process only is done now
    (short, few), (long, many) = calls(1), calls(2)
    frames = many - few
    more = {Path(name): (times - short[name]) / frames for name, times in long.items()}
    often = {
        path: rate for path, rate in more.items() if path.is_relative_to(PACKAGE) and rate >= 0.5
    }
    print(f"{len(often)} files run for every frame or two; calls a frame:")
    for path, rate in sorted(often.items()):
        print(f"  {path.relative_to(PACKAGE)}  {rate:.1f}")


if __name__ == "__main__":
    main()
