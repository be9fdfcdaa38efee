"""A network with its weights, ready to predict: `load_model`."""

from __future__ import annotations

import logging
import os

import torch

from avsal.models import build
from avsal.models.variants import VARIANTS
from avsal.prediction.device import choose_device, choose_precision, slow_precision
from avsal.prediction.predictor import Predictor
from avsal.prediction.threads import limit_threads, survive_forks
from avsal.weights.loading import load_weights

logger = logging.getLogger("avsal")


def load_model(
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    offline: bool = False,
    revision: str | None = None,
) -> Predictor:
    """Load a network with its weights.

    Args:
        name: a row of the weights registry such as "mspi-mvitv2s", or a network variant such as
            "s3d-224x384" (then `weights` says which weights); None takes the default.
        weights: path of a .safetensors or .pt file, a name in the registry, or "untrained".
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32", "fp16" or "bf16".
        offline: never ask the Hub, take what is on this machine.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        WeightsError: no weights, damaged weights, or weights of another network.
        UsageError: unknown name, device or precision.
    """
    limit_threads()
    survive_forks()
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    loaded = load_weights(name, weights, offline=offline, revision=revision)
    variant = VARIANTS[loaded.variant]
    with torch.device("cpu"):  # whatever the host has set
        network = build(variant.name)
    network.load_state_dict(loaded.state)
    for note in (*loaded.notes, *slow_precision(dtype, where)):
        logger.warning(note)
    return Predictor(network, variant, where, dtype, (loaded.name, loaded.sha256))
