"""Losses of batches of maps (section 3.6), and the networks that are trained on them.

`avsal.metrics` has the same measures for single maps. Losses are computed in float32 whatever the
precision of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from avsal import models
from avsal.models.ablations import MAP_STRIDE, MapEncoder
from avsal.models.blocks import grow
from avsal.models.network import normalise
from avsal.models.small import SmallNetwork
from avsal.models.variants import Variant
from avsal.training.samples import Inputs, Sample
from avsal.weights.loading import TRAINING_HEADS

if TYPE_CHECKING:
    from avsal.training.config import Config, LossSettings

EPSILON = 2.0**-52  # as in the MIT benchmark; keeps the argument of the logarithm positive
FLAT = 1e-4  # a map with a lower ratio of deviation to mean counts as flat; bounds the gradient


def normalised(maps: torch.Tensor) -> torch.Tensor:
    """Scale non-negative maps (B, H, W) to sum 1 each; an empty map stays empty."""
    maps = maps.float()
    return maps / maps.sum(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def kl_divergence(log_density: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """KL divergence of predictions from ground truth (eq. 9).

    Args:
        log_density: (B, H, W), whose exponentials sum to 1.
        target: (B, H, W), not negative, of any scale.

    Returns:
        (B,) nats, 0 for equal densities.
    """
    truth = normalised(target)
    ratio = truth / (log_density.float().exp() + EPSILON)
    return (truth * torch.log(EPSILON + ratio)).sum(dim=(1, 2))


def correlation(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of two batches of maps (B, H, W) as (B,); 0 for a flat map (eq. 8)."""
    first = _standardised(normalised(prediction))
    second = _standardised(normalised(target))
    return (first * second).sum(dim=(1, 2))


def _standardised(maps: torch.Tensor) -> torch.Tensor:
    """Shift and scale maps to mean 0 and norm 1; flat maps become close to 0."""
    mean = maps.mean(dim=(1, 2), keepdim=True)
    centred = maps - mean
    pixels = maps.shape[1] * maps.shape[2]
    floor = (FLAT * mean).square() * pixels + torch.finfo(maps.dtype).tiny
    return centred / centred.square().sum(dim=(1, 2), keepdim=True).maximum(floor).sqrt()


class Loss(NamedTuple):
    """A loss and its terms, scalars."""

    total: torch.Tensor
    kl: torch.Tensor
    cc: torch.Tensor
    alignment: torch.Tensor


TERMS = ("loss", "kl", "cc", "alignment")  # names of a `Loss`'s values in the logs


def total_loss(
    log_density: torch.Tensor,
    target: torch.Tensor,
    alignment: torch.Tensor,
    weights: LossSettings,
) -> Loss:
    """KL - CC + lambda * alignment (eq. 10 and 11), means over the batch.

    Args:
        log_density, target: (B, H, W), see `kl_divergence`.
        alignment: scalar of eq. 7, 0 without alignment heads.
        weights: of the three terms.
    """
    kl = kl_divergence(log_density, target).mean()
    cc = correlation(log_density.float().exp(), target).mean()
    total = weights.kl * kl - weights.cc * cc + weights.alignment * alignment
    return Loss(total, kl, cc, alignment)


ENCODERS = {"image": "image_encoder", "audio": "audnet", "motion": "visnet"}
AUDIO_PARTS = ("audnet.", "aud_vis_sync_block.", "decoder.listen.")  # of the default network
DECODER = "image_encoder.decoder."  # of an image run; only networks that fuse maps have it


def _clips(batch: Sample) -> torch.Tensor:
    """uint8 (B, 3, T, H, W) to the network's range."""
    clip = batch["clip"]
    frames = normalise(clip.transpose(1, 2).flatten(0, 1))
    return frames.unflatten(0, (len(clip), -1)).transpose(1, 2)


