"""Weights into memory: find the network that a state dict belongs to, and check that it fits."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from avsal import models
from avsal.errors import WeightsError
from avsal.models.variants import VARIANTS, Variant
from avsal.weights.places import (
    expanded,
    imported,
    require_imported,
    resolve,
    shipped,
)
from avsal.weights.reading import read_metadata, sha256_of, unchanged
from avsal.weights.registry import DEFAULT, FOLD, REGISTRY, UNTRAINED, find_row, resolve_variant
from avsal.weights.state import State, read_state, sha256_of_state

logger = logging.getLogger("avsal")

Shapes = dict[str, tuple[int, ...]]
# Heads that only the training loss needs (section 3.4); predictions do without them.
TRAINING_HEADS = ("vis_projector.", "aud_projector.", "mlp_vis.", "mlp_aud.")
NAMES_SHOWN = 3
ANCHOR = "visnet."  # every network has names that begin so
AVERAGED = re.compile(r"ema|averag|swa|teacher|shadow")
COUNTER = "num_batches_tracked"  # of batch normalisation; old and slimmed files lack it
# What version 4 of the default network added: of zeros, it changes no map.
ADDED = "decoder.motion."
SINCE_FIRST = "decoder.habit.share"  # a weight that only the default network has


@dataclass(frozen=True)
class KeyDiff:
    """How a state dict differs from what a network needs; empty (false) where it fits."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[str, ...] = ()  # "name (found) instead of (wanted)"

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.wrong_shape)

    def __str__(self) -> str:
        parts = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of wrong shape", self.wrong_shape),
        )
        return "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in parts if names)


