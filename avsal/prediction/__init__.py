"""Video in, saliency frames out: the network driven over frames and sound, in constant memory.

`load_model` gives a `Predictor`; its `predict` takes a file, `predict_frames` decoded frames. Both
give a `SaliencyFrame` for every frame.

Importing this package does not import torch; its names come on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsal.prediction.maps import SaliencyFrame as SaliencyFrame
    from avsal.prediction.model import load_model as load_model
    from avsal.prediction.predictor import Prediction as Prediction
    from avsal.prediction.predictor import Predictor as Predictor
    from avsal.prediction.settings import MapSize as MapSize
    from avsal.prediction.settings import PredictSettings as PredictSettings

_HOMES = {
    "MapSize": "settings",
    "PredictSettings": "settings",
    "Prediction": "predictor",
    "Predictor": "predictor",
    "SaliencyFrame": "saliency",
    "load_model": "model",
}

__all__ = ["MapSize", "PredictSettings", "Prediction", "Predictor", "SaliencyFrame", "load_model"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avsal.prediction.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
