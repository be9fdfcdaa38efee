"""Motion encoder of the small network: temporal mixing of the frames' image features.

The other motion encoders see the clip's pixels and share nothing between overlapping windows. Here
the image encoder runs once on a frame, at strides 8, 16 and 32, and this module mixes over time
what it said of every fourth frame of a window, with the separable inverted bottlenecks of X3D
(Feichtenhofer 2020, section 3.1) on channels, space and time. A window costs little more than its
newest frame.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from avsal.models.blocks import FrameConv3d, TimeConv3d

WIDTHS = (48, 96, 128)  # of the outputs at strides 8, 16 and 32
EXPANSION = 2
TEMPORAL_KERNEL = 3
DEPTHS = (1, 2, 2)  # blocks of every scale


class MixingBlock(nn.Module):
    """Inverted bottleneck with depth-wise 1x3x3 and 3x1x1: (B, C, T, h, w) -> same, residual."""

    conv_bn_pairs: ClassVar = (("expand", "bn1"), ("time", "bn2"), ("project", "bn3"))

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = EXPANSION * channels
        self.expand = nn.Conv3d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.space = FrameConv3d(inner, inner, 3, groups=inner)
        self.time = TimeConv3d(inner, inner, TEMPORAL_KERNEL, groups=inner)
        self.bn2 = nn.BatchNorm3d(inner)
        self.project = nn.Conv3d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.bn1(self.expand(x)))
        inner = torch.relu(self.bn2(self.time(self.space(inner))))
        out: torch.Tensor = self.bn3(self.project(inner))
        return x + out


class Scale(nn.Sequential):
    """Features of one scale, reduced to `width` channels and mixed: (B, C, T, h, w) -> same T."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__(
            nn.Conv3d(channels, width, 1, bias=False),
            nn.BatchNorm3d(width),
            *(MixingBlock(width) for _ in range(depth)),
        )


class Mixing(nn.Module):
    """Image features (B, T, C, h, w) at strides 8, 16 and 32 -> volumes (B, width, T, h, w)."""

    def __init__(self, channels: tuple[int, ...], widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.scales = nn.ModuleList(map(Scale, channels, widths, DEPTHS))

    def forward(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        volumes = (each.transpose(1, 2) for each in features)
        return tuple(scale(x) for scale, x in zip(self.scales, volumes, strict=True))


def mixing() -> Mixing:
    """Mixing of MobileNet-V2's stride 8 and of the smoothed strides 16 and 32."""
    return Mixing((32, 96, 320))
