"""Video in, saliency frames out: the network driven over frames and sound, in constant memory.

`load_model` gives a `Predictor`; its `predict` takes a file, `predict_frames` decoded frames. Both
give a `SaliencyFrame` for every frame.

Importing this package does not import torch; its names come on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avsal.names import names_from

if TYPE_CHECKING:
    from avsal.prediction.maps import SaliencyFrame as SaliencyFrame
    from avsal.prediction.model import load_model as load_model
    from avsal.prediction.predictor import Prediction as Prediction
    from avsal.prediction.predictor import Predictor as Predictor
    from avsal.prediction.settings import MapSize as MapSize
    from avsal.prediction.settings import PredictSettings as PredictSettings

__getattr__ = names_from(
    __name__,
    {
        "settings": "MapSize PredictSettings",
        "predictor": "Prediction Predictor",
        "maps": "SaliencyFrame",
        "model": "load_model",
    },
)
