"""The default network computed by OpenVINO, in bfloat16 on processors that have it.

Graphs are compiled anew for every size of picture, which takes most of a second: OpenVINO is for
videos, ONNX Runtime for stills and short clips.
"""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

import numpy as np
import openvino
from openvino.frontend import FrontEndManager

from avsal.models.graph_weights import Arrays
from avsal.prediction.onnx_engine import MOST_AT_ONCE, GraphEngine, Run
from avsal.prediction.settings import Precision
from avsal.prediction.threads import thread_count

TYPES = {Precision.FP32: "f32", Precision.BF16: "bf16"}


class OpenVinoEngine(GraphEngine):
    """The default network on OpenVINO.

    Attributes:
        precision: "fp32" or "bf16".
    """

    name = "openvino"

    def __init__(self, graphs: Path, state: Arrays, precision: str) -> None:
        """Take weights into the graphs, see `GraphEngine`.

        Args:
            precision: "fp32", "bf16", or "auto": bf16 on processors that have it.
        """
        super().__init__(graphs, state)
        if precision == Precision.AUTO:
            precision = Precision.BF16 if has_bfloat16() else Precision.FP32
        self.precision = str(precision)

    def _key(self, graph: str, values: dict[str, np.ndarray]) -> object:
        return graph, next(iter(values.values())).shape

    def _session(
        self, graph: bytes, weights: dict[str, np.ndarray], values: dict[str, np.ndarray]
    ) -> Run:
        model = _model(graph, weights)
        model.reshape({name: list(array.shape) for name, array in values.items()})
        threads = min(thread_count(), MOST_AT_ONCE)
        settings = {
            "INFERENCE_PRECISION_HINT": TYPES[Precision(self.precision)],
            "NUM_STREAMS": threads,  # requests that are computed at once, by one thread each
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # other processes need the cores, too
        }
        return _Requests(openvino.Core().compile_model(model, "CPU", settings))


class _Requests:
    """Computes a compiled graph for any number of threads; a request serves one at a time."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._free: deque[openvino.InferRequest] = deque()

    def __call__(self, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        outputs = request.infer(values, share_inputs=True).to_tuple()
        self._free.append(request)
        return list(outputs)


def has_bfloat16() -> bool:
    """Whether OpenVINO has fast bfloat16 on this processor (AVX-512 BF16 or AMX): its default."""
    default = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT")
    return bool(default == openvino.Type.bf16)


def _model(graph: bytes, weights: dict[str, np.ndarray]) -> openvino.Model:
    """A graph with its weights as constants."""
    reader = FrontEndManager().load_by_framework("onnx")
    source = reader.load(io.BytesIO(graph))
    places = [source.get_place_by_tensor_name(name) for name in weights]
    source.override_all_inputs([*source.get_inputs(), *places])  # only inputs can be given values
    for place, array in zip(places, weights.values(), strict=True):
        source.set_tensor_value(place, array)
    return reader.convert(source)
