"""Saving everything that decides how a run goes on, and making it go on from there."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsal.errors import UsageError
from avsal.training.config import Config
from avsal.weights.state import load_plain

LAST = "last.pt"
BEST = "best.safetensors"

# Settings that may differ when a run goes on: where it runs and what it tells, not what it learns.
FREE = (
    "run.output run.device run.workers run.checkpoint_steps run.tensorboard network.initial "
    "schedule.validate_every"
).split()
FREE_ENDS = (".root",)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the old one stays until the new one is whole on the disk."""
    aside = path.with_name(f".partial-{path.name}")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def read_checkpoint(path: Path, config: Config) -> dict[str, Any]:
    """Read a checkpoint of a run with the same settings.

    Raises:
        WeightsError: the file is damaged.
        UsageError: the run had other settings.
    """
    state: dict[str, Any] = load_plain(path)
    before, now = dict(_flat(json.loads(state["config"]))), dict(_flat(plain(config)))
    free = [*FREE, *(["schedule.epochs"] if config.schedule.kind == "step" else [])]
    for key in sorted(before.keys() | now.keys()):
        fixed = key.split("[")[0] not in free and not key.endswith(FREE_ENDS)
        if fixed and before.get(key) != now.get(key):
            raise UsageError(
                f"{path}: was made with {key} = {before.get(key)!r}, not {now.get(key)!r}; choose "
                "another run.output, or start over with --fresh"
            )
    return state


def plain(config: Config) -> dict[str, Any]:
    """Settings as JSON has them."""
    return config.model_dump(mode="json")


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(each, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _flat(each, f"{key}[{place}]")
    else:
        yield key, value


def random_state() -> dict[str, Any]:
    """State of this process's global random generators, as plain values."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Undo everything that happened to the generators since `random_state`."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_everything(seed: int) -> None:
    """Set all global generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
