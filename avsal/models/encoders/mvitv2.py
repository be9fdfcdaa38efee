"""Motion encoder MViTv2-S (Li et al. 2022, "MViTv2: Improved Multiscale Vision Transformers").

The 16x4 Kinetics-400 configuration without a class token. Tokens are kept as (B, T, H, W, C)
tensors: pooling convolutions see them as channels-last volumes, linear layers as rows, and neither
needs a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.blocks import (
    MLP,
    DropPath,
    attend_decomposed,
    one_hot_positions,
    pointwise,
    relative_rows,
    stage_drop_rates,
)

HEAD_CHANNELS = 96
NORM_EPS = 1e-6
DROP_PATH = 0.2  # of the last block; rises linearly from 0
TABLE_TIME, TABLE_SIZE = 8, 56  # token grid of a 224x224 input, for which the tables are made
DEPTH = 16
WIDENING = (1, 3, 14)  # blocks that halve the grid and double channels and heads
TAPS = (0, 2, 13, 15)  # blocks after which v1..v4 are taken
WINDOW = 3  # rows and columns under a pooling convolution
FIRST_KEY_STRIDE = 8  # spatial stride of the keys in block 0; halves whenever the grid does


@dataclass(frozen=True)
class BlockSpec:
    """Shape of one block: channels in and out, strides of queries and keys, its table grid."""

    channels: int
    out: int
    query_stride: int
    key_stride: int
    grid: int

    @property
    def heads(self) -> int:
        """Heads of 96 channels each."""
        return self.out // HEAD_CHANNELS


def block_specs() -> list[BlockSpec]:
    """The 16 blocks of MViTv2-S."""
    channels, key_stride, grid, specs = HEAD_CHANNELS, FIRST_KEY_STRIDE, TABLE_SIZE, []
    for index in range(DEPTH):
        widens = index in WIDENING
        out, stride = (2 * channels, 2) if widens else (channels, 1)
        key_stride //= stride
        specs.append(BlockSpec(channels, out, stride, key_stride, grid))
        channels, grid = out, grid // stride
    return specs


class HeadPool(nn.Conv3d):
    """Depth-wise 3x3x3 convolution with spatial stride, shared by all heads (section 3.1).

    (B, T, H, W, heads * 96) -> (B, T, H/stride, W/stride, heads, 96).
    """

    def __init__(self, stride: int) -> None:
        channels = HEAD_CHANNELS
        super().__init__(
            channels, channels, 3, (1, stride, stride), padding=1, groups=channels, bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.shape[-1] // HEAD_CHANNELS
        weight = self.weight.repeat(heads, 1, 1, 1, 1)
        volume = x.permute(0, 4, 1, 2, 3)
        pooled = F.conv3d(volume, weight, None, self.stride, self.padding, groups=x.shape[-1])
        return pooled.permute(0, 2, 3, 4, 1).unflatten(-1, (heads, HEAD_CHANNELS))


def under_windows(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Keep the rows and columns that a 3x3 window with this stride (and padding 1) reads.

    (B, T, H, W, C) -> (B, T, 3 * H/stride - 1, 3 * W/stride - 1, C). Convolving this with stride 3
    gives the same numbers, and the linear layer before the convolution has fewer inputs.
    """
    reach = torch.arange(WINDOW, device=x.device) - 1
    for axis in (2, 3):
        centres = torch.arange(0, x.shape[axis], stride, device=x.device)
        read = (centres[:, None] + reach).flatten()[1:]  # the first one is padding
        x = x.index_select(axis, read)
    return x


class Positions(NamedTuple):
    """Relative positions resampled for one pair of grids, and their source.

    `tables` share memory with the parameters, which therefore cannot be freed and their address
    used again; `versions` count in-place changes.
    """

    grids: tuple[torch.Size, torch.Size]
    tables: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    one_hot: torch.Tensor

    def made_from(
        self, tables: tuple[torch.Tensor, ...], grids: tuple[torch.Size, torch.Size]
    ) -> bool:
        """Tell whether these positions belong to the current tables and to these grids."""
        return grids == self.grids and all(
            (old.data_ptr(), old.dtype, old.device, version)
            == (new.data_ptr(), new.dtype, new.device, new._version)
            for old, new, version in zip(self.tables, tables, self.versions, strict=True)
        )


