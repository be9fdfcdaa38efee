"""What is trained: a module from a batch to the loss and from a batch to log-densities.

Both tasks look the same to the loop.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from avsal import models
from avsal.models.encoders import MOTION
from avsal.models.maps import MAP_STRIDE, MapEncoder, grow
from avsal.models.variants import Variant
from avsal.preprocess.frames import normalise
from avsal.training.config import Config, LossSettings
from avsal.training.losses import Loss, total_loss
from avsal.training.samples import Inputs, Sample

FROZEN = {"image": "image_encoder", "audio": "audnet", "motion": "visnet"}


def _clips(batch: Sample) -> torch.Tensor:
    """uint8 (B, 3, T, H, W) to the network's range."""
    clip = batch["clip"]
    return (
        normalise(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(clip), -1)).transpose(1, 2)
    )


class Task(nn.Module):
    """A network with its losses.

    Attributes:
        inputs: what its samples hold.
        variant: the network that its weights belong to.
    """

    inputs: Inputs
    variant: Variant

    def forward(self, batch: Sample) -> Loss:
        """Loss of a batch of `TrainingSamples`."""
        raise NotImplementedError

    def predict(self, batch: Sample) -> torch.Tensor:
        """Log-densities (B, H, W) of a batch."""
        raise NotImplementedError

    @property
    def core(self) -> nn.Module:
        """The module whose tensors are named as in files of weights."""
        raise NotImplementedError


class AudioVisual(Task):
    """The whole network: KL - CC, and the alignment of motion and sound (section 3.6)."""

    def __init__(self, variant: Variant, freeze: tuple[str, ...], weights: LossSettings) -> None:
        super().__init__()
        self.variant = variant
        self._weights = weights
        self.aligns = variant.audio is not None and weights.alignment != 0
        self.network = models.build(variant, heads=self.aligns)
        self.inputs = _clip_inputs(variant)
        self.frozen = [FROZEN[part] for part in freeze if hasattr(self.network, FROZEN[part])]
        for name in self.frozen:
            self.network.get_submodule(name).requires_grad_(False)

    def train(self, mode: bool = True) -> AudioVisual:
        """Set the mode; frozen encoders stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.network.get_submodule(name).eval()
        return self

    def forward(self, batch: Sample) -> Loss:
        if self.aligns:
            log_density, alignment = self.network.forward_with_alignment(
                _clips(batch), batch["spectrogram"], batch["heard"]
            )
        else:
            log_density = self.predict(batch)
            alignment = log_density.new_zeros(())
        return total_loss(log_density, batch["map"], alignment, self._weights)

    def predict(self, batch: Sample) -> torch.Tensor:
        log_density: torch.Tensor = self.network(_clips(batch), batch.get("spectrogram"))
        return log_density

    @property
    def core(self) -> nn.Module:
        return self.network


class ImageSaliency(Task):
    """The image saliency encoder with its decoder, on single frames (section 3.3, fig. 3).

    Only a network that fuses maps keeps the decoder.
    """

    def __init__(self, variant: Variant, weights: LossSettings) -> None:
        super().__init__()
        self.variant = variant
        self.inputs = _frame_inputs(variant)
        self._weights = weights
        self.image_encoder = MapEncoder(cast(str, variant.image))

    def forward(self, batch: Sample) -> Loss:
        log_density = self.predict(batch)
        return total_loss(log_density, batch["map"], log_density.new_zeros(()), self._weights)

    def predict(self, batch: Sample) -> torch.Tensor:
        frames = _clips(batch).squeeze(2)
        logits = grow(self.image_encoder.logits(frames), MAP_STRIDE).squeeze(1).float()
        return logits - logits.logsumexp(dim=(1, 2), keepdim=True)

    @property
    def core(self) -> nn.Module:
        return self


def _clip_inputs(variant: Variant) -> Inputs:
    return Inputs(variant.size, MOTION[variant.motion].frames, audio=variant.audio is not None)


def _frame_inputs(variant: Variant) -> Inputs:
    return Inputs(variant.size, frames=1, clip=False, audio=False)


def inputs_of(config: Config) -> Inputs:
    """What a run's network is given."""
    image = config.run.task == "image"
    return _frame_inputs(config.variant) if image else _clip_inputs(config.variant)


def make_task(config: Config) -> Task:
    """Make the run's task, with random weights from torch's global generator."""
    variant = config.variant
    if config.run.task == "image":
        return ImageSaliency(variant, config.loss)
    return AudioVisual(variant, config.network.freeze, config.loss)
