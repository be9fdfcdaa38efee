"""avsal: where people will look in a video, sound included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsal.pipeline import Predictor as Predictor
    from avsal.pipeline import load_model as load_model

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    """Import the pipeline on first use: `avsal --help` must not wait for torch."""
    if name in {"Predictor", "load_model"}:
        from avsal import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'avsal' has no attribute {name!r}")
