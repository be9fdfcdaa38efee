"""Video in, saliency frames out: the network driven over frames and sound, in constant memory.

Importing this package does not import torch; its names come on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsal.prediction.predictor import Predictor as Predictor
    from avsal.prediction.predictor import load_model as load_model

__all__ = ["Predictor", "load_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from avsal.prediction import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
