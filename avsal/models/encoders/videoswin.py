"""Video Swin Transformer: attention within shifted windows of space and time (Liu et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.blocks import MLP, DropPath, attend, kept, stage_drop_rates

Cells = tuple[int, int, int]  # counts of cells along time, height and width

MASKED = -100.0  # added to the logits of cells of different regions; exp(-100) is 0 in float32


# The shape of Swin-S with 8x7x7 windows (section 3.2).
PATCH: Cells = (2, 4, 4)  # frames and pixels
WINDOW: Cells = (8, 7, 7)
DIM = 96  # of the first stage; doubles with every patch merging
DEPTHS, HEADS = (2, 2, 18, 2), (3, 6, 12, 24)  # by stage
MLP_RATIO = 4
DROP_PATH = 0.1  # of the last block; rises linearly from 0


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """How a volume of cells is cut into windows.

    `order` gathers the cells of the padded volume window by window; `restore` takes each cell of
    the volume from that order. Windows that forbid the same pairs of cells are grouped: `groups`
    has their number and those pairs, (cells, cells), or None if all cells may attend.
    """

    window: Cells
    padding: Cells  # cells added at the end of each axis
    order: torch.Tensor
    restore: torch.Tensor
    groups: tuple[tuple[int, torch.Tensor | None], ...]


@kept
def plan_windows(size: Cells, window: Cells, shifted: bool, device: torch.device) -> WindowPlan:
    """Cut a volume of `size` cells into windows of `window` cells, shifted by half a window.

    Along an axis that one window covers, the window shrinks to the axis and is not shifted.
    Shifting rolls the volume, which brings cells of opposite borders into one window; they must
    not attend to each other (Liu et al. 2021, section 3.2). Padding is treated like other cells.
    """
    fitted = [min(length, cells) for length, cells in zip(size, window, strict=True)]
    shift = [
        n // 2 if shifted and length > n else 0 for length, n in zip(size, fitted, strict=True)
    ]
    padding = [-length % cells for length, cells in zip(size, fitted, strict=True)]
    padded = [length + extra for length, extra in zip(size, padding, strict=True)]
    indices = np.arange(math.prod(padded)).reshape(padded)
    coordinates = np.stack(np.unravel_index(indices.ravel(), padded), axis=-1)
    wrapped = coordinates < np.array(shift)

    rolled = np.roll(indices, [-n for n in shift], axis=(0, 1, 2))
    split = [(length // cells, cells) for length, cells in zip(padded, fitted, strict=True)]
    rolled = rolled.reshape(*split[0], *split[1], *split[2])
    windows = rolled.transpose(0, 2, 4, 1, 3, 5).reshape(-1, math.prod(fitted))
    borders, group, counts = np.unique(
        wrapped[windows], axis=0, return_inverse=True, return_counts=True
    )
    order = windows[group.ravel().argsort(kind="stable")].ravel()
    inside = indices[: size[0], : size[1], : size[2]].ravel()
    groups = []
    for border, count in zip(borders, counts.tolist(), strict=True):
        apart = (border[:, None] != border[None]).any(axis=-1)
        groups.append((count, torch.from_numpy(apart).to(device) if apart.any() else None))
    return WindowPlan(
        window=cast(Cells, tuple(fitted)),
        padding=cast(Cells, tuple(padding)),
        order=torch.from_numpy(order).to(device),
        restore=torch.from_numpy(order.argsort()[inside]).to(device),
        groups=tuple(groups),
    )


def relative_positions(window: Cells) -> torch.Tensor:
    """Row of the bias table for every pair of cells of a window, (cells, cells) int64.

    The table has a row for each offset: 2n - 1 of them along an axis of n cells, width fastest.
    """
    cells = torch.cartesian_prod(*(torch.arange(n) for n in window))
    offsets = cells[:, None] - cells[None] + torch.tensor(window) - 1
    rows, columns = 2 * window[1] - 1, 2 * window[2] - 1
    return (offsets[..., 0] * rows + offsets[..., 1]) * columns + offsets[..., 2]


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for each relative position."""

    relative_position_index: torch.Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        offsets = math.prod(2 * n - 1 for n in WINDOW)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_positions(WINDOW))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, windows: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
        """(B, windows, cells, dim), ordered as in `plan` -> the same shape."""
        batch, _, cells, dim = windows.shape
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, dim // self.heads))
        bias = self.bias(plan.window).to(qkv.dtype)
        counts = [count for count, _ in plan.groups]
        attended = []
        for part, (count, apart) in zip(qkv.split(counts, dim=1), plan.groups, strict=True):
            query, key, value = part.flatten(0, 1).permute(2, 0, 3, 1, 4)
            masked = bias if apart is None else torch.where(apart, bias + MASKED, bias)
            output = attend(query, key, value, bias=masked[None])
            attended.append(output.transpose(1, 2).reshape(batch, count, cells, dim))
        return self.proj(torch.cat(attended, dim=1))

    def bias(self, window: Cells) -> torch.Tensor:
        """What the logits gain by relative position: (heads, cells, cells).

        A window that shrank to a small volume keeps the rows of its own offsets.
        """
        t, h, w = window
        index = self.relative_position_index.view(*WINDOW, *WINDOW)
        index = index[:t, :h, :w, :t, :h, :w].reshape(t * h * w, t * h * w)
        bias = self.relative_position_bias_table[index]
        return bias.permute(2, 0, 1).contiguous()  # fused kernels take nothing else


