"""Files of a training run: its log, checkpoints to resume from, initial and exported weights."""

from __future__ import annotations

import csv
import errno
import json
import logging
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError

from avsal.atomic import new_file, write_errors
from avsal.datasets.recording import Recording, recording_digest
from avsal.errors import UsageError, WeightsError
from avsal.training.config import Config, NetworkSettings, expand
from avsal.weights.convert import describe
from avsal.weights.loading import compare, shapes_of, without_heads
from avsal.weights.places import resolve
from avsal.weights.state import load_plain, read_state, write_state

if TYPE_CHECKING:
    from avsal.training.objectives import Objective

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("avsal")

STEPS, EPOCHS = "steps.csv", "epochs.csv"
LAST, BEST = "last.pt", "best.safetensors"
START_OVER = "start over with --fresh"
_OTHER_VERSION = "was written by another version or program"
Row = dict[str, float]

# Settings that may change when a run resumes, as they have no influence on what it learns.
FREE = (
    "run.output run.device run.workers run.checkpoint_steps run.log_steps run.tensorboard "
    "network.initial schedule.validate_every"
).split()

FREE_ENDS = (".root",)
# Fields of a recording that may change too: gaze on other recordings, and the path of a table.
NOT_IDENTITY = ("other_gaze", "table")
# Contents of a checkpoint.
STATE_KEYS = frozenset(
    "task optimiser scaler average position meters random training validation world config".split()
)


class CsvLog:
    """A CSV file with a column "step" that a resumed run continues."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        """Open the file and remove the rows after `step`, which the run will write again.

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
    """Rows of a CSV log without their empty cells; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: float(value) for key, value in row.items() if key and value}
            for row in csv.DictReader(file)
            if row.get("step")
        ]


class Events:
    """Writes TensorBoard's event files if it is enabled."""

    def __init__(self, folder: Path, enabled: bool, step: int) -> None:
        """Open the event files of a run that has done `step` steps.

        Raises:
            UsageError: TensorBoard is enabled and not installed.
        """
        self._writer: Any = None
        if enabled:
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
        """Write pending events."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Lock a folder against other runs; the system removes the lock when the process ends.

    Raises:
        UsageError: another run has locked it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder}: another run writes into it; wait until it ends, or choose another "
                "run.output"
            ) from None
        except OSError:  # a file system without locks
            logger.debug("%s: cannot be locked", folder)
        yield
    finally:
        os.close(handle)


def all_finite(state: object) -> bool:
    """Whether all tensors in nested containers are finite."""
    if isinstance(state, torch.Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, Mapping):
        return all(map(all_finite, state.values()))
    return not isinstance(state, list | tuple) or all(map(all_finite, state))


Identities = list[list[str]]  # name and digest of each recording


def identities(recordings: Sequence[Recording]) -> Identities:
    """The recordings' names and digests, in order.

    A digest covers the recorded gaze in memory and the names and sizes of all files, but not their
    folders and times: data may be moved or copied.
    """
    known: dict[int, list[str]] = {}
    for recording in recordings:
        if id(recording) not in known:
            name = f"{recording.database}/{recording.name}"
            digest = recording_digest(recording, _path_text, NOT_IDENTITY)
            known[id(recording)] = [name, digest]
    return [known[id(recording)] for recording in recordings]


def require_same(before: Identities, now: Identities, kind: str, path: Path) -> None:
    """Refuse to resume a run with other data.

    Args:
        kind: "training" or "validation".
        path: the checkpoint.

    Raises:
        UsageError: the data differ; the text names the first recording that does.
    """
    if before == now:
        return
    if len(before) != len(now):
        data = f"{len(before)} {kind} recordings, not {len(now)}"
    else:
        old, new = next((a, b) for a, b in zip(before, now, strict=True) if a != b)
        change = f"other contents of {new[0]}" if old[0] == new[0] else f"{old[0]}, not {new[0]}"
        data = f"other {kind} data ({change})"
    raise UsageError(f"{path}: was made with {data}; resume with the same data, or {START_OVER}")


def _path_text(path: Path) -> str:
    """Name and size of a file, or of the files in a folder."""
    if path.is_dir():
        files = (inside for inside in sorted(path.iterdir()) if inside.is_file())
        return "".join(f"{inside.name} {inside.stat().st_size}\n" for inside in files)
    return f"{path.name} {path.stat().st_size}" if path.is_file() else ""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the old one stays until the new one is completely on the disk.

    Raises:
        OutputError: it cannot be written.
    """
    with new_file(path) as aside, aside.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch raises it if the disk is full
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
    try:
        old = Config.model_validate_json(state["config"])
    except ValidationError:
        raise WeightsError(f"{path}: {_OTHER_VERSION}; {START_OVER}") from None
    before, now = (dict(_flat(each.model_dump(mode="json"))) for each in (old, config))
    free = [*FREE, *(["schedule.epochs"] if config.schedule.kind == "step" else [])]
    for key in sorted(before.keys() | now.keys()):
        fixed = key.split("[")[0] not in free and not key.endswith(FREE_ENDS)
        if fixed and before.get(key) != now.get(key):
            raise UsageError(
                f"{path}: was made with {key} = {before.get(key)!r}, not {now.get(key)!r}; choose "
                f"another run.output, or {START_OVER}"
            )
    return state


def _whole_state(path: Path) -> dict[str, Any]:
    try:
        state = load_plain(path)
    except WeightsError:
        raise WeightsError(f"{path}: is damaged, so the run cannot resume; {START_OVER}") from None
    if not isinstance(state, dict) or not state.keys() >= STATE_KEYS:
        raise WeightsError(f"{path}: {_OTHER_VERSION}; {START_OVER}")
    if not all_finite(state):
        raise WeightsError(f"{path}: holds numbers that are not finite; {START_OVER}")
    return state


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{key}[{index}]")
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
    """Set the generators to what `random_state` returned."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_initial(objective: Objective, settings: NetworkSettings) -> None:
    """Replace random weights by the files of `network.initial`; later files override earlier ones.

    Raises:
        WeightsError: a file is missing or damaged, or does not fit.
    """
    loaded: set[str] = set()
    for name in settings.initial:
        loaded |= _load_file(objective, resolve(expand(name)))
    for part in objective.frozen:
        if not any(name.startswith(f"{part}.") for name in loaded):
            logger.warning(
                "%s is frozen with random weights; give its file in network.initial", part
            )


def _load_file(objective: Objective, path: Path) -> set[str]:
    """Load one file; returns the names of the tensors that were loaded."""
    state, network = read_state(path)[0], objective.core.state_dict()
    loaded = {name: tensor for name, tensor in state.items() if name in network}
    if not loaded:
        raise WeightsError(f"{path}: none of its {len(state)} names belongs to the network")
    diff = compare(shapes_of(network), shapes_of(state))
    unknown = [name for name in diff.unexpected if not objective.ignores(name)]
    if unknown:
        raise WeightsError(
            f"{path}: {len(unknown)} names are not the network's: {unknown[0]}; is it another "
            "variant's?"
        )
    if diff.wrong_shape:
        raise WeightsError(f"{path}: is of another network: {diff.wrong_shape[0]}")
    objective.core.load_state_dict(loaded, strict=False)
    return set(loaded)


def export(objective: Objective, path: Path, config: Config, **notes: object) -> None:
    """Write an objective's weights as safetensors, without training heads.

    The file of a whole network is for `avsal predict --weights`, that of an image run for
    network.initial.

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
