"""The default network computed from its ONNX graphs, without PyTorch: by ONNX Runtime here.

The shipped graphs are without weights, see `avsal.models.graph_weights`; any weights of the default
network go into them. A window is one forward pass, so that a map depends on nothing but its frames
and its sound. Several windows are computed at once, each by one thread: threads that shared layers
would wait for each other at the end of each one, and were no faster than one alone.
"""

from __future__ import annotations

import functools
import json
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from avsal.errors import WeightsError
from avsal.models.graph_weights import ORIGINS, Arrays, Origin, derive, uncovered
from avsal.prediction.frames import CachedFrame, PredictedBatch, WindowInput
from avsal.prediction.threads import BoundedPool, after_fork, leave_to_parent, thread_count

MOST_AT_ONCE = 8  # windows; each takes some 20 MB
MOST_SESSIONS = 9  # three graphs, of three sizes of pictures where sessions are for one
LONGEST_CAUSE = 120  # characters
OUTPUTS = ("stride8", "stride16", "deep", "gates", "brightness")  # of a frame
OF_LAST = ("stride8", "deep")  # those that only the window needs whose last frame it is

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]  # inputs by name -> outputs


def windows_at_once() -> int:
    """Number of windows that are computed at once: as many as there are threads, up to a limit."""
    return min(thread_count(), MOST_AT_ONCE)


class GraphEngine(ABC):
    """The default network on a CPU; what computes its graphs is up to a subclass.

    Attributes:
        name: as the command line names it.
        device, precision: "cpu", and "fp32" or what a subclass says.
    """

    name: str
    device, precision = "cpu", "fp32"

    def __init__(self, graphs: Path, state: Arrays) -> None:
        """Take weights into the graphs.

        Args:
            graphs: the archive of the network's graphs.
            state: the network's state dict as arrays.

        Raises:
            WeightsError: the graphs are damaged.
        """
        self._graphs, self._state = graphs, state
        self._sessions: dict[Any, Run] = {}
        self._making = threading.Lock()
        after_fork(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._graphs, self._state)  # sessions cannot be sent to other processes

    def orphan(self) -> None:
        """Make sessions anew in a child process, which does not have the threads that run them."""
        leave_to_parent(self._sessions)
        self._sessions, self._making = {}, threading.Lock()

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
        """Windows that are computed at once."""
        return windows_at_once()

    def batches(self, windows: Iterable[WindowInput], batch: int) -> Iterator[PredictedBatch]:
        """Yield every window with its (h, w) float32 log-density, one by one.

        `batch` windows are computed at once, ahead of the one that is asked for, and as many more
        wait, so that no thread does. If it is 1, the next window is asked for after the map of the
        one before was given.
        """
        with ExitStack() as stack:
            in_order: Any = map
            if batch > 1:
                in_order = stack.enter_context(BoundedPool(batch, 2 * batch, "avsal-network")).map
            for predicted in in_order(self._predicted, _with_new_frames(windows)):
                yield [predicted]

    def _predicted(
        self, window: tuple[WindowInput, list[CachedFrame]]
    ) -> tuple[WindowInput, np.ndarray]:
        """The window with its log-density; others that see its new frames wait for their features,
        which come first."""
        inputs, new = window
        try:
            for frame in new:
                outputs = self._run("frame", {"pixels": frame.pixels[None]})
                frame.features.set_result(dict(zip(OUTPUTS, outputs, strict=True)))
        except BaseException as error:
            for frame in new:
                if not frame.features.done():
                    frame.features.set_exception(error)
            raise
        return inputs, self._log_density(inputs)

    def _log_density(self, inputs: WindowInput) -> np.ndarray:
        frames = [frame.features.result() for frame in inputs.frames]
        last, before = frames[-1], frames[-2]
        values = {name: last.pop(name) for name in OF_LAST}
        values["stride16"], values["stride16_before"] = last["stride16"], before["stride16"]
        for age, frame in enumerate(reversed(frames)):
            values[f"gates_{age}"] = frame["gates"]
        values["brightness"] = np.concatenate([frame["brightness"] for frame in frames])
        if inputs.spectrogram is None or not np.ptp(inputs.spectrogram, axis=1).any():
            return self._run("silent", values)[0][0]
        values["spectrogram"] = inputs.spectrogram[None]
        return self._run("sound", values)[0][0]

    def _run(self, graph: str, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        key = self._key(graph, values)
        with self._making:
            if key not in self._sessions:
                with _archive_errors(self._graphs):
                    self._sessions[key] = self._session(*self._with_weights(graph), values)
                if len(self._sessions) > MOST_SESSIONS:
                    del self._sessions[next(iter(self._sessions))]  # the oldest
            session = self._sessions[key]
        return session(values)

    def _key(self, graph: str, values: dict[str, np.ndarray]) -> object:
        """What a session is for: a graph, whatever the sizes of its inputs."""
        return graph

    def _with_weights(self, name: str) -> tuple[bytes, dict[str, np.ndarray]]:
        """A graph without weights, and the weights that belong into it."""
        with zipfile.ZipFile(self._graphs) as archive:
            graph = archive.read(f"{name}.onnx")
            origins: dict[str, list[Any]] = json.loads(archive.read(ORIGINS))[name]
        return graph, {key: derive(Origin(*origin), self._state) for key, origin in origins.items()}

    @abstractmethod
    def _session(
        self, graph: bytes, weights: dict[str, np.ndarray], values: dict[str, np.ndarray]
    ) -> Run:
        """What computes a graph with weights; `values` are its first inputs."""


class OnnxEngine(GraphEngine):
    """The default network on ONNX Runtime, in float32."""

    name = "onnx"

    def _session(
        self, graph: bytes, weights: dict[str, np.ndarray], values: dict[str, np.ndarray]
    ) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # that of the caller
        options.log_severity_level = 3  # errors alone
        constants = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in weights.values()]
        options.add_external_initializers(list(weights), constants)
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return functools.partial(session.run, None)


def _with_new_frames(
    windows: Iterable[WindowInput],
) -> Iterator[tuple[WindowInput, list[CachedFrame]]]:
    """Windows, each with its frames that no window before it has."""
    for inputs in windows:
        new = [frame for frame in dict.fromkeys(inputs.frames) if frame.features is None]
        for frame in new:
            frame.features = Future()
        yield inputs, new


@contextmanager
def _archive_errors(graphs: Path) -> Iterator[None]:
    try:
        yield
    except ImportError:  # the runtime is damaged
        raise
    except Exception as error:  # of zipfile, zlib, json or a runtime, which has many of its own
        cause = " ".join(str(error).split())[:LONGEST_CAUSE]
        raise WeightsError(f"{graphs}: damaged ({cause}); install avsal again") from error
