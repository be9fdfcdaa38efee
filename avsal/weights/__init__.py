"""Names of weights, where they are, the import of checkpoints, and checked loading.

Importing this package does not import torch: its names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avsal.names import names_from

if TYPE_CHECKING:
    from avsal.weights.convert import Imported as Imported
    from avsal.weights.convert import describe as describe
    from avsal.weights.convert import import_checkpoint as import_checkpoint
    from avsal.weights.convert import import_component as import_component
    from avsal.weights.loading import LoadedWeights as LoadedWeights
    from avsal.weights.loading import load_state as load_state
    from avsal.weights.loading import load_weights as load_weights
    from avsal.weights.loading import untrained_state as untrained_state
    from avsal.weights.places import Found as Found
    from avsal.weights.places import hub_cache as hub_cache
    from avsal.weights.places import locate as locate
    from avsal.weights.places import present as present
    from avsal.weights.places import resolve as resolve
    from avsal.weights.places import user_folder as user_folder
    from avsal.weights.reading import sha256_of as sha256_of
    from avsal.weights.registry import DEFAULT as DEFAULT
    from avsal.weights.registry import REGISTRY as REGISTRY
    from avsal.weights.registry import WeightsRow as WeightsRow
    from avsal.weights.registry import find_row as find_row
    from avsal.weights.registry import get_row as get_row
    from avsal.weights.registry import resolve_variant as resolve_variant
    from avsal.weights.state import read_state as read_state
    from avsal.weights.state import write_state as write_state

__getattr__ = names_from(
    __name__,
    {
        "places": "Found hub_cache locate present resolve user_folder",
        "reading": "sha256_of",
        "registry": "DEFAULT REGISTRY WeightsRow find_row get_row resolve_variant",
        "convert": "Imported describe import_checkpoint import_component",
        "loading": "LoadedWeights load_state load_weights untrained_state",
        "state": "read_state write_state",
    },
)
