"""MorphMLP-S: fully connected layers over segments of space and time (Zhang et al. 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from avsal.errors import UsageError
from avsal.models.blocks import MLP, DropPath, stage_drop_rates

CLIP = (16, 224, 224)  # frames, height and width in pixels; the segments fit nothing else


DIMS = (112, 224, 392, 784)  # by stage, as are the next two (Zhang et al. 2022, table 1)
DEPTHS = (3, 4, 9, 3)
SEGMENTS = (14, 28, 28, 49)  # tokens of a segment
STEPS = 8  # of time after the first embedding: the temporal segment
MLP_RATIO = 3
DROP_PATH = 0.1  # of the last block; rises linearly from 0


def mix_segments(tokens: torch.Tensor, length: int, layer: nn.Linear) -> torch.Tensor:
    """One fully connected layer over segments of `length` consecutive tokens, (..., N, C).

    Channels are split into `length` groups; the layer sees one group of all tokens of a segment,
    so its width stays C whatever the length (section 3.1).
    """
    count, channels = tokens.shape[-2:]
    grouped = tokens.unflatten(-1, (length, channels // length))
    grouped = grouped.unflatten(-3, (count // length, length))
    mixed = layer(grouped.transpose(-3, -2).flatten(-2)).unflatten(-1, (length, -1))
    return mixed.transpose(-3, -2).flatten(-2).flatten(-3, -2)


class TemporalFC(nn.Module):
    """MorphFC_t: mixes the time steps of each position, on (B, T, H, W, dim) (section 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp_t = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = mix_segments(x.movedim(1, 3), STEPS, self.mlp_t)
        return self.proj(mixed).movedim(3, 1)


class Reweight(MLP):
    """Weights of several branches, per channel, from the mean of their sum: softmax over them."""

    def __init__(self, dim: int, branches: int) -> None:
        super().__init__(dim, dim // 4)
        self.fc2 = nn.Linear(dim // 4, dim * branches)
        self.branches = branches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sum of the branches (B, T, H, W, dim) -> (branches, B, 1, 1, 1, dim)."""
        scores = super().forward(x.mean(dim=(1, 2, 3), keepdim=True))
        return scores.unflatten(-1, (-1, self.branches)).softmax(dim=-1).movedim(-1, 0)


class SpatialFC(nn.Module):
    """MorphFC_s: segments along height, along width and single cells, weighted (section 3.1)."""

    def __init__(self, dim: int, segment: int) -> None:
        super().__init__()
        self.segment = segment
        self.mlp_h = nn.Linear(dim, dim)
        self.mlp_w = nn.Linear(dim, dim)
        self.mlp_c = nn.Linear(dim, dim)
        self.reweight = Reweight(dim, branches=3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, dim) -> the same shape."""
        _, _, height, width, _ = x.shape
        columns = x.transpose(2, 3).flatten(2, 3)
        vertical = mix_segments(columns, self.segment, self.mlp_h)
        vertical = vertical.unflatten(2, (width, height)).transpose(2, 3)
        horizontal = mix_segments(x.flatten(2, 3), self.segment, self.mlp_w)
        horizontal = horizontal.unflatten(2, (height, width))
        cells = self.mlp_c(x)
        # Vertical last: the sums take the memory order of their first term.
        weights = self.reweight(cells + horizontal + vertical)
        mixed = cells * weights[2] + horizontal * weights[1] + vertical * weights[0]
        return self.proj(mixed)


class AllPatchesFC(nn.Module):
    """MorphFC_s of the last stage, where one segment holds all patches of a frame."""

    def __init__(self, dim: int, segment: int) -> None:
        super().__init__()
        self.segment = segment
        self.mlp_c = nn.Linear(dim, dim)
        self.mlp_h = nn.Linear(dim, dim)
        self.reweight = Reweight(dim, branches=2)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, dim) -> the same shape."""
        patches = mix_segments(x.flatten(2, 3), self.segment, self.mlp_h).view(x.shape)
        cells = self.mlp_c(x)
        weights = self.reweight(patches + cells)
        return self.proj(patches * weights[0] + cells * weights[1])


class Block(nn.Module):
    """Temporal mixing, spatial mixing and MLP on (B, T, H, W, dim).

    The published network adds the spatial branch to the block's input, so what the temporal
    branch finds enters only through the spatial one.
    """

    def __init__(self, dim: int, spatial: nn.Module, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.t_norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.t_fc = TemporalFC(dim)
        self.fc = spatial
        self.drop_path = DropPath(drop_rate)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = MLP(dim, MLP_RATIO * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        in_time = x + self.drop_path(self.t_fc(self.t_norm1(x)))
        x = x + self.drop_path(self.fc(self.norm1(in_time)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ClipEmbed(nn.Module):
    """First embedding, in two steps: clip (B, 3, T, H, W) -> (B, T/2, H/4, W/4, dim)."""

    conv_bn_pairs: ClassVar = (("proj1", "norm1"), ("proj2", "norm2"))

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.proj1 = nn.Conv3d(3, half, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm3d(half)
        self.proj2 = nn.Conv3d(half, dim, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.norm2 = nn.BatchNorm3d(dim)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.norm1(self.proj1(clip)))
        return self.norm2(self.proj2(x)).movedim(1, -1)


class PatchEmbed(nn.Module):
    """Halves height and width: (B, T, H, W, C) -> (B, T, H/2, W/2, dim)."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, dim, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x.movedim(-1, 1)).movedim(1, -1))


class MorphMLP(nn.Module):
    """MorphMLP as a motion encoder; the lengths of its segments fix the size of the clip.

    The default is MorphMLP-S for Kinetics-400 with 16 frames.
    """

    def __init__(self, depths: tuple[int, ...] = DEPTHS) -> None:
        super().__init__()
        rates = stage_drop_rates(DROP_PATH, depths)
        channels = 0
        for stage, dim in enumerate(DIMS, start=1):
            embed = PatchEmbed(channels, dim) if channels else ClipEmbed(dim)
            self.add_module(f"patch_embed{stage}", embed)
            spatial = AllPatchesFC if stage == len(DIMS) else SpatialFC
            segment = SEGMENTS[stage - 1]
            blocks = [Block(dim, spatial(dim, segment), rate) for rate in rates[stage - 1]]
            self.add_module(f"blocks{stage}", nn.Sequential(*blocks))
            channels = dim

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Clip (B, 3, 16, 224, 224) -> outputs of the four stages, (B, C, 8, 224/s, 224/s).

        Raises UsageError for any other size.
        """
        if tuple(clip.shape[2:]) != CLIP:
            frames, height, width = clip.shape[2:]
            raise UsageError(
                f"MorphMLP needs clips of 16 frames of 224x224 pixels, not {frames} of "
                f"{height}x{width}: its layers have that size built in; use 224x224 or "
                "another motion encoder"
            )
        x, stages = clip, []
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"patch_embed{stage}")(x)
            x = self.get_submodule(f"blocks{stage}")(x)
            stages.append(x.movedim(-1, 1))
        return tuple(stages)
