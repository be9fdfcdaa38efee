"""Loading weights: detect the network that a state dict belongs to, and check that it fits."""

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
from avsal.weights.reading import listed, read_metadata, sha256_of, unchanged
from avsal.weights.registry import DEFAULT, FOLD, REGISTRY, UNTRAINED, find_row, resolve_variant
from avsal.weights.state import State, read_state, sha256_of_state

logger = logging.getLogger("avsal")

Shapes = dict[str, tuple[int, ...]]
# Heads that only the training loss needs (section 3.4).
TRAINING_HEADS = ("vis_projector.", "aud_projector.", "mlp_vis.", "mlp_aud.")
ANCHOR = "visnet."  # every network has names with this prefix
AVERAGED = re.compile(r"ema|averag|swa|teacher|shadow")
COUNTER = "num_batches_tracked"  # of batch normalisation; old and slimmed files lack it
# What versions 4 and 5 of the default network added: of zeros, it changes no map.
ADDED = "decoder.motion."
SINCE_FIRST = "decoder.habit.share"  # a weight that only the default network has


@dataclass(frozen=True)
class KeyDiff:
    """The difference between a state dict and what a network needs; empty (false) if it fits."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[str, ...] = ()  # "name 2x3 instead of 4x5"

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.wrong_shape)

    def __str__(self) -> str:
        parts = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of wrong shape", self.wrong_shape),
        )
        return "; ".join(f"{len(names)} {kind}: {listed(names)}" for kind, names in parts if names)


def shapes_of(state: State) -> Shapes:
    """Return the names and shapes of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@cache
def _expected(variant: str) -> State:
    with torch.device("meta"):  # allocates no memory
        return dict(models.build(variant).state_dict())


@cache
def expected_shapes(variant: str) -> Shapes:
    """Return the names and shapes of a network without its training heads."""
    return shapes_of(_expected(variant))


