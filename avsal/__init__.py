"""avsal: where people will look in a video, sound included.

    for frame in avsal.predict("video.mp4"):
        frame.saliency

`predict`, `overlay`, `reframe` and `measure` do what the commands of these names do. `load_model`
loads a network once for many videos; `read_result` reads a folder of maps. What they return is
documented at `Prediction`, `SaliencyFrame`, `Measurement`, `Predictor` and `Result`. Every error is
an `AvsalError`, one line with the cause and the remedy.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from avsal import names
from avsal.names import names_from
from avsal.version import __version__

if TYPE_CHECKING:
    from avsal.areas.api import measure as measure
    from avsal.areas.measurement import Measurement as Measurement
    from avsal.crops.api import reframe as reframe
    from avsal.errors import AvsalError as AvsalError
    from avsal.prediction.maps import SaliencyFrame as SaliencyFrame
    from avsal.prediction.model import load_model as load_model
    from avsal.prediction.predictor import Prediction as Prediction
    from avsal.prediction.predictor import Predictor as Predictor
    from avsal.results.api import overlay as overlay
    from avsal.results.api import predict as predict
    from avsal.results.folder import Result as Result
    from avsal.results.folder import read_result as read_result

# While they wait for each other, the threads of torch's layers spin by default. On cores that other
# processes want too, that is most of the time: a picture took 20 times longer and more. Passive
# threads sleep. OpenMP reads this once, when torch is loaded, so it must be set before; child
# processes inherit it. Whoever has chosen a policy keeps it.
if "torch" not in sys.modules and not os.environ.keys() & {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# ONNX Runtime and OpenVINO report what they run to their makers, and keep an identifier of the
# machine in the user's folders. Nothing leaves the machine from here: the first reads this variable
# when it is loaded, the second does without its package for reports where that cannot be imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

names.install()

__all__ = [
    "AvsalError",
    "Measurement",
    "Prediction",
    "Predictor",
    "Result",
    "SaliencyFrame",
    "__version__",
    "load_model",
    "measure",
    "overlay",
    "predict",
    "read_result",
    "reframe",
]


# Each name is imported when it is first used: `import avsal` loads nothing heavy.
__getattr__ = names_from(
    __name__,
    {
        "errors": "AvsalError",
        "areas.measurement": "Measurement",
        "prediction.predictor": "Prediction Predictor",
        "results.folder": "Result read_result",
        "prediction.maps": "SaliencyFrame",
        "prediction.model": "load_model",
        "areas.api": "measure",
        "results.api": "overlay predict",
        "crops.api": "reframe",
    },
)


def __dir__() -> list[str]:
    return list(__all__)
