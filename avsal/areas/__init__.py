"""What share of the predicted gaze falls in each area of a picture, over time.

Importing this package imports nothing heavy; its names come on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsal.areas.areas import Area as Area
    from avsal.areas.areas import box as box
    from avsal.areas.shares import AreaShare as AreaShare
    from avsal.areas.shares import shares as shares

__all__ = ["Area", "AreaShare", "box", "shares"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        module = "areas" if name in ("Area", "box") else "frames"
        return getattr(import_module(f"avsal.areas.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
