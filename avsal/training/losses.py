"""Losses on batches of maps (section 3.6); `avsal.metrics` has the same measures for single maps.

Everything is computed in float32 whatever the number type of the network's products.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from avsal.training.config import LossSettings

EPSILON = 2.0**-52  # the MIT benchmark's; keeps the logarithm's argument positive
FLAT = 1e-4  # standard deviation over mean below which a map counts as flat; bounds the gradient


def to_density(maps: torch.Tensor) -> torch.Tensor:
    """Scale non-negative maps (B, H, W) to sum 1 each; an empty map stays empty."""
    maps = maps.float()
    return maps / maps.sum(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def kl_divergence(log_density: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """KL divergence of predictions from ground truth (eq. 9).

    Args:
        log_density: (B, H, W), exponentials summing to 1.
        target: (B, H, W), not negative; normalised here.

    Returns:
        (B,) nats, 0 for equal densities.
    """
    truth = to_density(target)
    ratio = truth / (log_density.float().exp() + EPSILON)
    return (truth * torch.log(EPSILON + ratio)).sum(dim=(1, 2))


def correlation(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of maps (eq. 8), (B, H, W) twice -> (B,); 0 where a map is flat."""
    first = _standardised(to_density(prediction))
    second = _standardised(to_density(target))
    return (first * second).sum(dim=(1, 2))


def _standardised(maps: torch.Tensor) -> torch.Tensor:
    """Mean 0 and norm 1 over the pixels; close to 0 for flat maps."""
    mean = maps.mean(dim=(1, 2), keepdim=True)
    centred = maps - mean
    pixels = maps.shape[1] * maps.shape[2]
    floor = (FLAT * mean).square() * pixels + torch.finfo(maps.dtype).tiny
    return centred / centred.square().sum(dim=(1, 2), keepdim=True).maximum(floor).sqrt()


class Loss(NamedTuple):
    """A loss and its terms, scalars; `total` carries the gradient."""

    total: torch.Tensor
    kl: torch.Tensor
    cc: torch.Tensor
    alignment: torch.Tensor

    def terms(self) -> torch.Tensor:
        """(4,) of total, kl, cc and alignment, detached."""
        return torch.stack((self.total, self.kl, self.cc, self.alignment)).detach()


TERMS = ("loss", "kl", "cc", "alignment")


def total_loss(
    log_density: torch.Tensor,
    target: torch.Tensor,
    alignment: torch.Tensor,
    weights: LossSettings,
) -> Loss:
    """KL - CC + lambda * alignment (eq. 10 and 11), means over the batch.

    Args:
        log_density, target: (B, H, W), see `kl_divergence`.
        alignment: scalar of eq. 7, 0 where nothing is aligned.
        weights: of the three terms.
    """
    kl = kl_divergence(log_density, target).mean()
    cc = correlation(log_density.float().exp(), target).mean()
    total = weights.kl * kl - weights.cc * cc + weights.alignment * alignment
    return Loss(total, kl, cc, alignment)
