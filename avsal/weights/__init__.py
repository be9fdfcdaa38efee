"""Weights: their names and places, the import of checkpoints, and loading with checks.

Importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avsal.weights.places import Found, hub_cache, locate, present, resolve, user_folder
from avsal.weights.reading import sha256_of
from avsal.weights.registry import DEFAULT, REGISTRY, WeightsRow, find_row, get_row, resolve_variant

if TYPE_CHECKING:
    from avsal.weights.convert import Imported as Imported
    from avsal.weights.convert import describe as describe
    from avsal.weights.convert import import_checkpoint as import_checkpoint
    from avsal.weights.convert import import_component as import_component
    from avsal.weights.loading import LoadedWeights as LoadedWeights
    from avsal.weights.loading import load_state as load_state
    from avsal.weights.loading import load_weights as load_weights
    from avsal.weights.loading import untrained_state as untrained_state
    from avsal.weights.state import read_state as read_state
    from avsal.weights.state import write_state as write_state

_LAZY = {
    "Imported": "convert",
    "LoadedWeights": "loading",
    "describe": "convert",
    "import_checkpoint": "convert",
    "import_component": "convert",
    "load_state": "loading",
    "load_weights": "loading",
    "read_state": "state",
    "untrained_state": "loading",
    "write_state": "state",
}
__all__ = [
    "DEFAULT",
    "REGISTRY",
    "Found",
    "Imported",
    "LoadedWeights",
    "WeightsRow",
    "describe",
    "find_row",
    "get_row",
    "hub_cache",
    "import_checkpoint",
    "import_component",
    "load_state",
    "load_weights",
    "locate",
    "present",
    "read_state",
    "resolve",
    "resolve_variant",
    "sha256_of",
    "untrained_state",
    "user_folder",
    "write_state",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
