"""X3D motion encoders (Feichtenhofer 2020, "X3D: Expanding Architectures for Efficient Video
Recognition").

One network expanded along a few axes: `width`, `depth` and `bottleneck` are the paper's factors
(table 1). No layer strides over time, so every stage keeps all frames.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from avsal.models.encoders.slowfast import BottleneckSpec, pathway_blocks, run_pathway

STEM_CHANNELS = 24  # at width 1; the published code calls this 12 channels at width 2.0
STAGE_CHANNELS = (24, 48, 96, 192)  # at width 1
STAGE_DEPTHS = (1, 2, 5, 3)  # residual blocks at depth 1
SQUEEZE_RATIO = 1 / 16  # squeeze-and-excitation bottleneck, relative to the inner width


def round_channels(channels: float) -> int:
    """Round a scaled width to a multiple of 8, but not down by more than 10 %."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class X3DStem(nn.Module):
    """A 1x3x3 convolution with stride 2 and a depth-wise 5x1x1 one, BatchNorm, ReLU."""

    conv_bn_pairs: ClassVar = (("conv", "bn"),)

    def __init__(self, out: int) -> None:
        super().__init__()
        self.conv_xy = nn.Conv3d(3, out, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.conv = nn.Conv3d(out, out, (5, 1, 1), padding=(2, 0, 0), groups=out, bias=False)
        self.bn = nn.BatchNorm3d(out)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Clip (B, 3, T, H, W) -> (B, out, T, H/2, W/2)."""
        return torch.relu_(self.bn(self.conv(self.conv_xy(clip))))


class X3D(nn.Module):
    """Clip (B, 3, T, H, W) -> the four residual stages v1..v4, (B, C, T, H/s, W/s).

    The spatial strides s are 4, 8, 16 and 32 (H and W are multiples of 32); at width 1 the
    channels are 24, 48, 96 and 192. X3D-L has depth 5.
    """

    def __init__(self, width: float = 1.0, depth: float = 1.0, bottleneck: float = 2.25) -> None:
        super().__init__()
        channels = round_channels(STEM_CHANNELS * width)
        self.s1 = nn.ModuleDict({"pathway0_stem": X3DStem(channels)})
        stages = []
        for base, blocks in zip(STAGE_CHANNELS, STAGE_DEPTHS, strict=True):
            out = round_channels(base * width)
            inner = int(bottleneck * out)
            spec = BottleneckSpec(
                inner,
                out,
                kernel=(3, 3, 3),
                depthwise=True,
                squeeze=round_channels(inner * SQUEEZE_RATIO),
                activation=nn.SiLU,
            )
            stages.append(
                nn.ModuleDict(pathway_blocks(0, channels, math.ceil(blocks * depth), 2, spec))
            )
            channels = out
        self.s2, self.s3, self.s4, self.s5 = stages

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.s1["pathway0_stem"](clip)
        taps = []
        for stage in (self.s2, self.s3, self.s4, self.s5):
            x = run_pathway(stage, 0, x)
            taps.append(x)
        return tuple(taps)
