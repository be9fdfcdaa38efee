"""Building blocks that encoders, fusions and the decoder share, attention among them.

Attribute names are weight names. A module in which a BatchNorm directly follows a convolution lists
the names of the two children in `conv_bn_pairs`, and `folding.prepare_for_inference` merges them.
In an `nn.Sequential`, such pairs are found automatically.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from typing import ClassVar, TypeVar

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
        return self.proj(attended)


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


Made = TypeVar("Made")


def kept(make: Callable[..., Made]) -> Callable[..., Made]:
    """Decorator of a function that makes constant tensors: those of recent arguments are kept.

    They serve predictions and training alike. While a network is being exported or compiled nothing
    is kept, because its tensors hold no values then.
    """
    cached = lru_cache(maxsize=32)(torch.inference_mode(False)(make))

    @wraps(make)
    def constants(*arguments: object) -> Made:
        return make(*arguments) if torch.compiler.is_compiling() else cached(*arguments)

    return constants


class DropPath(nn.Module):
    """Stochastic depth: in training, drops a residual branch for whole samples (Huang et al. 2016).

    `rate` is the probability of dropping; kept samples are scaled by 1 / (1 - rate). Any shape
    with the batch first.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ...) -> the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(keep)
        return x * mask / keep


def stage_drop_rates(last: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Drop rate of every block, by stage: rising linearly from 0 in the first to `last`."""
    count = sum(depths)
    rates = iter([last * number / max(1, count - 1) for number in range(count)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def run(layers: Iterable[nn.Module], x: torch.Tensor) -> torch.Tensor:
    """x through the layers, one after the other."""
    for layer in layers:
        x = layer(x)
    return x


def grow(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Bilinear upsampling, (N, C, h, w) -> (N, C, factor * h, factor * w)."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def upsample(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Linear upsampling in space only, (B, C, T, h, w) -> (B, C, T, factor * h, factor * w)."""
    if factor == 1:
        return x
    frames = x.transpose(1, 2).flatten(0, 1)
    return grow(frames, factor).unflatten(0, (x.shape[0], -1)).transpose(1, 2)


@lru_cache(maxsize=1)
def _convolves_rows_faster() -> bool:
    """Tell whether a 1x1 convolution by oneDNN replaces linear layers by PyTorch's BLAS.

    On x86 that BLAS is MKL, which uses only half of the vector width of AMD processors.
    """
    x86 = torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"}
    return x86 and torch.backends.mkldnn.is_available()


def pointwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """F.linear over the last axis: x (..., C), weight (out, C) -> (..., out)."""
    traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if traced or x.device.type != "cpu" or not _convolves_rows_faster():
        return F.linear(x, weight, bias)
    rows = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    out = F.conv2d(rows, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class PointwiseLinear(nn.Module):
    """A linear layer, with its own parameters, that is computed by `pointwise`."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) -> (..., out)."""
        return pointwise(x, self.weight, self.bias)


class MLP(nn.Module):
    """Two linear layers with exact GELU between, on (..., dim)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> the same shape."""
        return self.fc2(self.act(self.fc1(x)))


class SqueezeExcite(nn.Module):
    """Channel gates from the global mean of (B, C, T, H, W) (Hu et al. 2018)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv3d(channels, hidden, 1)
        self.fc2 = nn.Conv3d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = torch.relu(self.fc1(x.mean(dim=(2, 3, 4), keepdim=True)))
        return x * torch.sigmoid(self.fc2(squeezed))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, ...)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class FrameConv3d(nn.Conv3d):
    """A 1 x k x k convolution of (B, C, T, H, W), computed as a 2D convolution of the frames.

    CPU backends have fast kernels for every such 2D convolution, but not for the 3D ones.
    """

    def __init__(self, channels: int, out: int, kernel: int, groups: int = 1) -> None:
        pad = kernel // 2
        super().__init__(channels, out, (1, kernel, kernel), padding=(0, pad, pad), groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)
        weight, padding = self.weight.squeeze(2), self.padding[1:]
        out = F.conv2d(frames, weight, self.bias, padding=padding, groups=self.groups)
        return out.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


class TimeConv3d(nn.Conv3d):
    """A k x 1 x 1 convolution of (B, C, T, H, W), computed in 2D over (time, pixels)."""

    def __init__(self, channels: int, out: int, kernel: int, groups: int = 1) -> None:
        padding = (kernel // 2, 0, 0)
        super().__init__(channels, out, (kernel, 1, 1), padding=padding, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = x.movedim(1, -1).flatten(2, 3).movedim(-1, 1)
        weight, padding = self.weight.squeeze(-1), self.padding[:2]
        out = F.conv2d(pixels, weight, self.bias, padding=padding, groups=self.groups)
        return out.unflatten(-1, x.shape[-2:])


class MaxPool3d(nn.Module):
    """Maximum over 3x3x3 neighbours of (B, C, T, H, W), taken along one axis after the other.

    The same numbers as `nn.MaxPool3d(3, stride=1, padding=1)`, which has no fast CPU kernel.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis in (2, 3, 4):
            x = _max_of_neighbours(x, axis)
        return x


def _max_of_neighbours(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Maximum of every element and its two neighbours along an axis."""
    size = x.shape[axis]
    if size == 1:
        return x
    pairs = torch.maximum(x.narrow(axis, 1, size - 1), x.narrow(axis, 0, size - 1))
    inner = torch.maximum(pairs.narrow(axis, 1, size - 2), pairs.narrow(axis, 0, size - 2))
    ends = pairs.narrow(axis, 0, 1), pairs.narrow(axis, size - 2, 1)
    return torch.cat((ends[0], inner, ends[1]), dim=axis)


class BasicConv3d(nn.Module):
    """3D convolution without bias, BatchNorm (eps 1e-3), ReLU."""

    conv_bn_pairs: ClassVar = (("conv", "bn"),)

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, out, T, H, W)."""
        return torch.relu_(self.bn(self.conv(x)))


class SepConv3d(nn.Module):
    """A k x k x k convolution split in space (1, k, k) and time (k, 1, 1), each with BatchNorm
    (eps 1e-3) and ReLU (Xie et al. 2018)."""

    conv_bn_pairs: ClassVar = (("conv_s", "bn_s"), ("conv_t", "bn_t"))

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        pad = kernel // 2
        self.conv_s = nn.Conv3d(
            channels, out, (1, kernel, kernel), (1, stride, stride), (0, pad, pad), bias=False
        )
        self.bn_s = nn.BatchNorm3d(out, eps=1e-3)
        self.conv_t = nn.Conv3d(out, out, (kernel, 1, 1), (stride, 1, 1), (pad, 0, 0), bias=False)
        self.bn_t = nn.BatchNorm3d(out, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, out, T/s, H/s, W/s)."""
        x = torch.relu_(self.bn_s(self.conv_s(x)))
        return torch.relu_(self.bn_t(self.conv_t(x)))


class SepInception(nn.Module):
    """Separable inception block of S3D: four branches, concatenated (Xie et al. 2018, fig. 7).

    `widths` are the output channels of: the 1x1x1 branch; the reduction and the convolution of
    the second branch; the same two of the third; the pooling branch.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        direct, reduce1, wide, reduce2, narrow, pooled = widths
        self.branch0 = nn.Sequential(BasicConv3d(channels, direct, 1))
        self.branch1 = nn.Sequential(BasicConv3d(channels, reduce1, 1), SepConv3d(reduce1, wide, 3))
        self.branch2 = nn.Sequential(
            BasicConv3d(channels, reduce2, 1), SepConv3d(reduce2, narrow, 3)
        )
        self.branch3 = nn.Sequential(MaxPool3d(), BasicConv3d(channels, pooled, 1))
        self.out_channels = direct + wide + narrow + pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, out_channels, T, H, W)."""
        branches = (self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x))
        return torch.cat(branches, dim=1)
