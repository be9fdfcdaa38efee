"""What training tests compare runs by."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from safetensors import safe_open


def log_rows(folder: Path, name: str = "steps.csv") -> list[dict[str, str]]:
    """Rows of a run's log."""
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Tensors that a run exported."""
    with safe_open(folder / "best.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def checkpoint(folder: Path) -> dict:
    """What a run resumes from."""
    return torch.load(folder / "last.pt", weights_only=True)


def same(first: object, second: object) -> bool:
    """Whether two nested states hold the same values, bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
