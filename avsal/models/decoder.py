"""Decoder: lateral blocks, the top-down sums and the readout (section 3.5).

Everything works on (B, C, 4, h, w) volumes, in channels-last memory where the input is.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.blocks import ChannelNorm, FrameConv3d, TimeConv3d, run, upsample
from avsal.models.encoders import DECODER_FRAMES

TEMPORAL_KERNEL, SPATIAL_KERNEL = 7, 7
READOUT_CHANNELS = (64, 32)  # after the second and third stage of the readout


class ConvNeXtBlock3d(nn.Module):
    """Depth-wise 7x1x1 and 1x7x7, LayerNorm, pointwise MLP, residual: (B, C, T, h, w) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv_t = TimeConv3d(width, width, TEMPORAL_KERNEL, groups=width)
        self.dwconv_s = FrameConv3d(width, width, SPATIAL_KERNEL, groups=width)
        self.norm = nn.Sequential(OrderedDict(norm=ChannelNorm(width)))
        self.pwconv1 = nn.Conv3d(width, 4 * width, 1)
        self.pwconv2 = nn.Conv3d(4 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.norm(self.dwconv_s(self.dwconv_t(x)))
        return x + self.pwconv2(F.gelu(self.pwconv1(branch)))


class Lateral(nn.Sequential):
    """T&C block: channels to `width`, time to 4 by a strided T-convolution, ConvNeXt block.

    (B, channels, 4 * stride, h, w) -> (B, width, 4, h, w).
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        layers: list[nn.Module] = [nn.Conv3d(channels, width, 1)]
        if stride > 1:
            kernel = (stride, 1, 1)
            layers.append(nn.Conv3d(width, width, kernel, kernel, bias=False))
        super().__init__(*layers, ConvNeXtBlock3d(width))


def top_down(scales: list[torch.Tensor]) -> list[torch.Tensor]:
    """Add to every scale all coarser sums, upsampled to it; finest first, factors of 2 between."""
    sums: list[torch.Tensor] = []
    for scale in reversed(scales):
        coarser = [upsample(x, 2**distance) for distance, x in enumerate(sums, start=1)]
        sums.insert(0, add_all([scale, *coarser]))
    return sums


def add_all(terms: list[torch.Tensor]) -> torch.Tensor:
    """Sum of tensors of one shape, with one allocation."""
    if len(terms) == 1:
        return terms[0]
    total = terms[0] + terms[1]
    for term in terms[2:]:
        total += term
    return total


class Readout(nn.Sequential):
    """Scales (B, width, 4, h / 2^i, w / 2^i), finest first -> (B, 1, 1, stride * h, stride * w).

    The first convolution is meant for the concatenation of all scales at the finest size. It acts
    on channels and the upsampling on space, so that each scale is convolved at its own size. The
    temporal convolution goes before the last upsampling for the same reason.
    """

    def __init__(self, width: int, scales: int = 4, stride: int = 4) -> None:
        middle, last = READOUT_CHANNELS
        super().__init__(
            nn.Conv3d(scales * width, width, 1),
            nn.Conv3d(width, width, 3, padding=1),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
            FrameConv3d(width, middle, 3),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=(1, stride, stride), mode="trilinear"),
            nn.Conv3d(middle, last, (DECODER_FRAMES, 1, 1), (DECODER_FRAMES, 1, 1)),
            nn.ReLU(inplace=True),
            FrameConv3d(last, last, 3),
            nn.ReLU(inplace=True),
            FrameConv3d(last, 1, 3),
        )
        self._stride = stride

    def forward(self, scales: list[torch.Tensor]) -> torch.Tensor:
        layers = list(self)
        x = run(layers[4:7], run(layers[1:4], self._mixed(scales)))
        x = upsample(self[8](x), self._stride)
        return run(layers[9:], x)

    def _mixed(self, scales: list[torch.Tensor]) -> torch.Tensor:
        mixing = cast(nn.Conv3d, self[0])
        finest, *weights = mixing.weight.split([scale.shape[1] for scale in scales], dim=1)
        coarser = [
            upsample(F.conv3d(scale, weight), 2**level)
            for level, (scale, weight) in enumerate(zip(scales[1:], weights, strict=True), start=1)
        ]
        return add_all([F.conv3d(scales[0], finest, mixing.bias), *coarser])
