"""The networks; nothing here reads files. Importing this package does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from avsal.errors import UsageError
from avsal.models.variants import VARIANTS, Variant

if TYPE_CHECKING:
    from avsal.models.network import SaliencyNetwork

__all__ = ["VARIANTS", "Variant", "build"]


def build(name: str | Variant, heads: bool = False, **changes: Any) -> SaliencyNetwork:
    """Make a network with random float32 weights, in training mode.

    `name` is a key of VARIANTS or a Variant. `changes` replace its fields, as in
    `build("s3d-224x224", audio=False)`. `heads` adds the training heads.
    Raises UsageError for an unknown variant, or an unknown part of one.
    """
    if isinstance(name, str):
        if name not in VARIANTS:
            raise UsageError(f"no variant called {name!r}; there are {', '.join(VARIANTS)}")
        name = VARIANTS[name]
    variant = replace(name, **changes)
    if variant.network == "small":
        from avsal.models.small import SmallNetwork

        with _in_float32():
            return SmallNetwork(variant, heads)
    from avsal.models.mspi import MSPI

    with _in_float32():
        return MSPI(variant, heads)


@contextmanager
def _in_float32() -> Iterator[None]:
    """Make layers in float32 even if the program has set another default type."""
    import torch

    default = torch.get_default_dtype()
    if default == torch.float32:  # all threads share the setting
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
