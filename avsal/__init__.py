"""avsal: where people will look in a video, sound included."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from avsal import renamed
from avsal.version import __version__

if TYPE_CHECKING:
    from avsal.areas.api import measure as measure
    from avsal.crops.api import reframe as reframe
    from avsal.prediction import Predictor as Predictor
    from avsal.prediction import load_model as load_model

# While they wait for each other, the threads of torch's layers spin by default. On cores that other
# processes want too, that is most of the time: a picture took 20 times longer and more. Passive
# threads sleep. OpenMP reads this once, when torch is loaded, so it must be set before; child
# processes inherit it. Whoever has chosen a policy keeps it.
if "torch" not in sys.modules and not os.environ.keys() & {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

renamed.install()

__all__ = ["Predictor", "__version__", "load_model", "measure", "reframe"]


def __getattr__(name: str) -> Any:
    """Import the network's side on first use: `avsal --help` must not wait for torch."""
    if name in {"Predictor", "load_model"}:
        from avsal import prediction

        return getattr(prediction, name)
    if name in renamed.FUNCTIONS:
        return renamed.function(name)
    raise AttributeError(f"module 'avsal' has no attribute {name!r}")
