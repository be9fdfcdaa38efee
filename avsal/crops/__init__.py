"""A video in another shape: crops that keep what people look at.

Importing this package imports nothing heavy; its names come on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsal.crops.planning import Crop as Crop
    from avsal.crops.planning import plan as plan

__all__ = ["Crop", "plan"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from avsal.crops import planning

        return getattr(planning, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
