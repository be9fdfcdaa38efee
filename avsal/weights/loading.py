"""Weights into memory, checked against the network that they are for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from avsal import models
from avsal.errors import WeightsError
from avsal.models.variants import VARIANTS
from avsal.weights.keys import check, check_values, detect, whole_network, without_heads
from avsal.weights.places import (
    FOLD,
    UNTRAINED,
    expanded,
    imported,
    require_imported,
    resolve,
    shipped,
)
from avsal.weights.reading import read_metadata, sha256_of, unchanged
from avsal.weights.registry import DEFAULT, REGISTRY, find_row, resolve_variant
from avsal.weights.state import State, read_state, sha256_of_state

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
