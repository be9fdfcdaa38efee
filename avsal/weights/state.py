"""State dicts on disk: safetensors with metadata, PyTorch checkpoints."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from avsal import atomic
from avsal.errors import OutputError, WeightsError
from avsal.weights.reading import read_errors

State = dict[str, torch.Tensor]
# Where training programs keep the network inside a checkpoint.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
# What parallel training and torch.compile put before every name.
PREFIXES = ("module.", "_orig_mod.")
FORGOTTEN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def sha256_of_state(state: State) -> str:
    """Compute the sha256 of the safetensors file, without metadata, that would hold a state."""
    return hashlib.sha256(save(state)).hexdigest()


def read_state(path: Path) -> tuple[State, dict[str, str]]:
    """Read the tensors and the metadata of a safetensors or PyTorch file.

    The content decides which of the two it is. A PyTorch checkpoint is read with
    `weights_only=True` and never otherwise, and has no metadata.

    Raises:
        WeightsError: the file is missing, damaged, or holds something else.
    """
    with read_errors(path):
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{" or path.suffix == ".safetensors":
            return _read_safetensors(path)
        return unwrap(load_plain(path), path), {}


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})


def load_plain(path: Path) -> Any:
    """Unpickle a PyTorch file that holds nothing but tensors and plain containers.

    Raises:
        WeightsError: the file is damaged, or holds objects whose loading could run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := FORGOTTEN_GLOBAL.search(str(error)):
            raise WeightsError(
                f"{path}: holds a {found[1]}, and loading such objects can run code, so it is "
                "refused; save only the state dict, on a machine that may trust the file"
            ) from None
        raise _no_checkpoint(path) from None
    except (OSError, EOFError, LookupError, RuntimeError, ValueError, AttributeError):
        raise _no_checkpoint(path) from None


def _no_checkpoint(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: neither safetensors nor a whole PyTorch checkpoint; download it again"
    )


def unwrap(loaded: Any, path: Path) -> State:
    """Find the state dict inside a checkpoint and take parallel training's prefixes off.

    Raises:
        WeightsError: there is none.
    """
    while isinstance(loaded, Mapping):
        inner = next(
            (loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None
        )
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not loaded or not all(map(_is_entry, loaded.items())):
        raise WeightsError(
            f"{path}: holds no state dict (names with tensors), at the top or under "
            f"{', '.join(WRAPPERS)}; save one with torch.save(network.state_dict(), ...)"
        )
    return strip_prefixes(dict(loaded))


def _is_entry(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


def strip_prefixes(state: State) -> State:
    """Take off each known prefix that all names begin with."""
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def write_state(path: Path, state: State, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; it appears only when whole.

    Raises:
        OutputError: it cannot be written.
    """
    # Views into one storage are legal in a state dict, but not in the file format.
    separate = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with atomic.new_file(path) as aside:
        aside.touch()
        mode = aside.stat().st_mode  # safetensors makes files that only their owner can read
        try:
            save_file(separate, aside, {"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise OutputError(
                f"{path}: cannot be written ({error}); free space or choose another place"
            ) from None
        aside.chmod(mode)