class Block(nn.Module):
    """Window attention and MLP on (B, T, H, W, dim); every second block shifts its windows."""

    def __init__(self, dim: int, heads: int, shifted: bool, drop_rate: float) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.attn = WindowAttention(dim, heads)
        self.drop_path = DropPath(drop_rate)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = MLP(dim, MLP_RATIO * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop_path(self.attend_windows(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def attend_windows(self, x: torch.Tensor) -> torch.Tensor:
        """Attention within the windows of the volume: (B, T, H, W, dim) -> the same shape."""
        time, height, width = x.shape[1:4]
        plan = plan_windows((time, height, width), WINDOW, self.shifted, x.device)
        pad_t, pad_h, pad_w = plan.padding
        cells = F.pad(x, (0, 0, 0, pad_w, 0, pad_h, 0, pad_t)).flatten(1, 3)
        windows = cells.index_select(1, plan.order).unflatten(1, (-1, math.prod(plan.window)))
        attended = self.attn(windows, plan).flatten(1, 2)
        return attended.index_select(1, plan.restore).view(x.shape)


class PatchEmbed(nn.Module):
    """Non-overlapping patches: clip (B, 3, T, H, W) -> (B, T', H', W', dim), without a norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, dim, PATCH, stride=PATCH)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.proj(clip).movedim(1, -1)


class PatchMerging(nn.Module):
    """2x2 neighbours in space to one cell of twice the channels (Liu et al. 2021, section 3.1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, dim) -> (B, T, H/2, W/2, 2 dim)."""
        corners = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class Stage(nn.Module):
    """Blocks, then a patch merging unless it is the last stage."""

    def __init__(self, dim: int, heads: int, drop_rates: list[float], last: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(Block(dim, heads, number % 2 == 1, rate) for number, rate in enumerate(drop_rates))
        )
        self.downsample = None if last else PatchMerging(dim)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, H, W, dim) -> (output before the merging, input of the next stage)."""
        x = self.blocks(x)
        return x, x if self.downsample is None else self.downsample(x)


class VideoSwin(nn.Module):
    """Video Swin as a motion encoder; sides must be multiples of 32 pixels.

    The default is VideoSwin-S for Kinetics-400. The features do not use `norm`, which exists
    because checkpoints contain it.
    """

    def __init__(self, dim: int = DIM, depths: tuple[int, ...] = DEPTHS) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(dim)
        rates = stage_drop_rates(DROP_PATH, depths)
        final = len(rates) - 1
        self.layers = nn.ModuleList(
            Stage(dim * 2**index, HEADS[index], stage_rates, last=index == final)
            for index, stage_rates in enumerate(rates)
        )
        self.norm = nn.LayerNorm(dim * 2**final, eps=1e-5)

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Clip (B, 3, 16, H, W) -> outputs of the four stages, (B, C, 8, H/s, W/s), s = 4..32."""
        x = self.patch_embed(clip)
        stages = []
        for stage in self.layers:
            output, x = stage(x)
            stages.append(output.movedim(-1, 1))
        return tuple(stages)
