"""A video in another shape: crops that keep what people look at.

Importing this package imports nothing heavy; its names come on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avsal.names import names_from

if TYPE_CHECKING:
    from avsal.crops.planning import Crop as Crop
    from avsal.crops.planning import plan as plan

__getattr__ = names_from(__name__, {"planning": "Crop plan"})
