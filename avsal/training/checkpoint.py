"""What a training run leaves in its folder: checkpoints and its log."""

from __future__ import annotations

import csv
import errno
import json
import logging
import math
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsal.atomic import new_file, write_errors
from avsal.errors import UsageError, WeightsError
from avsal.training.config import Config, NetworkSettings, expand
from avsal.training.objectives import Objective
from avsal.weights.convert import describe
from avsal.weights.loading import without_heads
from avsal.weights.places import resolve
from avsal.weights.state import load_plain, read_state, write_state

STEPS, EPOCHS = "steps.csv", "epochs.csv"
Row = dict[str, float]
logger = logging.getLogger("avsal")
LAST = "last.pt"
START_OVER = "start over with --fresh"
BEST = "best.safetensors"

# Settings that may differ when a run resumes: where it runs and what it tells, not what it learns.
FREE = (
    "run.output run.device run.workers run.checkpoint_steps run.log_steps run.tensorboard "
    "network.initial schedule.validate_every"
).split()

FREE_ENDS = (".root",)

# What a checkpoint holds.
STATE_KEYS = frozenset(
    "task optimiser scaler average position meters random training validation world config".split()
)


class CsvLog:
    """A CSV file with a column "step" that a resumed run continues."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        """Open the file, without the rows after `step`: the run will write them again.

        Raises:
            OutputError: it cannot be written.
        """
        self.path = path
        self._columns = columns
        kept = [row for row in read_rows(path) if row["step"] <= step]
        with new_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({key: _text(row.get(key)) for key in columns} for row in kept)

    def write(self, row: Row) -> None:
        """Append one row; raises OutputError."""
        with write_errors(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            values = {key: _text(row.get(key)) for key in self._columns}
            csv.DictWriter(file, self._columns).writerow(values)


def holds_a_run(folder: Path) -> bool:
    """Whether a run has written its log into a folder."""
    try:
        with (folder / STEPS).open(encoding="utf-8") as file:
            return file.readline(200).startswith("step,epoch,learning_rate,")
    except (OSError, ValueError):
        return False


def _text(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(int(value)) if value == int(value) else repr(float(value))


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV log, none where there is no file; cells without a value are omitted."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: float(value) for key, value in row.items() if key and value}
            for row in csv.DictReader(file)
            if row.get("step")
        ]


class Events:
    """TensorBoard's event files, or nothing."""

    def __init__(self, folder: Path, wanted: bool, step: int) -> None:
        """Open the event files of a run that stands at `step`.

        Raises:
            UsageError: TensorBoard is wanted and not installed.
        """
        self._writer: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UsageError(
                    'run.tensorboard: TensorBoard is missing; pip install "avsal[train]"'
                ) from None
            self._writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def write(self, group: str, row: Row) -> None:
        """Add the values of a row at its step."""
        if self._writer is not None:
            for key, value in row.items():
                if key != "step" and not math.isnan(value):
                    self._writer.add_scalar(f"{group}/{key}", value, int(row["step"]))

    def close(self) -> None:
        """Write out what is pending."""
        if self._writer is not None:
            self._writer.close()


try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while the block lasts; the system ends that with the process.

    Raises:
        UsageError: another run is in it.
    """
    if fcntl is None:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder}: another run writes into it; wait for its end, or choose another "
                "run.output"
            ) from None
        except OSError:  # a file system without locks
            logger.debug("%s: cannot be locked", folder)
        yield
    finally:
        os.close(handle)


def all_finite(state: object) -> bool:
    """Whether every number of the tensors in nested containers is finite."""
    if isinstance(state, torch.Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, Mapping):
        return all(map(all_finite, state.values()))
    return not isinstance(state, list | tuple) or all(map(all_finite, state))


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the old one stays until the new one is whole on the disk.

    Raises:
        OutputError: it cannot be written.
    """
    with new_file(path) as aside, aside.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(errno.EIO, "torch could not complete it") from error
        file.flush()
        os.fsync(file.fileno())


def read_checkpoint(path: Path, config: Config) -> dict[str, Any]:
    """Read a checkpoint of a run with the same settings.

    Raises:
        WeightsError: the file cannot be resumed from.
        UsageError: the run had other settings.
    """
    state = _whole_state(path)
    before, now = (
        dict(_flat(json.loads(state["config"]))),
        dict(_flat(config.model_dump(mode="json"))),
    )
    free = [*FREE, *(["schedule.epochs"] if config.schedule.kind == "step" else [])]
    for key in sorted(before.keys() | now.keys()):
        fixed = key.split("[")[0] not in free and not key.endswith(FREE_ENDS)
        if fixed and before.get(key) != now.get(key):
            raise UsageError(
                f"{path}: was made with {key} = {before.get(key)!r}, not {now.get(key)!r}; choose "
                "another run.output, or start over with --fresh"
            )
    return state


def _whole_state(path: Path) -> dict[str, Any]:
    try:
        state = load_plain(path)
    except WeightsError:
        raise WeightsError(f"{path}: is damaged, so the run cannot resume; {START_OVER}") from None
    if not isinstance(state, dict) or not state.keys() >= STATE_KEYS:
        raise WeightsError(f"{path}: was written by another version or program; {START_OVER}")
    if not all_finite(state):
        raise WeightsError(f"{path}: holds numbers that are not finite; {START_OVER}")
    return state


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{key}[{place}]")
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


def load_initial(objective: Objective, settings: NetworkSettings) -> None:
    """Lay the files of `network.initial` over random weights, later ones over earlier.

    Raises:
        WeightsError: a file is missing or damaged, or does not fit.
    """
    loaded: set[str] = set()
    for name in settings.initial:
        loaded |= _lay_over(objective, resolve(expand(name)))
    for part in objective.frozen:
        if not any(name.startswith(f"{part}.") for name in loaded):
            logger.warning(
                "%s is frozen with random weights; give its file in network.initial", part
            )


def _lay_over(objective: Objective, path: Path) -> set[str]:
    """Load one file; returns the names that it had for the objective."""
    state = read_state(path)[0]
    own = objective.core.state_dict()
    chosen = {name: tensor for name, tensor in state.items() if name in own}
    if not chosen:
        raise WeightsError(f"{path}: none of its {len(state)} names belongs to the network")
    unknown = [name for name in state if name not in own and not objective.may_lack(name)]
    if unknown:
        raise WeightsError(
            f"{path}: {len(unknown)} names are not the network's: {unknown[0]}; is it another "
            "variant's?"
        )
    for name, tensor in chosen.items():
        if tensor.shape != own[name].shape:
            found, wanted = tuple(tensor.shape), tuple(own[name].shape)
            raise WeightsError(f"{path}: {name} is {found} instead of {wanted}")
    objective.core.load_state_dict(chosen, strict=False)
    return set(chosen)


def export(objective: Objective, path: Path, config: Config, **notes: object) -> None:
    """Write an objective's weights without training heads as safetensors.

    A whole network's file is for `avsal predict --weights`, an image run's for network.initial.

    Args:
        notes: further entries of the file's metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {**describe(objective.variant.name), **objective.notes}
    if config.network.changes:
        metadata["changes"] = json.dumps(config.network.changes)
    metadata["training"] = config.model_dump_json()
    metadata |= {key: str(value) for key, value in notes.items()}
    write_state(path, without_heads(dict(objective.core.state_dict())), metadata)
