"""Image saliency maps, and their fusion in place of features (variant V7 of Table 2).

The image saliency model of section 3.3 is an encoder, a Conv-BN-ReLU transition and a simple
decoder (fig. 3). The published networks keep encoder and transition; V7 keeps the decoder too and
fuses the motion features with its maps directly (section 4.5).

Left open by the paper, and chosen here: the decoder's layers; maps at a quarter of the input size,
each divided by its own maximum; and where they enter, which is as the mask M of eq. 4, without the
adapter and the convolutions that make M from features. Four frames share a mask, their maximum, as
they do in the adapter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.image import STRIDE16_CHANNELS, STRIDE32_CHANNELS, ImageEncoder, strongest

STAGE_CHANNELS = (128, 64, 32)  # at strides 16, 8 and 4
MAP_STRIDE = 4
STRIDE16 = 16  # of the features to whose size attention is told its own


def _stage(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


def grow(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Bilinear upsampling, (N, C, h, w) -> (N, C, factor * h, factor * w)."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ImageDecoder(nn.Module):
    """o1 (N, 96, H/16, W/16) and o0 (N, 320, H/32, W/32) -> logits (N, 1, H/4, W/4).

    Convolution, BatchNorm and ReLU at every scale, bilinear upsampling between.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (STRIDE16_CHANNELS + STRIDE32_CHANNELS, *STAGE_CHANNELS)
        self.stages = nn.ModuleList(map(_stage, widths, STAGE_CHANNELS))
        self.score = nn.Conv2d(STAGE_CHANNELS[-1], 1, 1)

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        stride16, stride32 = features
        first, *others = self.stages
        x = first(torch.cat((stride16, grow(stride32, 2)), dim=1))
        for stage in others:
            x = stage(grow(x, 2))
        logits: torch.Tensor = self.score(x)
        return logits


class MapEncoder(ImageEncoder):
    """The whole image saliency model: frames (N, 3, H, W) -> one map (N, 1, H/4, W/4) in 0..1."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.decoder = ImageDecoder()

    def logits(self, frames: torch.Tensor) -> torch.Tensor:
        """Unnormalised log-density (N, 1, H/4, W/4), as its training on images needs it."""
        logits: torch.Tensor = self.decoder(super().forward(frames))
        return logits

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.logits(frames)
        return ((logits - logits.amax(dim=(2, 3), keepdim=True)).exp(),)


class MapAdapter(nn.Module):
    """Maps of a window's frames (B, 16, 1, H/4, W/4) -> masks (B, 1, 4, H/4, W/4)."""

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (maps,) = features
        return strongest(maps)


class MapAttention(nn.Module):
    """Weights x (B, C, 4, h, w) by masks (B, 1, 4, H/4, W/4), with residual (eq. 4).

    `factor` is the ratio of x's size to H/16, as it is for `SpatialAttention`.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        reduction = STRIDE16 // (factor * MAP_STRIDE)
        self.pool = nn.AvgPool3d((1, reduction, reduction))

    def forward(self, x: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(x, x, self.pool(masks))
