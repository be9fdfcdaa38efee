"""A network with its weights, ready to predict: one file, or many."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from avsal.errors import UsageError, exists, path_of
from avsal.media.frames import info_of
from avsal.models.variants import VARIANTS
from avsal.prediction.frames import Engine, FrameCache, WindowInput
from avsal.prediction.maps import SaliencyFrame
from avsal.prediction.predictor import Prediction, Predictor
from avsal.prediction.settings import (
    EngineName,
    Precision,
    PredictSettings,
    check_device,
    check_word,
)
from avsal.prediction.shots import ShotFinder
from avsal.prediction.threads import run_ahead
from avsal.weights.places import GRAPHS, resolve, shipped
from avsal.weights.reading import sha256_of
from avsal.weights.registry import DEFAULT, REGISTRY, find_row

if TYPE_CHECKING:
    from avsal.media.container import VideoInfo
    from avsal.media.video import VideoReader
    from avsal.models.network import SaliencyNetwork
    from avsal.prediction.onnx_engine import GraphEngine
    from avsal.weights.loading import LoadedWeights

logger = logging.getLogger("avsal")

# Engines of the default network's graphs: package, how it is installed, precisions.
GRAPH_ENGINES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    EngineName.ONNX: ("onnxruntime", "", ("fp32",)),
    EngineName.OPENVINO: ("openvino", " (pip install 'avsal[openvino]')", ("fp32", "bf16")),
}


def load_model(
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    engine: str = "auto",
    offline: bool = False,
    revision: str | None = None,
) -> Predictor:
    """Load a network with its weights.

    Args:
        name: the name of weights, such as "mspi-mvitv2s", or of a network, such as "s3d-224x384"
            (then `weights` says which weights). None is the default, "avsal-small".
        weights: a .safetensors or .pt file, the name of weights, or "untrained".
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32", "fp16" or "bf16".
        engine: "onnx" (ONNX Runtime, the default network on a CPU), "openvino" (OpenVINO, an extra;
            any network on a CPU) or "torch" (PyTorch, any network). For the default network "auto"
            takes "onnx", or "openvino" if `precision` is "bf16", and "torch" where these cannot be
            used. For others it takes "torch", or "openvino" in bfloat16 on a CPU, if that has
            computed these weights before.
        offline: use only weights that are on this machine.
        revision: branch, tag or commit of the repository on the Hugging Face Hub.

    Raises:
        WeightsError: the weights are missing, damaged or of another network.
        UsageError: unknown name, device, precision or engine.
    """
    check_word("engine", engine, EngineName)
    check_device(device)
    if name is not None and not isinstance(name, str):
        raise UsageError(f"model {name!r}: give the name of a network; files are for weights")
    if weights is not None:
        path_of("weights", weights)
    check_word("precision", precision, Precision)
    chosen = _chosen_engine(engine, precision)
    why_not = engine_obstacle(chosen, device, precision)
    if not why_not and _is_shipped(name, weights, revision):
        return _shipped_predictor(chosen, precision)
    from avsal.weights.loading import load_weights

    loaded = load_weights(name, weights, offline=offline, revision=revision)
    variant = VARIANTS[loaded.variant]
    for note in loaded.notes:
        logger.warning(note)
    arrays = {} if why_not else {key: tensor.numpy() for key, tensor in loaded.state.items()}
    is_published = variant.network != "small"
    if not is_published or engine == EngineName.ONNX:
        why_not = why_not or _graphs_obstacle(loaded.variant, arrays)
    if why_not and engine not in (EngineName.AUTO, EngineName.TORCH):
        raise UsageError(f"engine {engine}: {why_not}; use --engine auto or torch")
    if is_published:
        computed = _network_engine(loaded, engine, device, precision)
    elif why_not:
        computed = _torch_engine(_built(loaded), device, precision)
    else:
        computed = _graph_engine(chosen, arrays, precision)
    return Predictor(variant, computed, (loaded.name, loaded.sha256))


def _chosen_engine(engine: str, precision: str) -> str:
    """The engine that is tried first. It depends on nothing that varies between files: all maps of
    a run are made in one way."""
    if engine != EngineName.AUTO:
        return engine
    return EngineName.OPENVINO if precision == Precision.BF16 else EngineName.ONNX


def engine_obstacle(engine: str, device: str, precision: str) -> str:
    """Why an engine other than PyTorch cannot be used, empty where it can."""
    if engine not in GRAPH_ENGINES:
        return f"{engine} computes no graphs"
    package, remedy, known = GRAPH_ENGINES[engine]
    if importlib.util.find_spec(package) is None:
        return f"the package {package} is not installed{remedy}"
    if shipped(GRAPHS) is None:
        return f"{GRAPHS} is missing"
    if precision not in (Precision.AUTO, *known):
        return f"it computes in {' and '.join(known)}, not in {precision}"
    if device != "cpu" and (device != "auto" or _may_have_cuda()):
        return "it is used on CPUs only"
    return _openvino_obstacle(precision) if engine == EngineName.OPENVINO else ""


def _openvino_obstacle(precision: str) -> str:
    try:
        from avsal.prediction.openvino_engine import has_bfloat16
    except ImportError as error:
        return f"the package openvino does not load here ({error})"
    if precision == Precision.BF16 and not has_bfloat16():
        return "this processor has no bfloat16 instructions"
    return ""


def _may_have_cuda() -> bool:
    """Whether an NVIDIA driver is there, which is found without loading PyTorch."""
    if "torch" in sys.modules:
        import torch

        return torch.cuda.is_available()
    if sys.platform == "win32":
        return find_library("nvcuda") is not None
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _is_shipped(
    name: str | None, weights: str | os.PathLike[str] | None, revision: str | None
) -> bool:
    """Whether the weights are those that come with avsal, unchanged.

    All others, and damaged ones, are left to `load_weights`, which checks them.
    """
    row = REGISTRY[DEFAULT]
    path = shipped(row.file)
    if path is None or revision is not None:
        return False
    asked_for = [os.fspath(each) for each in (name, weights) if each] or [DEFAULT]
    if any(find_row(each) is not row for each in asked_for):
        return False
    # A file of that name in the working directory comes first.
    return resolve(asked_for[-1], offline=True) == path and sha256_of(path) == row.sha256


def _shipped_predictor(engine: str, precision: str) -> Predictor:
    from safetensors.numpy import load_file

    row = REGISTRY[DEFAULT]
    path = shipped(row.file)
    assert path is not None and row.sha256 is not None
    computed = _graph_engine(engine, load_file(path), precision)
    return Predictor(VARIANTS[row.variant], computed, (row.name, row.sha256))


def _graphs_obstacle(variant: str, state: Mapping[str, np.ndarray]) -> str:
    """Why the graphs cannot compute a network with its weights, empty where they can."""
    if VARIANTS[variant].network != "small":
        return f"{variant} has no graphs"
    if _graph_engine(EngineName.ONNX, state).takes_weights():
        return ""
    return f"{GRAPHS} is for the weights that come with avsal only"


def _graph_engine(
    engine: str, state: Mapping[str, np.ndarray], precision: str = Precision.AUTO
) -> GraphEngine:
    graphs = shipped(GRAPHS)
    assert graphs is not None  # `engine_obstacle` says so where they are missing
    if engine == EngineName.OPENVINO:
        from avsal.prediction.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(graphs, state, precision)
    from avsal.prediction.onnx_engine import OnnxEngine

    return OnnxEngine(graphs, state)


def _network_engine(loaded: LoadedWeights, engine: str, device: str, precision: str) -> Engine:
    """What computes a published network: PyTorch or OpenVINO. "auto" takes OpenVINO in bfloat16 if
    the translation exists, because making it takes a minute and space on the disk."""
    network = _built(loaded)
    if engine == EngineName.AUTO and not engine_obstacle(EngineName.OPENVINO, device, "bf16"):
        from avsal.prediction.device import choose_device, choose_precision, precision_name

        precision = precision_name(choose_precision(precision, choose_device("cpu")))
        may_take_openvino = precision == Precision.BF16
    else:
        may_take_openvino = engine == EngineName.OPENVINO
    if may_take_openvino:
        from avsal.prediction.openvino_network import TranslatedEngine, translation

        folder = translation(network)
        if engine == EngineName.OPENVINO or exists(folder):
            return TranslatedEngine(network, folder, precision)
    return _torch_engine(network, device, precision)


def _torch_engine(network: SaliencyNetwork, device: str, precision: str) -> Engine:
    from avsal.prediction.device import choose_device, choose_precision, slow_precision
    from avsal.prediction.torch_engine import TorchEngine

    where = choose_device(device)
    dtype = choose_precision(precision, where)
    for note in slow_precision(dtype, where):
        logger.warning(note)
    return TorchEngine(network, where, dtype)


def _built(loaded: LoadedWeights) -> SaliencyNetwork:
    """The network with its weights; PyTorch is prepared for it first."""
    import torch

    from avsal.models import build
    from avsal.prediction.threads import limit_threads, survive_forks

    limit_threads()
    survive_forks()
    with torch.device("cpu"):  # whatever the host has set
        network = build(loaded.variant)
    network.load_state_dict(loaded.state)
    return network


Source = TypeVar("Source", bound="str | os.PathLike[str]")


@dataclass(frozen=True)
class Still:
    """A still image that has been read.

    Attributes:
        window: its only one.
        identity: of the file when it was opened.
        notes: what a person should know.
    """

    info: VideoInfo
    window: WindowInput
    notes: list[str]
    identity: dict[str, Any]

    @property
    def size(self) -> tuple[int, ...]:
        """Of the network's input."""
        return self.window.frames[-1].pixels.shape


