"""Image encoder: the stages of ConvNeXt-T (Liu et al. 2022), named as in timm's feature extractor.

Activations are (N, C, H, W) tensors in channels-last memory, so that LayerNorm and the linear
layers work on them without a copy.
"""

from __future__ import annotations

import torch
from torch import nn

from avsal.models.blocks import MLP, ChannelNorm

DEPTHS = (3, 3, 9, 3)
WIDTHS = (96, 192, 384, 768)
NORM_EPS = 1e-6


class Block(nn.Module):
    """Depth-wise 7x7, LayerNorm, MLP, layer scale, residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, 4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        branch = self.conv_dw(x).permute(0, 2, 3, 1)
        branch = self.mlp(self.norm(branch)) * self.gamma
        return x + branch.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Downsampling by 2 except in the first stage, then the blocks."""

    def __init__(self, channels: int, width: int, depth: int, downsample: bool) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if downsample:
            self.downsample = nn.Sequential(
                ChannelNorm(channels, eps=NORM_EPS), nn.Conv2d(channels, width, 2, stride=2)
            )
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, width, H, W), or of half the height and width."""
        return self.blocks(self.downsample(x))


class ConvNeXtTiny(nn.Module):
    """Frames (N, 3, H, W) -> features (N, 384, H/16, W/16) and (N, 768, H/32, W/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_0 = nn.Conv2d(3, WIDTHS[0], 4, stride=4)
        self.stem_1 = ChannelNorm(WIDTHS[0], eps=NORM_EPS)
        self.stages_0 = Stage(WIDTHS[0], WIDTHS[0], DEPTHS[0], downsample=False)
        self.stages_1 = Stage(WIDTHS[0], WIDTHS[1], DEPTHS[1], downsample=True)
        self.stages_2 = Stage(WIDTHS[1], WIDTHS[2], DEPTHS[2], downsample=True)
        self.stages_3 = Stage(WIDTHS[2], WIDTHS[3], DEPTHS[3], downsample=True)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem_1(self.stem_0(frames.contiguous(memory_format=torch.channels_last)))
        stride16 = self.stages_2(self.stages_1(self.stages_0(x)))
        return stride16, self.stages_3(stride16)
