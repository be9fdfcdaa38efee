"""The networks: `build` makes one of the VARIANTS; nothing here reads files.

Importing this package does not import torch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from avsal.errors import UsageError
from avsal.models.variants import VARIANTS, Variant

if TYPE_CHECKING:
    from avsal.models.folding import prepare_for_inference as prepare_for_inference
    from avsal.models.mspi import MSPI as MSPI

__all__ = ["MSPI", "VARIANTS", "Variant", "build", "prepare_for_inference"]

_LAZY = {"MSPI": "mspi", "prepare_for_inference": "folding"}


def build(name: str | Variant, heads: bool = False, **changes: Any) -> MSPI:
    """Make a network with random weights, in training mode.

    `name` is a key of VARIANTS or a Variant; `changes` replace its fields, as in
    `build("s3d-224x224", audio=None)`. `heads` adds the training heads.
    Raises UsageError for a variant, or a part of one, that does not exist.
    """
    from avsal.models.mspi import MSPI

    if isinstance(name, str):
        if name not in VARIANTS:
            raise UsageError(f"no variant called {name!r}; there are {', '.join(VARIANTS)}")
        name = VARIANTS[name]
    return MSPI(replace(name, **changes), heads)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
