"""Attention, and relative position biases that are folded into it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

HEAD_MULTIPLE = 16  # fused attention kernels need a multiple of this many channels per head
QUERIES_AT_ONCE = 672  # their weights stay in a processor's cache


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(scale * query key^T + bias) value, over (B, heads, tokens, channels).

    `scale` defaults to channels ** -0.5; `bias` broadcasts to (B, heads, queries, keys). Without
    a bias, the whole matrix of weights is never held in memory. The value may have fewer channels
    than query and key.
    """
    if bias is None and _computes_in_bfloat16(query):
        return _attend_in_parts(query, key, value, scale)
    channels, missing = value.shape[-1], query.shape[-1] - value.shape[-1]
    if missing:
        value = F.pad(value, (0, missing))
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    return attended[..., :channels]


def _computes_in_bfloat16(query: torch.Tensor) -> bool:
    """Whether this is a prediction in bfloat16 on a CPU, for which PyTorch's fused kernel takes
    twice as long as its matrix products and softmax alone."""
    if query.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    autocast = torch.is_autocast_enabled("cpu")
    return (torch.get_autocast_dtype("cpu") if autocast else query.dtype) == torch.bfloat16


def _attend_in_parts(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """As `attend`, in bfloat16, one head and some of its queries after the other."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    query, key, value = (each.to(torch.bfloat16) for each in (query * scale, key, value))
    attended = value.new_empty(*query.shape[:-1], value.shape[-1])
    heads = (each.flatten(0, 1) for each in (query, key, value, attended))
    with torch.autocast("cpu", enabled=False):
        for queries, keys, values, out in zip(*heads, strict=True):
            parts = (each.split(QUERIES_AT_ONCE) for each in (queries, out))
            for part, part_out in zip(*parts, strict=True):
                weights = torch.mm(part, keys.mT).softmax(dim=-1)
                torch.mm(weights, values, out=part_out)
    return attended


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens (B, N, dim)."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, dim = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = attend(query, key, value).transpose(1, 2).reshape(batch, count, dim)
        projected: torch.Tensor = self.proj(attended)
        return projected


def relative_rows(table: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
    """Rows of a relative-position table for every pair of positions along one axis.

    table (L, C) -> (queries, keys, C). A table made for another size is resampled linearly to
    2 * max(queries, keys) - 1 rows; the coarser of the two grids is spread over the finer one
    (Li et al. 2022, section 4.1).
    """
    length = 2 * max(queries, keys) - 1
    if table.shape[0] != length:
        table = F.interpolate(table.T[None], size=length, mode="linear")[0].T
    query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
    query_at = _counted(queries, table.device)[:, None] * query_step
    key_at = _counted(keys, table.device)[None, :] * key_step
    return table[(query_at - key_at + (keys - 1) * key_step).long()]


def _counted(count: int, device: torch.device) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32, device=device)


def one_hot_positions(grid: torch.Size, like: torch.Tensor) -> torch.Tensor:
    """One-hot rows of every key's height, width and time: (T * H * W, H + W + T).

    `grid` is (T, H, W); the order of the columns is that of `position_products`.
    """
    time, height, width = grid
    of_height, of_width, of_time = (
        torch.eye(count, dtype=like.dtype, device=like.device) for count in (height, width, time)
    )
    parts = (of_height[None, :, None], of_width[None, None], of_time[:, None, None])
    rows = [part.expand(time, height, width, -1) for part in parts]
    return torch.cat(rows, dim=-1).flatten(0, 2)


def position_products(
    query: torch.Tensor, rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bias of every query towards every key height, width and time.

    query (B, T, H, W, heads, C); rows for height, width and time, each (queries, keys, C).
    Three tensors (B, T, H, W, heads, keys along the axis).
    """
    in_height, in_width, in_time = rows
    return (
        torch.einsum("bthwnc,hkc->bthwnk", query, in_height),
        torch.einsum("bthwnc,wkc->bthwnk", query, in_width),
        torch.einsum("bthwnc,tkc->bthwnk", query, in_time),
    )


def attend_decomposed(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    one_hot: torch.Tensor,
) -> torch.Tensor:
    """Attention with decomposed relative positions that never makes the bias (Li et al. 2022).

    query (B, T, H, W, heads, C); key and value (B, keys, heads, C); rows as in
    `position_products`; one_hot (keys, positions). Returns (B, T * H * W, heads, C).
    The bias q·Rh + q·Rw + q·Rt of a query and a key is itself an inner product: of the three
    products with all key positions, and of the one-hot rows of the key's own position.
    """
    channels = query.shape[-1]
    products = position_products(query, rows)
    padding = -(channels + one_hot.shape[1]) % HEAD_MULTIPLE
    scaled = query * channels**-0.5
    zeros = scaled.new_zeros(1).expand(*scaled.shape[:-1], padding)
    folded_query = torch.cat((scaled, *products, zeros), dim=-1).flatten(1, 3)
    positions = F.pad(one_hot, (0, padding))[None, :, None].to(key.dtype)
    folded_key = torch.cat((key, positions.expand(*key.shape[:-1], -1)), dim=-1)
    attended = attend(
        folded_query.transpose(1, 2),
        folded_key.transpose(1, 2),
        value.transpose(1, 2),
        scale=1.0,
    )
    return attended.transpose(1, 2)