def compare(expected: Shapes, actual: Shapes) -> KeyDiff:
    """Find the names and shapes in which two state dicts differ."""
    return KeyDiff(
        tuple(name for name in expected if name not in actual),
        tuple(name for name in actual if name not in expected),
        tuple(
            f"{name} {_shape(actual[name])} instead of {_shape(shape)}"
            for name, shape in expected.items()
            if name in actual and actual[name] != shape
        ),
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def whole_network(state: State, path: Path | str) -> State:
    """Find the network in the state dict of a training program.

    Lightning and other programs prefix the network's names with that of an attribute, and save
    other tensors too. Missing counters of batch normalisation, which predictions do not use, are
    added.

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
            f"{path}: contains several networks (under {', '.join(chosen)}); save the state dict "
            "of one of them"
        )
    if not chosen or chosen == [""]:
        return state
    (prefix,) = chosen
    network = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    if others := len(state) - len(network):
        logger.warning("%s: used the tensors under %s, ignored %d others", path, prefix, others)
    return network


def without_heads(state: State) -> State:
    """Return the state dict without the training heads."""
    return {name: t for name, t in state.items() if not name.startswith(TRAINING_HEADS)}


def detect(state: State) -> tuple[str, KeyDiff]:
    """Find the variant that a state dict without heads fits best, and the remaining difference.

    Variants that differ only in their input size have the same names and shapes; of these, the one
    with the largest input is returned.
    """
    shapes = shapes_of(state)
    best: tuple[str, KeyDiff] | None = None
    for variant in _largest_inputs():
        diff = compare(expected_shapes(variant.name), shapes)
        if best is None or len(diff) < len(best[1]):
            best = variant.name, diff
        if not diff:
            break
    assert best is not None, "the table of variants is never empty"
    return best


def _largest_inputs() -> list[Variant]:
    """List the variants; of those that differ only in their input size, only the largest."""
    largest: dict[Variant, Variant] = {}
    for variant in VARIANTS.values():
        network = without_size(variant)
        known = largest.get(network)
        if known is None or variant.height * variant.width > known.height * known.width:
            largest[network] = variant
    return list(largest.values())


def without_size(variant: Variant) -> Variant:
    """Return what a variant has in common with those that differ only in their input size."""
    return dataclasses.replace(variant, name="", height=0, width=0)


def check(state: State, variant: str, path: Path | str, option: str = "--model") -> None:
    """Check that a state dict without heads fits a network exactly.

    Args:
        option: the command's option that chose the variant, for the message.

    Raises:
        WeightsError: it does not fit; the message names the right network or the differences.
    """
    diff = compare(expected_shapes(variant), shapes_of(state))
    if not diff:
        return
    closest, other = detect(state)
    if not other:
        raise WeightsError(
            f"{path}: contains weights of {closest}, not of {variant}; use {option} {closest}, or "
            f"weights of {variant}"
        )
    raise WeightsError(f"{path}: does not fit {variant}: {diff}")


def check_values(state: State, variant: str, path: Path | str) -> None:
    """Check that the weights of a network, or of a part of it, are finite floating-point numbers.

    Raises:
        WeightsError: a tensor has another type, or contains NaN or infinity.
    """
    expected = _expected(variant)
    floating = {name: t for name, t in state.items() if expected[name].is_floating_point()}
    for name, tensor in floating.items():
        if not tensor.is_floating_point():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"{path}: {name} is {dtype}, not floating point; save it as float32")
    broken = [name for name, tensor in floating.items() if not tensor.float().isfinite().all()]
    if broken:
        raise WeightsError(
            f"{path}: {len(broken)} tensors contain NaN or infinity: {listed(broken)}; get the "
            "file again, or an earlier checkpoint"
        )


# --- loading --------------------------------------------------------------------------------------

UNTRAINED_NOTE = "untrained weights: the maps show that everything runs, not where people look"


@dataclass(frozen=True)
class LoadedWeights:
    """A state dict that fits its network.

    Attributes:
        name: the name of the weights or of the file.
        variant: the network, a key of `VARIANTS`.
        state: names and tensors without training heads; floating-point ones are float32.
        sha256: checksum of the file; of the state (`sha256_of_state`) for untrained weights.
        path: the file; None for untrained weights.
        metadata: the file's metadata.
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
        name: name of a registry row, of a variant or of imported weights; None means the network of
            `weights`, or the default.
        weights: a file, a name, or "untrained"; None means the weights of `name`.
        offline: never download.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        WeightsError: no weights, damaged weights, or weights of another network.
        UsageError: unknown name.
    """
    variant = _variant_of(name) if name else None
    if weights == UNTRAINED:
        variant = variant or resolve_variant(DEFAULT)
        state = untrained_state(variant)
        digest = sha256_of_state(state)
        return LoadedWeights(UNTRAINED, variant, state, digest, notes=(UNTRAINED_NOTE,))
    known = name is None or find_row(name) is not None or imported(name) is not None
    if weights is None and not known:
        raise WeightsError(f"{name}: avsal knows no weights of this network; give --weights FILE")
    return load_state(weights or name or DEFAULT, variant, offline=offline, revision=revision)


def load_state(
    source: str | os.PathLike[str],
    variant: str | None = None,
    *,
    offline: bool = False,
    revision: str | None = None,
) -> LoadedWeights:
    """Load weights by path or name, and check that they fit.

    Args:
        source: see `avsal.weights.resolve`.
        variant: the network that they must fit; None means the one in the file's metadata, else it
            is detected from names and shapes.
        offline: never download.
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
    stored = without_heads(whole_network(everything, path))
    chosen = variant or metadata.get("variant")
    if chosen not in VARIANTS:
        chosen = detect(stored)[0]
    option = "--model" if variant else "avsal weights import --variant"
    check(stored, chosen, path, option)
    state = {name: t.float() if t.is_floating_point() else t for name, t in stored.items()}
    check_values(state, chosen, path)
    text = os.fspath(source)
    row = find_row(text)
    name = path.name if path == expanded(text) else row.name if row else text
    return LoadedWeights(name, chosen, state, digest, path, metadata)


def _check_shipped(path: Path, digest: str) -> None:
    row = next((row for row in REGISTRY.values() if row.file == path.name), None)
    if row and row.sha256 and digest != row.sha256 and path == shipped(row.file):
        raise WeightsError(
            f"{path}: damaged, its sha256 is {digest[:12]}..., not {row.sha256[:12]}...; reinstall "
            "avsal"
        )


def _variant_of(name: str) -> str:
    """Return the variant of a registry row or of imported weights, or the variant itself."""
    known = name in VARIANTS or find_row(name) is not None
    if known or not (FOLD.fullmatch(name) or imported(name)):
        return resolve_variant(name)
    path = require_imported(name)
    variant = read_metadata(path).get("variant")
    return variant if variant in VARIANTS else detect(whole_network(read_state(path)[0], path))[0]


def untrained_state(variant: str, seed: int = 0) -> State:
    """Initialise the weights of a network at random.

    Args:
        variant: a key of `VARIANTS`.
        seed: determines the weights; the state of the global generator does not change.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        return dict(models.build(variant).state_dict())
