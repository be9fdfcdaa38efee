"""State dicts on disk: safetensors with metadata, PyTorch checkpoints."""

from __future__ import annotations

import hashlib
import io
import mmap
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from avsal import atomic
from avsal.errors import OutputError, WeightsError
from avsal.weights.pickles import globals_of
from avsal.weights.reading import read_errors, require_file

State = dict[str, torch.Tensor]
# Where training programs keep the network inside a checkpoint.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
# What parallel training and torch.compile put before every name.
PREFIXES = ("module.", "_orig_mod.")
DEEPEST_WRAPPER = 4  # one inside the other
FORGOTTEN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")

# All that state dicts are made of. torch's own list is longer: it has, for example, ways to ask for
# any amount of memory.
PLAIN_GLOBALS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.(cuda\.)?\w+Storage|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|serialization\._get_layout)"
    r"|torch\.(u?int|float|bfloat|complex|bool)\w*"
)
ZIP_START = b"PK\x03\x04"  # by which torch tells the two kinds of its files apart
LARGEST_REPEATED = 1 << 28  # bytes of a tensor that repeats fewer values
LARGEST_PICKLE = 64 << 20  # bytes; names, shapes and settings, without the tensors' values
PICKLES_OF_OLD_FILES = 5  # one after the other: magic number, version, machine, content, storages


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
    require_file(path)
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
        WeightsError: the file is damaged, asks for more memory than its size explains, or holds
            objects whose loading could run code.
    """
    require_file(path)
    try:
        _inspect(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's hints to authors of checkpoints
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # whatever a damaged pickle may lead to
        if isinstance(error, pickle.UnpicklingError) and (
            found := FORGOTTEN_GLOBAL.search(str(error))
        ):
            raise _could_run_code(path, found[1]) from None
        raise WeightsError(
            f"{path}: neither safetensors nor a whole PyTorch checkpoint; download it again"
        ) from None


def _inspect(path: Path) -> None:
    """Refuse a checkpoint by what it declares, before any of it is unpacked.

    Raises:
        WeightsError: it asks for too much, or for objects that no state dict needs.
        ValueError, LookupError, BadZipFile: it is damaged.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP_START)) == ZIP_START:
            for content in _archived_pickles(path):
                _inspect_pickle(path, io.BytesIO(content))
            return
        file.seek(0)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pickles:
            for _ in range(PICKLES_OF_OLD_FILES):
                _inspect_pickle(path, pickles)


def _archived_pickles(path: Path) -> Iterator[bytes]:
    """The pickles in an archive; torch packs without compression, so it is no larger than it is."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickles = [entry for entry in entries if entry.filename.lower().endswith("data.pkl")]
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > path.stat().st_size or any(e.file_size > LARGEST_PICKLE for e in pickles):
            raise WeightsError(
                f"{path}: would unpack to {unpacked / 1e6:.0f} MB, more than a checkpoint of this "
                "size holds, so it is refused; save it again with torch.save"
            )
        yield from map(archive.read, pickles)


def _inspect_pickle(path: Path, content: io.BytesIO | mmap.mmap) -> None:
    for name in globals_of(content):
        if not PLAIN_GLOBALS.fullmatch(name):
            raise _could_run_code(path, name)


def _could_run_code(path: Path, name: str) -> WeightsError:
    return WeightsError(
        f"{path}: holds a {name}, and loading such objects can run code, so it is refused; save "
        "only the state dict, on a machine that may trust the file"
    )


def unwrap(loaded: Any, path: Path) -> State:
    """Find the state dict inside a checkpoint and take parallel training's prefixes off.

    Raises:
        WeightsError: there is none, or it holds tensors that take no part of the file.
    """
    for _ in range(DEEPEST_WRAPPER):
        if not isinstance(loaded, Mapping):
            break
        inner = (loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping))
        loaded = next(inner, loaded)
    if not isinstance(loaded, Mapping) or not loaded or not all(map(_is_entry, loaded.items())):
        raise WeightsError(
            f"{path}: holds no state dict (names with tensors), at the top or under "
            f"{', '.join(WRAPPERS)}; save one with torch.save(network.state_dict(), ...)"
        )
    for name, tensor in loaded.items():
        if not _is_plain(tensor):
            raise WeightsError(
                f"{path}: {name} is a sparse, quantised or virtual tensor; save it dense"
            )
    return strip_prefixes(dict(loaded))


def _is_entry(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor has its values in memory; others may stand for any amount of it."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    size = tensor.numel() * tensor.element_size()
    return size <= max(LARGEST_REPEATED, tensor.untyped_storage().nbytes())


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
