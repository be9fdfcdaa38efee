"""The default network computed by ONNX Runtime, without PyTorch.

The shipped graphs are without weights, see `avsal.models.graph_weights`; any weights of the default
network go into them. A window is one forward pass, so that a map depends on nothing but its frames
and its sound.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from avsal.errors import WeightsError
from avsal.models.graph_weights import ORIGINS, Arrays, Origin, derive, uncovered
from avsal.prediction.frames import CachedFrame, PredictedBatch, WindowInput
from avsal.prediction.threads import after_fork, available_cores

_FORKED: list[object] = []  # sessions of a parent process; their end would wait for its threads
LONGEST_CAUSE = 120  # characters
OUTPUTS = ("stride8", "stride16", "deep", "gates", "brightness")  # of a frame


class OnnxEngine:
    """The default network on a CPU.

    Attributes:
        name: "onnx".
        device, precision: "cpu" and "fp32", as the command line names them.
    """

    name, device, precision = "onnx", "cpu", "fp32"

    def __init__(self, graphs: Path, state: Arrays) -> None:
        """Take weights into the graphs.

        Args:
            graphs: the archive of the network's graphs.
            state: the network's state dict as arrays.

        Raises:
            WeightsError: the graphs are damaged.
        """
        self._graphs, self._state = graphs, state
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        after_fork(self)

    def orphan(self) -> None:
        """Make sessions anew in a child process, which does not have their threads."""
        _FORKED.append(self._sessions)
        self._sessions = {}

    def takes_weights(self) -> bool:
        """Whether all weights go into the graphs; else these have values of the shipped weights.

        Raises:
            WeightsError: the archive of graphs is damaged.
        """
        with _archive_errors(self._graphs), zipfile.ZipFile(self._graphs) as archive:
            tables: dict[str, dict[str, list[Any]]] = json.loads(archive.read(ORIGINS))
            origins = [Origin(*origin) for table in tables.values() for origin in table.values()]
            return not uncovered(origins, self._state)

    def automatic_batch(self, pixels: int) -> int:
        """1: more windows at once gain nothing, and their rounding would differ."""
        return 1

    def batches(self, windows: Iterable[WindowInput], batch: int) -> Iterator[PredictedBatch]:
        """Yield every window with its (h, w) float32 log-density, one by one."""
        for inputs in windows:
            for frame in inputs.frames:
                if frame.features is None:
                    frame.features = self._features(frame)
            yield [(inputs, self._log_density(inputs))]

    def _features(self, frame: CachedFrame) -> dict[str, np.ndarray]:
        outputs = self._run("frame", {"pixels": frame.pixels[None]})
        return dict(zip(OUTPUTS, outputs, strict=True))

    def _log_density(self, inputs: WindowInput) -> np.ndarray:
        frames = [frame.features for frame in inputs.frames]
        last, before = frames[-1], frames[-2]
        values = {name: last[name] for name in ("stride8", "stride16", "deep")}
        values["stride16_before"] = before["stride16"]
        for name in ("gates", "brightness"):
            values[name] = np.concatenate([frame[name] for frame in frames])
        if inputs.spectrogram is None or not np.ptp(inputs.spectrogram, axis=1).any():
            return self._run("silent", values)[0][0]
        return self._run("sound", {**values, "spectrogram": inputs.spectrogram[None]})[0][0]

    def _run(self, graph: str, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        if graph not in self._sessions:
            self._sessions[graph] = _session(self._graphs, graph, self._state)
        outputs: list[np.ndarray] = self._sessions[graph].run(None, values)
        return outputs


def _session(graphs: Path, name: str, state: Arrays) -> onnxruntime.InferenceSession:
    with _archive_errors(graphs):
        with zipfile.ZipFile(graphs) as archive:
            graph = archive.read(f"{name}.onnx")
            origins: dict[str, list[Any]] = json.loads(archive.read(ORIGINS))[name]
        constants = [derive(Origin(*origin), state) for origin in origins.values()]
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(constant) for constant in constants]
        options = _options()
        options.add_external_initializers(list(origins), values)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@contextmanager
def _archive_errors(graphs: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of zipfile, zlib, json or ONNX Runtime, which has many of its own
        cause = " ".join(str(error).split())[:LONGEST_CAUSE]
        raise WeightsError(f"{graphs}: damaged ({cause}); install avsal again") from error


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    asked_for = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # "4,2" is for nesting
    options.intra_op_num_threads = int(asked_for) if asked_for.isdigit() else available_cores()
    options.inter_op_num_threads = 1
    # Threads that wait for work sleep: other programs may want the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors alone
    return options