def _first(names: tuple[str, ...]) -> str:
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def shapes_of(state: State) -> Shapes:
    """Names and shapes of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@cache
def _expected(variant: str) -> State:
    with torch.device("meta"):  # no memory is filled
        return dict(models.build(variant).state_dict())


@cache
def expected_shapes(variant: str) -> Shapes:
    """Names and shapes that a network without its training heads needs."""
    return shapes_of(_expected(variant))


def compare(wanted: Shapes, found: Shapes) -> KeyDiff:
    """Find the names and shapes in which two state dicts differ."""
    return KeyDiff(
        tuple(name for name in wanted if name not in found),
        tuple(name for name in found if name not in wanted),
        tuple(
            f"{name} {_shape(found[name])} instead of {_shape(shape)}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape
        ),
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def whole_network(state: State, path: Path | str) -> State:
    """Find a network among the tensors of a training program, and add what its file may lack.

    Lightning and other programs put the name of an attribute before the network's names, and save
    further tensors with them. Counters of batch normalisation do not change predictions.

    Raises:
        WeightsError: there are several networks.
    """
    state = _under_prefix(state, path)
    norms = [name.rpartition(".")[0] for name in state if name.endswith(".running_var")]
    lacking = {f"{norm}.{COUNTER}": torch.tensor(0) for norm in norms}
    if SINCE_FIRST in state:
        shapes = expected_shapes(REGISTRY[DEFAULT].variant)
        lacking |= {name: torch.zeros(shapes[name]) for name in shapes if name.startswith(ADDED)}
    return {**state, **{name: zero for name, zero in lacking.items() if name not in state}}


def _under_prefix(state: State, path: Path | str) -> State:
    starts = [name[: name.index(ANCHOR)] for name in state if ANCHOR in name]
    prefixes = dict.fromkeys(start for start in starts if start == "" or start.endswith("."))
    chosen = [prefix for prefix in prefixes if not AVERAGED.search(prefix)] or list(prefixes)
    if len(chosen) > 1:
        raise WeightsError(
            f"{path}: holds several networks (under {', '.join(chosen)}); save the state dict of "
            "one of them"
        )
    if not chosen or chosen == [""]:
        return state
    (prefix,) = chosen
    found = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    if others := len(state) - len(found):
        logger.warning("%s: read what is under %s, ignored %d others", path, prefix, others)
    return found


def without_heads(state: State) -> State:
    """Drop the training heads."""
    return {name: t for name, t in state.items() if not name.startswith(TRAINING_HEADS)}


def detect(state: State) -> tuple[str, KeyDiff]:
    """Find the variant that a state dict without heads fits best, and how far it is from fitting.

    Networks that differ in their input size only have the same names and shapes; of these the one
    with the largest input is taken.
    """
    found = shapes_of(state)
    best: tuple[str, KeyDiff] | None = None
    for variant in _largest_inputs():
        diff = compare(expected_shapes(variant.name), found)
        if best is None or len(diff) < len(best[1]):
            best = variant.name, diff
        if not diff:
            break
    assert best is not None, "the table of variants is never empty"
    return best


def _largest_inputs() -> list[Variant]:
    """The variants without those that another one differs from by a larger input only."""
    largest: dict[Variant, Variant] = {}
    for variant in VARIANTS.values():
        network = dataclasses.replace(variant, name="", height=0, width=0)
        known = largest.get(network)
        if known is None or variant.height * variant.width > known.height * known.width:
            largest[network] = variant
    return list(largest.values())


def check(state: State, variant: str, path: Path | str, option: str = "--model") -> None:
    """Make sure that a state dict without heads fits a network exactly.

    Args:
        option: of the command that chose the variant, for the message.

    Raises:
        WeightsError: it does not; the message says what it is, or how it differs.
    """
    diff = compare(expected_shapes(variant), shapes_of(state))
    if not diff:
        return
    closest, other = detect(state)
    if not other:
        raise WeightsError(
            f"{path}: holds weights of {closest}, not of {variant}; use {option} {closest}, or "
            f"weights of {variant}"
        )
    raise WeightsError(f"{path}: does not fit {variant}: {diff}")


def check_values(state: State, variant: str, path: Path | str) -> None:
    """Make sure that a state dict that fits a network, or a part of it, holds finite floats.

    Raises:
        WeightsError: other types where floats belong, or values that are not finite.
    """
    wanted = _expected(variant)
    floating = {name: tensor for name, tensor in state.items() if wanted[name].is_floating_point()}
    for name, tensor in floating.items():
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"{path}: {name} is {kind}, where floats belong; save it as float32")
    broken = [name for name, tensor in floating.items() if not tensor.float().isfinite().all()]
    if broken:
        raise WeightsError(
            f"{path}: {len(broken)} tensors have values that are not finite (NaN or infinity), "
            f"the first {broken[0]}; get the file again, or an earlier checkpoint"
        )


# --- loading --------------------------------------------------------------------------------------

UNTRAINED_NOTE = "untrained weights: the maps show that everything runs, not where people look"


@dataclass(frozen=True)
class LoadedWeights:
    """A state dict that fits its network.

    Attributes:
        name: by which the weights were asked for; a file's name for files.
        variant: the network, a key of `VARIANTS`.
        state: names and tensors without training heads, floating ones as float32.
        sha256: of the file; of the state as `sha256_of_state` takes it for untrained weights.
        path: the file, None for untrained weights.
        metadata: the metadata of the file.
        notes: what users should know before they trust the maps.
    """

    name: str
    variant: str
    state: State
    sha256: str
    path: Path | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_weights(
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    offline: bool = False,
    revision: str | None = None,
) -> LoadedWeights:
    """Load the weights of a network.

    Args:
        name: a registry row, a variant, or a name of imported weights; None takes what `weights`
            is for, or the default.
        weights: a file, a name, or "untrained"; None takes those that belong to `name`.
        offline: never ask the Hub.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        WeightsError: no weights, damaged weights, or weights of another network.
        UsageError: unknown name.
    """
    variant = _variant_of(name) if name else None
    if weights == UNTRAINED:
        return _untrained(variant or resolve_variant(DEFAULT))
    if weights is None and name is not None:
        _require_known_weights(name)
    return load_state(weights or name or DEFAULT, variant, offline=offline, revision=revision)


def load_state(
    source: str | os.PathLike[str],
    variant: str | None = None,
    *,
    offline: bool = False,
    revision: str | None = None,
) -> LoadedWeights:
    """Load weights by path or name and check that they fit.

    Args:
        source: see `avsal.weights.resolve`.
        variant: the network that they have to fit; None takes the one that the file names, or that
            its names and shapes tell.
        offline: never ask the Hub.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        WeightsError: no weights, damaged weights, or weights of another network.
        UsageError: unknown name.
    """
    path = resolve(source, offline, revision)
    with unchanged(path):
        digest = sha256_of(path)
        _check_shipped(path, digest)
        everything, metadata = read_state(path)
    found = without_heads(whole_network(everything, path))
    chosen = variant or metadata.get("variant")
    if chosen not in VARIANTS:
        chosen = detect(found)[0]
    option = "--model" if variant else "avsal weights import --variant"
    check(found, chosen, path, option)
    state = {name: _float32(tensor) for name, tensor in found.items()}
    check_values(state, chosen, path)
    label = path.name if path == expanded(os.fspath(source)) else _proper_name(os.fspath(source))
    return LoadedWeights(label, chosen, state, digest, path, metadata)


def _check_shipped(path: Path, digest: str) -> None:
    row = next((row for row in REGISTRY.values() if row.file == path.name), None)
    if row and row.sha256 and digest != row.sha256 and path == shipped(row.file):
        raise WeightsError(
            f"{path}: damaged, its sha256 is {digest[:12]}..., not {row.sha256[:12]}...; install "
            "avsal again"
        )


def _proper_name(name: str) -> str:
    row = find_row(name)
    return row.name if row else name


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _variant_of(name: str) -> str:
    """The network of a registry row, a variant or imported weights."""
    known = name in VARIANTS or find_row(name) is not None
    if known or not (FOLD.fullmatch(name) or imported(name)):
        return resolve_variant(name)
    path = require_imported(name)
    variant = read_metadata(path).get("variant")
    return variant if variant in VARIANTS else detect(whole_network(read_state(path)[0], path))[0]


def _require_known_weights(name: str) -> None:
    """A variant may exist without anyone having published weights for it."""
    if find_row(name) is None and imported(name) is None:
        raise WeightsError(f"{name}: no weights of this network are known; give --weights FILE")


def _untrained(variant: str) -> LoadedWeights:
    state = untrained_state(variant)
    digest = sha256_of_state(state)
    return LoadedWeights(UNTRAINED, variant, state, digest, notes=(UNTRAINED_NOTE,))


def untrained_state(variant: str, seed: int = 0) -> State:
    """Make the weights with which training would start from nothing.

    Args:
        variant: a key of `VARIANTS`.
        seed: the same seed gives the same weights; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        return dict(models.build(variant).state_dict())
