"""The default network computed by OpenVINO, in bfloat16 on processors that have it.

Graphs are compiled anew for every size of picture, which takes most of a second: OpenVINO is for
videos, ONNX Runtime for stills and short clips.
"""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset1
from openvino.frontend import FrontEndManager

from avsal.models.graph_weights import Arrays
from avsal.prediction.onnx_engine import GraphEngine, Run, windows_at_once
from avsal.prediction.settings import Precision

BRIGHTNESS = "brightness"  # input of windows; in bfloat16 slight motion would be lost in rounding
CHANGE = "change_{}"  # what follows from brightness alone, by number
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
        self.precision = chosen_precision(precision)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._graphs, self._state, self.precision)

    def automatic_batch(self, pixels: int) -> int:
        """One more than are computed at once, so that a window is ready when a thread is free."""
        return windows_at_once() + 1

    def _key(self, graph: str, values: dict[str, np.ndarray]) -> object:
        return graph, next(iter(values.values())).shape

    def _session(
        self, graph: bytes, weights: dict[str, np.ndarray], values: dict[str, np.ndarray]
    ) -> Run:
        model = _model(graph, weights, values)
        if self.precision == Precision.FP32 or BRIGHTNESS not in values:
            return _Requests(model, self.precision)
        motion, rest = (
            _Requests(part, precision)
            for part, precision in zip(_split(model), (Precision.FP32, self.precision), strict=True)
        )

        def run(values: dict[str, np.ndarray]) -> list[np.ndarray]:
            others = dict(values)
            changes = motion({BRIGHTNESS: others.pop(BRIGHTNESS)})
            named = {CHANGE.format(number): change for number, change in enumerate(changes)}
            return rest({**others, **named})

        return run


class _Requests:
    """Computes a model for any number of threads; a request serves one at a time."""

    def __init__(self, model: openvino.Model, precision: str) -> None:
        self._compiled = compiled(model, precision)
        self._free: deque[openvino.InferRequest] = deque()

    def __call__(self, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        outputs = request.infer(values, share_inputs=True).to_tuple()
        self._free.append(request)
        return list(outputs)


def compiled(model: openvino.Model | Path, precision: str) -> openvino.CompiledModel:
    """A model that computes as many requests at once as there are threads, by one thread each.

    Raises:
        RuntimeError: it is damaged.
    """
    threads = windows_at_once()
    settings = {
        "INFERENCE_PRECISION_HINT": TYPES[Precision(precision)],
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # other processes need the cores, too
    }
    return _core().compile_model(model, "CPU", settings)


def chosen_precision(precision: str) -> str:
    """Take bf16 for "auto" on processors that have it, else fp32."""
    if precision == Precision.AUTO:
        precision = Precision.BF16 if has_bfloat16() else Precision.FP32
    return str(precision)


def has_bfloat16() -> bool:
    """Whether OpenVINO has fast bfloat16 on this processor (AVX-512 BF16 or AMX): its default."""
    default = _core().get_property("CPU", "INFERENCE_PRECISION_HINT")
    return bool(default == openvino.Type.bf16)


def _core() -> openvino.Core:
    """A core of OpenVINO with its CPU plugin, loaded by a thread that ends at once.

    The plugin gives the thread that loads it another stack for signal handlers, and frees that
    stack with the last model that it compiled, whether the thread still uses it or not (2026.4):
    the next signal would then end the process.
    """
    core = openvino.Core()
    with ThreadPoolExecutor(1, "avsal-openvino") as thread:
        thread.submit(core.get_versions, "CPU").result()
    return core


def _model(
    graph: bytes, weights: dict[str, np.ndarray], values: dict[str, np.ndarray]
) -> openvino.Model:
    """A graph with its weights as constants, for inputs of the sizes of `values`."""
    reader = FrontEndManager().load_by_framework("onnx")
    source = reader.load(io.BytesIO(graph))
    places = [source.get_place_by_tensor_name(name) for name in weights]
    source.override_all_inputs([*source.get_inputs(), *places])  # only inputs can be given values
    for place, array in zip(places, weights.values(), strict=True):
        source.set_tensor_value(place, array)
    for name, array in values.items():
        shape = openvino.PartialShape(list(array.shape))
        source.set_partial_shape(source.get_place_by_tensor_name(name), shape)
    return reader.convert(source)


def _split(model: openvino.Model) -> tuple[openvino.Model, openvino.Model]:
    """A window's model in two: what follows from brightness alone, the changes by motion, and the
    rest, which takes them as inputs."""
    alone: set[str] = set()  # operations that depend on brightness and on no other input
    other: set[str] = set()  # those that depend on others
    crossing: dict[str, list[openvino.Input]] = {}  # by the operation that they come from
    for node in model.get_ordered_ops():
        sources = {edge.get_source_output().get_node().get_name(): edge for edge in node.inputs()}
        if node.get_type_name() == "Parameter":
            is_brightness = BRIGHTNESS in node.output(0).get_names()
            (alone if is_brightness else other).add(node.get_name())
        elif sources.keys() & other:
            other.add(node.get_name())
            for name, edge in sources.items():
                if name in alone:
                    crossing.setdefault(name, []).append(edge)
        elif sources.keys() & alone:
            alone.add(node.get_name())
    changes = [edges[0].get_source_output() for edges in crossing.values()]
    placeholders = []
    for number, (change, edges) in enumerate(zip(changes, crossing.values(), strict=True)):
        name = CHANGE.format(number)
        placeholders.append(opset1.parameter(list(change.get_shape()), np.float32, name))
        placeholders[-1].output(0).set_names({name})
        for edge in edges:
            edge.replace_source_output(placeholders[-1].output(0))
    brightness = model.input(BRIGHTNESS).get_node()
    others = [each for each in model.get_parameters() if each.get_name() != brightness.get_name()]
    return (
        openvino.Model(changes, [brightness], "motion"),
        openvino.Model(model.get_results(), [*others, *placeholders], "rest"),
    )
