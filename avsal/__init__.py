"""avsal: where people will look in a video, sound included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avsal.version import __version__

if TYPE_CHECKING:
    from avsal.prediction import Predictor as Predictor
    from avsal.prediction import load_model as load_model

__all__ = ["Predictor", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    """Import the network's side on first use: `avsal --help` must not wait for torch."""
    if name in {"Predictor", "load_model"}:
        from avsal import prediction

        return getattr(prediction, name)
    raise AttributeError(f"module 'avsal' has no attribute {name!r}")