class Objective(nn.Module):
    """A network with its loss.

    Attributes:
        variant: the network that its weights belong to.
        inputs: how its samples are made.
        frozen: names of the encoders that are not trained.
        notes: entries for the metadata of a file of its weights.
    """

    frozen: tuple[str, ...] = ()
    notes: Mapping[str, str] = {}

    def __init__(self, inputs: Inputs, weights: LossSettings) -> None:
        super().__init__()
        self.inputs, self.variant = inputs, inputs.variant
        self._weights = weights
        if inputs.alone:
            self.notes = {"component": "image saliency", "encoder": str(self.variant.image)}

    def forward(self, batch: Sample) -> Loss:
        """Loss of a batch of `TrainingSamples`."""
        log_density = self.predict(batch)
        return total_loss(log_density, batch["map"], log_density.new_zeros(()), self._weights)

    def predict(self, batch: Sample) -> torch.Tensor:
        """Log-densities (B, H, W) of a batch."""
        raise NotImplementedError

    @property
    def core(self) -> nn.Module:
        """The module whose tensors are named as in files of weights."""
        raise NotImplementedError

    def ignores(self, name: str) -> bool:
        """Whether a file of weights may have a tensor of this name that `core` does not have."""
        raise NotImplementedError


class AudioVisual(Objective):
    """The whole network, with the alignment of motion and sound (section 3.6)."""

    def __init__(self, variant: Variant, freeze: tuple[str, ...], weights: LossSettings) -> None:
        super().__init__(Inputs(variant), weights)
        self.aligns = variant.audio and weights.alignment != 0
        self.network = models.build(variant, heads=self.aligns)
        modules = (ENCODERS[part] for part in freeze)
        self.frozen = tuple(name for name in modules if hasattr(self.network, name))
        for name in self.frozen:
            self.network.get_submodule(name).requires_grad_(False)

    def train(self, mode: bool = True) -> AudioVisual:
        """Set the mode; frozen encoders stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.network.get_submodule(name).eval()
        return self

    def forward(self, batch: Sample) -> Loss:
        if not self.aligns:
            return super().forward(batch)
        log_density, alignment = self.network.forward_with_alignment(
            _clips(batch), batch["spectrogram"], batch["heard"]
        )
        return total_loss(log_density, batch["map"], alignment, self._weights)

    def predict(self, batch: Sample) -> torch.Tensor:
        return self.network(_clips(batch), batch.get("spectrogram"))

    @property
    def core(self) -> nn.Module:
        return self.network

    def ignores(self, name: str) -> bool:
        return name.startswith((DECODER, *TRAINING_HEADS))


class ImageSaliency(Objective):
    """The image saliency encoder with its decoder, on single frames (section 3.3, fig. 3).

    Only a network that fuses maps keeps the decoder.
    """

    def __init__(self, variant: Variant, weights: LossSettings) -> None:
        super().__init__(Inputs(variant, alone=True), weights)
        self.image_encoder = MapEncoder(cast(str, variant.image))

    def predict(self, batch: Sample) -> torch.Tensor:
        frames = _clips(batch).squeeze(2)
        logits = grow(self.image_encoder.logits(frames), MAP_STRIDE).squeeze(1).float()
        return logits - logits.logsumexp(dim=(1, 2), keepdim=True)

    @property
    def core(self) -> nn.Module:
        return self

    def ignores(self, name: str) -> bool:
        return not name.startswith("image_encoder.")


class StillSaliency(Objective):
    """The default network on single frames, without its audio parts; the frame is its own past.

    The decoder is the network's own, as it reads the same features.
    """

    def __init__(self, variant: Variant, weights: LossSettings) -> None:
        super().__init__(Inputs(variant, alone=True), weights)
        network = models.build(variant, audio=False)
        assert isinstance(network, SmallNetwork)
        self.network = network

    def predict(self, batch: Sample) -> torch.Tensor:
        features = self.network.image_features(_clips(batch).squeeze(2))
        window = (-1, self.variant.frames, -1, -1, -1)
        return self.network.silent(tuple(each[:, None].expand(window) for each in features))

    @property
    def core(self) -> nn.Module:
        return self.network

    def ignores(self, name: str) -> bool:
        return name.startswith((*AUDIO_PARTS, *TRAINING_HEADS))


def make_objective(config: Config) -> Objective:
    """Make the run's objective, with random weights from torch's global generator."""
    variant = config.variant
    if config.run.task == "avsp":
        return AudioVisual(variant, config.network.freeze, config.loss)
    image = StillSaliency if variant.network == "small" else ImageSaliency
    return image(variant, config.loss)
