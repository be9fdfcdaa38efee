"""A network with its weights, ready to predict: `load_model`."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Mapping
from ctypes.util import find_library
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avsal.errors import UsageError
from avsal.models.variants import VARIANTS
from avsal.prediction.predictor import Engine, Predictor
from avsal.prediction.settings import EngineName, check_word
from avsal.weights.places import GRAPHS, resolve, shipped
from avsal.weights.reading import sha256_of
from avsal.weights.registry import DEFAULT, REGISTRY, find_row

if TYPE_CHECKING:
    from avsal.prediction.onnx_engine import OnnxEngine
    from avsal.weights.loading import LoadedWeights

logger = logging.getLogger("avsal")


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
        engine: "onnx" (ONNX Runtime: the default network, on a CPU), "torch" (PyTorch: any
            network), or "auto", which takes "onnx" where it can.
        offline: use only weights that are on this machine.
        revision: branch, tag or commit of the repository on the Hugging Face Hub.

    Raises:
        WeightsError: the weights are missing, damaged or of another network.
        UsageError: unknown name, device, precision or engine.
    """
    check_word("engine", engine, EngineName)
    why_not = onnx_obstacle(device, precision) if engine != EngineName.TORCH else "not wanted"
    if not why_not and _is_shipped(name, weights, revision):
        return _shipped_predictor()
    from avsal.weights.loading import load_weights

    loaded = load_weights(name, weights, offline=offline, revision=revision)
    variant = VARIANTS[loaded.variant]
    for note in loaded.notes:
        logger.warning(note)
    arrays = {} if why_not else {key: tensor.numpy() for key, tensor in loaded.state.items()}
    why_not = why_not or _graphs_obstacle(loaded.variant, arrays)
    if engine == EngineName.ONNX and why_not:
        raise UsageError(f"engine onnx: {why_not}; use --engine auto or torch")
    computed = _torch_engine(loaded, device, precision) if why_not else _onnx_engine(arrays)
    return Predictor(variant, computed, (loaded.name, loaded.sha256))


def onnx_obstacle(device: str, precision: str) -> str:
    """Why ONNX Runtime cannot be used, empty where it can."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "the package onnxruntime is not installed"
    if shipped(GRAPHS) is None:
        return f"{GRAPHS} is missing"
    if precision not in ("auto", "fp32"):
        return f"it computes in fp32, not in {precision}"
    if device == "cpu" or (device == "auto" and not _may_have_cuda()):
        return ""
    return "it is used on CPUs only"


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


def _shipped_predictor() -> Predictor:
    from safetensors.numpy import load_file

    row = REGISTRY[DEFAULT]
    path = shipped(row.file)
    assert path is not None and row.sha256 is not None
    return Predictor(VARIANTS[row.variant], _onnx_engine(load_file(path)), (row.name, row.sha256))


def _graphs_obstacle(variant: str, state: Mapping[str, np.ndarray]) -> str:
    """Why the graphs cannot compute a network with its weights, empty where they can."""
    if VARIANTS[variant].network != "small":
        return f"{variant} has no graphs"
    if _onnx_engine(state).takes_weights():
        return ""
    return f"{GRAPHS} is for the weights that come with avsal only"


def _onnx_engine(state: Mapping[str, np.ndarray]) -> OnnxEngine:
    from avsal.prediction.onnx_engine import OnnxEngine

    graphs = shipped(GRAPHS)
    assert graphs is not None  # `onnx_obstacle` says so where they are missing
    return OnnxEngine(graphs, state)


def _torch_engine(loaded: LoadedWeights, device: str, precision: str) -> Engine:
    import torch

    from avsal.models import build
    from avsal.prediction.device import choose_device, choose_precision, slow_precision
    from avsal.prediction.threads import limit_threads, survive_forks
    from avsal.prediction.torch_engine import TorchEngine

    limit_threads()
    survive_forks()
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    for note in slow_precision(dtype, where):
        logger.warning(note)
    with torch.device("cpu"):  # whatever the host has set
        network = build(loaded.variant)
    network.load_state_dict(loaded.state)
    return TorchEngine(network, where, dtype)