class PooledAttention(nn.Module):
    """Pooling attention with residual query and decomposed relative positions (section 4.1)."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        length = 2 * spec.grid // min(spec.query_stride, spec.key_stride) - 1
        self.rel_pos_h = nn.Parameter(torch.empty(length, HEAD_CHANNELS))
        self.rel_pos_w = nn.Parameter(torch.empty(length, HEAD_CHANNELS))
        self.rel_pos_t = nn.Parameter(torch.empty(2 * TABLE_TIME - 1, HEAD_CHANNELS))
        for table in (self.rel_pos_h, self.rel_pos_w, self.rel_pos_t):
            nn.init.trunc_normal_(table, std=0.02)
        self.qkv = nn.Linear(spec.channels, 3 * spec.out)
        self.proj = nn.Linear(spec.out, spec.out)
        key_step = min(spec.key_stride, WINDOW)
        self.pool_q = HeadPool(spec.query_stride)
        self.norm_q = nn.LayerNorm(HEAD_CHANNELS, eps=NORM_EPS)
        self.pool_k = HeadPool(key_step)
        self.norm_k = nn.LayerNorm(HEAD_CHANNELS, eps=NORM_EPS)
        self.pool_v = HeadPool(key_step)
        self.norm_v = nn.LayerNorm(HEAD_CHANNELS, eps=NORM_EPS)
        self._positions: Positions | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, channels) -> (B, T, H/query_stride, W/query_stride, out)."""
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        read = under_windows(x, self.spec.key_stride) if self.spec.key_stride > WINDOW else x
        query = self.norm_q(self.pool_q(pointwise(x, weights[0], biases[0])))
        key = self.norm_k(self.pool_k(pointwise(read, weights[1], biases[1])))
        value = self.norm_v(self.pool_v(pointwise(read, weights[2], biases[2])))
        rows, one_hot = self.positions((query.shape[1:4], key.shape[1:4]))
        attended = attend_decomposed(query, key.flatten(1, 3), value.flatten(1, 3), rows, one_hot)
        attended = attended.view_as(query) + query
        return self.proj(attended.flatten(-2))

    def positions(
        self, grids: tuple[torch.Size, torch.Size]
    ) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        """Relative positions for the (T, H, W) grids of queries and keys, as `attend_decomposed`
        takes them; without gradients they are remade only when the grids or the tables change."""
        tables = (self.rel_pos_h, self.rel_pos_w, self.rel_pos_t)
        traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if traced or any(table.is_inference() for table in tables):
            return self._resampled(grids)
        if self._positions is None or not self._positions.made_from(tables, grids):
            self._positions = Positions(
                grids,
                tuple(table.detach() for table in tables),
                tuple(table._version for table in tables),
                *self._resampled(grids),
            )
        return self._positions.rows, self._positions.one_hot

    def _resampled(
        self, grids: tuple[torch.Size, torch.Size]
    ) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        time, height, width = zip(*grids, strict=True)
        rows = (
            relative_rows(self.rel_pos_h, *height),
            relative_rows(self.rel_pos_w, *width),
            relative_rows(self.rel_pos_t, *time),
        )
        return rows, one_hot_positions(grids[1], self.rel_pos_h)


class Block(nn.Module):
    """Pooling attention and MLP, each with pre-norm and residual; may halve the grid."""

    def __init__(self, spec: BlockSpec, drop_path: float) -> None:
        super().__init__()
        self.spec = spec
        self.norm1 = nn.LayerNorm(spec.channels, eps=NORM_EPS)
        self.attn = PooledAttention(spec)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(spec.out, eps=NORM_EPS)
        self.mlp = MLP(spec.out, 4 * spec.out)
        self.proj: nn.Module | None = None
        if spec.out != spec.channels:
            self.proj = nn.Linear(spec.channels, spec.out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, C) -> (B, T, H/s, W/s, out)."""
        normed = self.norm1(x)
        shortcut = x if self.proj is None else self.proj(normed)
        if self.spec.query_stride > 1:
            shortcut = self._max_pool(shortcut)
        x = shortcut + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _max_pool(self, x: torch.Tensor) -> torch.Tensor:
        stride = self.spec.query_stride
        frames = x.flatten(0, 1).permute(0, 3, 1, 2)
        pooled = F.max_pool2d(frames, stride + 1, stride, padding=(stride + 1) // 2)
        return pooled.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class PatchEmbed(nn.Module):
    """Clip (B, 3, T, H, W) -> tokens (B, T/2, H/4, W/4, 96)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, HEAD_CHANNELS, (3, 7, 7), (2, 4, 4), (1, 3, 3))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.proj(clip).permute(0, 2, 3, 4, 1).contiguous()


class MViTv2(nn.Module):
    """Clip (B, 3, T, H, W) -> v1..v4, (B, 96 * 2^i, T/2, H/s, W/s) with s = 4, 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        rates = stage_drop_rates(DROP_PATH, (DEPTH,))[0]
        specs = block_specs()
        self.blocks = nn.ModuleList(
            Block(spec, rate) for spec, rate in zip(specs, rates, strict=True)
        )
        self.norm = nn.LayerNorm(specs[-1].out, eps=NORM_EPS)  # of the classifier only

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = self.patch_embed(clip)
        taps = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in TAPS:
                taps.append(tokens.permute(0, 4, 1, 2, 3))
        return tuple(taps)
