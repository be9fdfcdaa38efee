"""Weights into and out of a run: what it starts from, and the best result as safetensors."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from torch import nn

from avsal.errors import WeightsError
from avsal.training.config import NetworkSettings
from avsal.training.objectives import AudioVisual, Task
from avsal.training.sets import expand
from avsal.weights import describe, read_state, resolve, write_state
from avsal.weights.keys import TRAINING_HEADS, without_heads

logger = logging.getLogger("avsal")

DECODER = "image_encoder.decoder."  # of an image run; few networks have a place for it


def load_initial(task: Task, settings: NetworkSettings) -> None:
    """Lay the files of `network.initial` over a task's random weights, later ones over earlier.

    Raises:
        WeightsError: a file is missing or damaged, or does not fit.
    """
    loaded: set[str] = set()
    for name in settings.initial:
        loaded |= _lay_over(task, resolve(expand(name)))
    if isinstance(task, AudioVisual):
        for part in task.frozen:
            if not any(name.startswith(f"{part}.") for name in loaded):
                logger.warning(
                    "%s is frozen with random weights; give its file in network.initial", part
                )


def _lay_over(task: Task, path: Path) -> set[str]:
    """Load one file; returns the names that it had for the task."""
    state = read_state(path)[0]
    own = task.core.state_dict()
    chosen = {name: tensor for name, tensor in state.items() if name in own}
    if not chosen:
        raise WeightsError(f"{path}: none of its {len(state)} names belongs to the network")
    unknown = [name for name in state if name not in own and not _may_be_foreign(task, name)]
    if unknown:
        raise WeightsError(
            f"{path}: {len(unknown)} names are not the network's: {unknown[0]}; is it another "
            "variant's?"
        )
    for name, tensor in chosen.items():
        if tensor.shape != own[name].shape:
            found, wanted = tuple(tensor.shape), tuple(own[name].shape)
            raise WeightsError(f"{path}: {name} is {found} instead of {wanted}")
    task.core.load_state_dict(chosen, strict=False)
    return set(chosen)


def _may_be_foreign(task: Task, name: str) -> bool:
    """Whether a name may be in a file without being in the network."""
    if not isinstance(task, AudioVisual):
        return not name.startswith("image_encoder.")
    return name.startswith((DECODER, *TRAINING_HEADS))


def export(task: Task, path: Path, changes: NetworkSettings, **notes: object) -> None:
    """Write a task's weights without training heads as safetensors.

    A whole network's file is for `avsal predict --weights`, an image run's for network.initial.

    Args:
        changes: settings whose changes of the variant are noted in the file.
        notes: entries of the file's metadata.
    """
    state = without_heads(state_of(task.core))
    metadata = {**describe(task.variant.name), **{key: str(each) for key, each in notes.items()}}
    if changes.changes:
        metadata["changes"] = json.dumps(changes.changes)
    if not isinstance(task, AudioVisual):
        metadata |= {"component": "image saliency", "encoder": str(task.variant.image)}
    write_state(path, state, metadata)


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's tensors."""
    return dict(module.state_dict())