if TYPE_CHECKING:
    Opened = Still | VideoReader | Exception


def predict_files(
    predictor: Predictor, sources: Iterable[Source], settings: PredictSettings | None = None
) -> Iterator[tuple[Source, Prediction | Exception]]:
    """Predict files in order as `Predictor.predict` does, still images several at a time.

    Args:
        sources: see `Predictor.predict`; taken in a thread, a few ahead of what is given out.
        settings: see `PredictSettings`.

    Yields:
        Every source with its prediction, to be consumed or closed before the next one is asked
        for; or with what is wrong with it.
    """
    settings = predictor.with_defaults(settings or PredictSettings())
    batch = predictor.batch(settings)
    rest = iter(sources)
    opened: Opened | None
    while True:
        opened = None
        with closing(run_ahead(lambda: _seen(predictor, rest, settings, batch), batch)) as ahead:
            for source, opened, log_density in ahead:
                yield source, _prediction(predictor, opened, settings, log_density)
        if opened is None or isinstance(opened, Still | Exception):
            return  # not stopped by a video


def _seen(
    predictor: Predictor, sources: Iterator[Source], settings: PredictSettings, batch: int
) -> Generator[tuple[Source, Opened, np.ndarray | Exception | None], None, None]:
    """As `_opened`, with the log-densities of still images, or what is wrong with the network."""
    with closing(run_ahead(lambda: _opened(predictor, sources, settings), 2 * batch)) as ahead:
        while group := list(itertools.islice(ahead, batch)):
            stills = [opened for _source, opened in group if isinstance(opened, Still)]
            maps = iter(_log_densities(predictor, stills, batch))
            for source, opened in group:
                yield source, opened, next(maps) if isinstance(opened, Still) else None


