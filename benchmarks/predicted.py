"""Maps of a data set for the benchmarks, made with the weights that are to be measured."""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", help="file or name; without them maps are taken as they are")
    parser.add_argument("--names", type=Path, action="append", help="list of files or names to use")


def make_maps(sources: Path, maps: Path, options: argparse.Namespace) -> None:
    """Predict what has no maps yet, at the network's size; `sources` is a folder of files."""
    if options.weights is None:
        return
    wanted = [
        str(path)
        for path in sorted(sources.iterdir())
        if chosen(path.stem, options.names) and not (maps / path.stem).is_dir()
    ]
    if wanted:
        command = [sys.executable, "-m", "avsal", "predict", *wanted, "-o", str(maps)]
        settings = ["--weights", options.weights, "--size", "model", "--format", "npy"]
        subprocess.run([*command, *settings], check=True, stdout=subprocess.DEVNULL)


def chosen(name: str, lists: list[Path] | None) -> bool:
    """Whether lists name a file, with or without its suffix; without lists every one is."""
    if not lists:
        return True
    return any(name in listed(path) for path in lists)


@functools.cache
def listed(path: Path) -> frozenset[str]:
    """The names in a list, without suffixes."""
    return frozenset(Path(line).stem for line in path.read_text().split())
