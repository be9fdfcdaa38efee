"""Reading and writing state dicts: safetensors with metadata, and PyTorch checkpoints."""

from __future__ import annotations

import hashlib
import io
import logging
import mmap
import pickle
import re
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import serialization

from avsal import atomic
from avsal.errors import OutputError, WeightsError
from avsal.weights.pickles import (
    PLAIN_CALLS,
    PLAIN_TYPES,
    PLAIN_VALUES,
    Call,
    Copy,
    Filled,
    Storage,
    is_harmless,
    requests_of,
    stand_in,
)
from avsal.weights.reading import archive_of, listed, read_errors, require_file, require_weights
from avsal.weights.registry import SUFFIX

logger = logging.getLogger("avsal")
_SAFE_GLOBALS = threading.Lock()  # all threads share torch's list of permitted objects

State = dict[str, torch.Tensor]
# Keys under which training programs save the network in a checkpoint, and averages of its weights.
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module"),
    *("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema"),
)
AVERAGES = WRAPPERS[-5:]
# Prefixes that parallel training, torch.compile, averaging and Lightning add to every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "ema_model.")
AVERAGED_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
OWN_CHECKPOINT = {"task", "optimiser", "config"}  # keys of avsal's own training checkpoints
DEEPEST_WRAPPER = 4  # nested wrappers
REFUSED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # in an error message of torch
OTHERS_SHOWN = 5
ZIP_START = b"PK\x03\x04"  # first bytes of an archive; torch's older format is not an archive
LARGEST_REPEATED = 1 << 28  # bytes of a tensor that repeats fewer stored values
LARGEST_PICKLE = 64 << 20  # bytes; names, shapes and settings, without the tensors' values
PICKLES_OF_OLD_FILES = 5  # in a row: magic number, version, machine, content, storages


def sha256_of_state(state: State) -> str:
    """Compute the sha256 that a state dict would have as a safetensors file without metadata."""
    return hashlib.sha256(save(state)).hexdigest()


def read_state(path: Path) -> tuple[State, dict[str, str]]:
    """Read the tensors and the metadata of a safetensors or PyTorch file.

    The content decides which of the two it is. A PyTorch checkpoint has no metadata. It is read
    with `weights_only=True`; objects other than tensors are ignored, and nothing is imported for
    them.

    Raises:
        WeightsError: the file is missing, damaged, or something else.
    """
    start = require_weights(path)
    with read_errors(path):
        named = path.suffix == SUFFIX and not start.startswith(ZIP_START)
        if start[8:9] == b"{" or named:
            return _read_safetensors(path)
        loaded, others = load_ignoring(path)
        with _pickle_errors(path):
            return unwrap(loaded, path, others), {}


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})


def load_plain(path: Path) -> Any:
    """Load a PyTorch file that contains only tensors and plain containers.

    Raises:
        WeightsError: the file is damaged, declares more memory than its size explains, or contains
            other objects.
    """
    with _pickle_errors(path):
        if others := _inspect(path).others:
            raise _could_run_code(path, next(iter(others)))
        return _load(path)


def load_ignoring(path: Path) -> tuple[Any, list[str]]:
    """Like `load_plain`, but replace other objects by stand-ins.

    Returns:
        The content of the file, and the names of the other objects.

    Raises:
        WeightsError: the file is damaged, declares more memory than its size explains, or names
            objects that only hostile files contain.
    """
    with _pickle_errors(path):
        inspection = _inspect(path)
        others = list(inspection.others)
        if not others:
            return _load(path), others
        if not _is_archive(path):
            raise _could_run_code(path, others[0])  # torch lists the names in archives only
        with _only_stand_ins(path, inspection):
            return _load(path), others


def _load(path: Path) -> Any:
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # advice to authors of checkpoints
        # For this suffix, torch would go by the name rather than by the content.
        source = file if path.suffix == SUFFIX else path
        return torch.load(source, map_location="cpu", weights_only=True)


@contextmanager
def _only_stand_ins(path: Path, inspection: _Inspection) -> Iterator[None]:
    """Make `torch.load` use stand-ins for all other objects in a file.

    torch has one list of permitted objects for the whole process. What the calling program added to
    it is removed during the `with` block, so that the file cannot call it.

    Raises:
        WeightsError: torch would use an object of its own for one of them.
    """
    with _SAFE_GLOBALS:
        permitted = serialization.get_safe_globals()
        serialization.clear_safe_globals()
        try:
            unknown = set(serialization.get_unsafe_globals_in_checkpoint(path))
            for name in inspection.others:
                if name not in unknown and name not in PLAIN_VALUES:
                    raise WeightsError(
                        f"{path}: contains {name}, which is not a plain tensor; save the state "
                        "dict with dense tensors only"
                    )
            classes: list[Any] = [(stand_in(inspection.filled.get(name)), name) for name in unknown]
            with serialization.safe_globals(classes):
                yield
        finally:
            serialization.add_safe_globals(permitted)


