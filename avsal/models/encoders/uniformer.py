"""UniFormer-B: convolution in early stages, self-attention in late ones (Li et al. 2022)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from avsal.models.blocks import MLP, ChannelNorm, DropPath, SelfAttention, stage_drop_rates

DIMS = (64, 128, 320, 512)  # of the stages, as are the depths (Li et al. 2022, table 1)
DEPTHS = (5, 8, 20, 7)
HEAD_DIM = 64
MLP_RATIO = 4
DROP_PATH = 0.3  # of the last block; rises linearly from 0
KINETICS_CLASSES = 400  # of the classifier in the checkpoint


class PatchEmbed(nn.Module):
    """Strided convolution and LayerNorm: (B, C, T, H, W) -> (B, dim, T', H', W')."""

    def __init__(self, channels: int, dim: int, *, first: bool) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim, eps=1e-5)
        if first:
            self.proj = nn.Conv3d(channels, dim, (3, 4, 4), stride=(2, 4, 4), padding=(1, 0, 0))
        else:
            self.proj = nn.Conv3d(channels, dim, (1, 2, 2), stride=(1, 2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x))


class ConvMLP(nn.Module):
    """Two 1x1x1 convolutions with exact GELU between, on (B, dim, T, H, W)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv3d(dim, hidden, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv3d(hidden, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


def position_conv(dim: int) -> nn.Conv3d:
    """Dynamic position encoding: a depth-wise 3x3x3 convolution, for any size (section 3.4)."""
    return nn.Conv3d(dim, dim, 3, padding=1, groups=dim)


class LocalBlock(nn.Module):
    """Local relation aggregator: its affinity is a learned 5x5x5 neighbourhood (section 3.2)."""

    def __init__(self, dim: int, drop_rate: float) -> None:
        super().__init__()
        self.pos_embed = position_conv(dim)
        self.norm1 = nn.BatchNorm3d(dim)
        self.conv1 = nn.Conv3d(dim, dim, 1)
        self.conv2 = nn.Conv3d(dim, dim, 1)
        self.attn = nn.Conv3d(dim, dim, 5, padding=2, groups=dim)
        self.drop_path = DropPath(drop_rate)
        self.norm2 = nn.BatchNorm3d(dim)
        self.mlp = ConvMLP(dim, MLP_RATIO * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, dim, T, H, W) -> the same shape."""
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class GlobalBlock(nn.Module):
    """Global relation aggregator: self-attention over all tokens of the clip (section 3.2)."""

    def __init__(self, dim: int, drop_rate: float) -> None:
        super().__init__()
        self.pos_embed = position_conv(dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, dim // HEAD_DIM)
        self.drop_path = DropPath(drop_rate)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, MLP_RATIO * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, dim, T, H, W) -> the same shape."""
        x = x + self.pos_embed(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return tokens.transpose(1, 2).reshape(x.shape)


class UniFormer(nn.Module):
    """UniFormer as a motion encoder; sides must be multiples of 32 pixels.

    The default is UniFormer-B for Kinetics-400 with 16 frames. The features do not use `norm` and
    `head`, which exist because checkpoints contain them.
    """

    def __init__(self, depths: tuple[int, ...] = DEPTHS) -> None:
        super().__init__()
        for stage, (channels, dim) in enumerate(pairwise((3, *DIMS)), start=1):
            self.add_module(f"patch_embed{stage}", PatchEmbed(channels, dim, first=stage == 1))
        rates = stage_drop_rates(DROP_PATH, depths)
        for stage, (dim, stage_rates) in enumerate(zip(DIMS, rates, strict=True), start=1):
            block = LocalBlock if stage <= 2 else GlobalBlock
            blocks = (block(dim, rate) for rate in stage_rates)
            self.add_module(f"blocks{stage}", nn.Sequential(*blocks))
        self.norm = nn.BatchNorm3d(DIMS[-1])
        self.head = nn.Linear(DIMS[-1], KINETICS_CLASSES)

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Clip (B, 3, 16, H, W) -> outputs of the four stages, (B, C, 8, H/s, W/s), s = 4..32."""
        x, stages = clip, []
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"patch_embed{stage}")(x)
            x = self.get_submodule(f"blocks{stage}")(x)
            stages.append(x)
        return tuple(stages)