def _opened(
    predictor: Predictor, sources: Iterator[Source], settings: PredictSettings
) -> Generator[tuple[Source, Opened], None, None]:
    """Read still images, up to the first video, which is only opened."""
    for source in sources:
        try:
            opened = _open(predictor, source, settings)
        except Exception as error:  # whatever is wrong with one file, the next one may be fine
            yield source, error
            continue
        yield source, opened
        if not isinstance(opened, Still):
            return


def _open(
    predictor: Predictor, source: str | os.PathLike[str], settings: PredictSettings
) -> Still | VideoReader:
    from avsal.media.video import VideoReader

    video = VideoReader(source)
    if not video.info.is_image or settings.start:
        return video
    with video:
        (frame,) = video
        resize = predictor.resizing(video.info.height, video.info.width, video.info.sample_aspect)
        small = info_of(frame, video.origin), resize(frame.image)
        (window,) = FrameCache(settings, predictor.rule(settings)).windows([small])
        return Still(video.info, window, video.warnings, video.identity)


def _log_densities(
    predictor: Predictor, stills: list[Still], batch: int
) -> list[np.ndarray | Exception]:
    """The images' log-densities, (h, w) each, or for each what is wrong with the network; images
    of one size go through it together."""
    found: dict[int, np.ndarray | Exception] = {}
    for size in dict.fromkeys(still.size for still in stills):
        alike = [number for number, still in enumerate(stills) if still.size == size]
        maps: list[np.ndarray] | list[Exception]
        try:
            batches = predictor.engine.batches((stills[number].window for number in alike), batch)
            maps = [log_density for batch in batches for _window, log_density in batch]
        except Exception as error:
            maps = [error] * len(alike)
        found.update(zip(alike, maps, strict=True))
    return [found[number] for number in range(len(stills))]


def _prediction(
    predictor: Predictor,
    opened: Opened,
    settings: PredictSettings,
    log_density: np.ndarray | Exception | None,
) -> Prediction | Exception:
    """The prediction of a file; of a still image, it only has to be brought to its size."""
    if isinstance(opened, Exception):
        return opened
    if not isinstance(opened, Still):
        try:
            return predictor.predict_reader(opened, settings)
        except Exception as error:
            return error
    assert log_density is not None
    if isinstance(log_density, Exception):
        return log_density
    maps = predictor.postprocess([(opened.window.frames[-1], log_density)], settings)
    noted = _with_notes(maps, opened.notes)
    return Prediction(opened.info, 1, ShotFinder(), noted, ExitStack(), opened.identity)


def _with_notes(
    maps: Iterator[SaliencyFrame], notes: list[str]
) -> Generator[SaliencyFrame, None, None]:
    yield from maps
    for note in notes:
        logger.warning(note)