@contextmanager
def _pickle_errors(path: Path) -> Iterator[None]:
    require_file(path)
    try:
        yield
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        if found := REFUSED_GLOBAL.search(str(error)):
            raise _could_run_code(path, found[1]) from None
        raise WeightsError(
            f"{path}: damaged, or contains objects that PyTorch does not load safely; download it "
            "again, or save only the state dict, with the defaults of torch.save"
        ) from None
    except Exception:  # a damaged pickle may raise anything
        raise WeightsError(
            f"{path}: neither safetensors nor a complete PyTorch checkpoint; download it again"
        ) from None


def _inspect(path: Path) -> _Inspection:
    """Find out what a checkpoint declares, and refuse a hostile one before it is unpacked.

    Raises:
        WeightsError: it declares more memory than it has bytes, or does what only hostile files do.
        ValueError, LookupError, BadZipFile: it is damaged.
    """
    size = path.stat().st_size
    if _is_archive(path):
        pickles, storage_sizes = _read_archive(path)
        inspection = _Inspection(path, storage_sizes)
        for content in pickles:
            inspection.read(io.BytesIO(content))
    else:
        inspection = _Inspection(path, None)
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            for _ in range(PICKLES_OF_OLD_FILES):
                inspection.read(mapped)
    for declared in (sum(inspection.storages.values()), inspection.copied):
        if declared > size:
            raise _too_large(path, declared)
    return inspection


def _is_archive(path: Path) -> bool:
    """Tell whether torch reads a file as an archive: it goes by the file's beginning only."""
    with path.open("rb") as file:
        return file.read(len(ZIP_START)) == ZIP_START


def _read_archive(path: Path) -> tuple[list[bytes], dict[str, int]]:
    """Read the pickles in an archive, and the sizes of its storages by key.

    torch does not compress, so an archive is as large as its content.

    Raises:
        WeightsError: it would unpack to more, or is not a checkpoint.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickled = [entry for entry in entries if entry.filename.lower().endswith("data.pkl")]
        if not pickled:
            raise WeightsError(f"{path}: {archive_of([entry.filename for entry in entries])}")
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > path.stat().st_size or any(e.file_size > LARGEST_PICKLE for e in pickled):
            raise _too_large(path, unpacked)
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise WeightsError(
                f"{path}: is a TorchScript program, not a checkpoint; save the network's state dict"
            )
        sizes: dict[str, int] = {}
        for entry in entries:
            folder, _, key = entry.filename.rpartition("/")
            if folder.endswith("/data"):
                sizes[key] = min(entry.file_size, sizes.get(key, entry.file_size))
        return [archive.read(entry) for entry in pickled], sizes


@dataclass
class _Inspection:
    """What the pickles of a checkpoint declare.

    Attributes:
        sizes: bytes of each storage in the file, by key; None if the storages follow the pickles.
        storages: bytes of each storage as the pickles declare them, by key.
        others: names of objects that no state dict needs, in order.
        filled: those of them that values are added to, as to a list or a dictionary.
        copied: number of copied values and characters; each needs at least a byte of the file.
    """

    path: Path
    sizes: dict[str, int] | None
    storages: dict[str, int] = field(default_factory=dict)
    others: dict[str, None] = field(default_factory=dict)
    filled: dict[str, Filled] = field(default_factory=dict)
    copied: int = 0

    def read(self, pickle: io.BytesIO | mmap.mmap) -> None:
        """Inspect one pickle; raises the errors of `_inspect`."""
        for request in requests_of(pickle):
            if isinstance(request, Storage):
                self._add_storage(request)
            elif isinstance(request, Call):
                self._check_call(request.name)
            elif isinstance(request, Copy):
                self.copied += request.size
            elif isinstance(request, Filled):
                self.filled[request.name] = request
            else:
                self._add_global(request.name)

    def _add_global(self, name: str) -> None:
        if PLAIN_CALLS.fullmatch(name) or PLAIN_TYPES.fullmatch(name):
            return
        if not is_harmless(name):
            raise _could_run_code(self.path, name)
        self.others[name] = None

    def _check_call(self, name: str | None) -> None:
        if name is None or PLAIN_TYPES.fullmatch(name):
            raise WeightsError(
                f"{self.path}: calls {name or 'a result'}, which no checkpoint does, so it is "
                "refused; download it again"
            )

    def _add_storage(self, storage: Storage) -> None:
        size = storage.length * _item_size(storage.name)
        self.storages[storage.key] = max(size, self.storages.get(storage.key, 0))
        if self.sizes is not None and size > self.sizes.get(storage.key, 0):
            raise _too_large(self.path, size)


@cache
def _item_size(storage: str) -> int:
    """Return the bytes of a value in a storage; 1 for storages without a type."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these classes are deprecated
        dtype = getattr(getattr(torch, storage.rpartition(".")[2], None), "dtype", None)
    return dtype.itemsize if isinstance(dtype, torch.dtype) else 1


def _too_large(path: Path, size: int) -> WeightsError:
    return WeightsError(
        f"{path}: would unpack to {size / 1e6:.0f} MB, more than a checkpoint of this size holds, "
        "so it is refused; download it again, or save it again with torch.save"
    )


def _could_run_code(path: Path, name: str) -> WeightsError:
    return WeightsError(
        f"{path}: contains {name}, and loading such objects can run code, so it is refused; on a "
        "machine that trusts the file, save only its state dict"
    )


def unwrap(loaded: Any, path: Path, others: Sequence[str] = ()) -> State:
    """Find the state dict in a checkpoint, and remove prefixes that all of its names share.

    Args:
        others: names of the objects that `loaded` has stand-ins for.

    Raises:
        WeightsError: there is none, or its tensors are not stored densely.
    """
    if isinstance(loaded, Mapping) and loaded.keys() >= OWN_CHECKPOINT:
        raise WeightsError(
            f"{path}: is a checkpoint to resume training from; the weights of the run are in "
            f"{path.with_name('best.safetensors')}"
        )
    for _ in range(DEEPEST_WRAPPER):
        inner = _wrapped(loaded, path)
        if inner is None:
            break
        loaded = inner
    entries = loaded.items() if isinstance(loaded, Mapping) else ()
    state = {k: v for k, v in entries if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if not state:
        if others:
            raise _could_run_code(path, others[0])
        raise WeightsError(
            f"{path}: contains no state dict (tensors by name) at the top level or under "
            f"{', '.join(WRAPPERS)}; save one with torch.save(network.state_dict(), ...)"
        )
    for name, tensor in state.items():
        if not _is_plain(tensor):
            raise WeightsError(
                f"{path}: {name} is a sparse, quantised or virtual tensor; save it dense"
            )
    ignored = [*others, *(str(name) for name in loaded if name not in state)]
    if ignored:
        logger.warning("%s: used the tensors, ignored %s", path, listed(ignored, OTHERS_SHOWN))
    return strip_prefixes(state)


def _wrapped(loaded: Any, path: Path) -> Mapping[Any, Any] | None:
    """Return the content of the first known wrapper in a checkpoint."""
    if not isinstance(loaded, Mapping):
        return None
    found = [key for key in WRAPPERS if isinstance(loaded.get(key), Mapping)]
    averages = [key for key in found[1:] if key in AVERAGES]
    if averages and found[0] not in AVERAGES:
        logger.warning(
            "%s: used %s, not the averaged weights under %s; save those alone to use them",
            *(path, found[0], averages[0]),
        )
    if not found and "shadow_params" in loaded:
        raise WeightsError(
            f"{path}: contains averaged weights without their names; copy them into the network "
            "(copy_to) and save its state_dict()"
        )
    return loaded[found[0]] if found else None


def _is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor's values are in memory; other tensors may expand to any size."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    size = tensor.numel() * tensor.element_size()
    return size <= max(LARGEST_REPEATED, tensor.untyped_storage().nbytes())


def strip_prefixes(state: State) -> State:
    """Remove the known prefixes that all names share, and the counter of averaged weights."""
    while True:
        if len(state) > 1:
            state = {name: t for name, t in state.items() if name != AVERAGED_COUNTER}
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            return state
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def write_state(path: Path, state: State, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; it appears only once it is complete.

    Raises:
        OutputError: it cannot be written.
    """
    # Tensors of a state dict may share a storage, which the file format does not allow.
    separate = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with atomic.new_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors would let only the owner read the file
        try:
            save_file(separate, temporary, {"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise OutputError(
                f"{path}: cannot be written ({error}); free space or choose another folder"
            ) from None
        temporary.chmod(mode)
