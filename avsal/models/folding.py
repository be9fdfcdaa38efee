"""Exact simplifications of a loaded network for inference: fewer operations, the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avsal.models.blocks import PointwiseLinear
from avsal.models.decoder import Lateral

Network = TypeVar("Network", bound=nn.Module)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def prepare_for_inference(model: Network) -> Network:
    """Simplify a network in place, once its weights are loaded, and return it in eval mode.

    BatchNorm goes into the convolution before it, a lateral block's two convolutions become one, so
    do two pointwise convolutions in a row of which the second has few outputs, linear layers take
    the faster of two CPU kernels, and no gradients are kept. Outputs stay the same to float32
    rounding; the names of the weights do not. A second call changes nothing.
    """
    model.eval().requires_grad_(False)
    for module in list(model.modules()):
        for conv, norm in _conv_bn_pairs(module):
            _fold_batch_norm(module, conv, norm)
        for first, second in getattr(module, "pointwise_pairs", ()):
            _merge_pointwise(module, first, second)
        if isinstance(module, Lateral):
            _merge_lateral(module)
        _replace_linear(module)
    return model


@torch.no_grad()
def convert_weights(model: Network, dtype: torch.dtype) -> Network:
    """Convert in place the weights that autocast to `dtype` would convert at every call."""
    for module in model.modules():
        if isinstance(module, (*CONVOLUTIONS, nn.Linear, PointwiseLinear)):
            module.to(dtype)
    return model


def norms_after(model: nn.Module) -> dict[str, str]:
    """Full names of the BatchNorms that go into convolutions, by those of the convolutions."""
    return _full_names(model, _conv_bn_pairs)


def merged_into(model: nn.Module) -> dict[str, str]:
    """Full names of the pointwise convolutions that go into others, by those of the others."""
    return _full_names(model, lambda module: getattr(module, "pointwise_pairs", ()))


def _full_names(
    model: nn.Module, pairs: Callable[[nn.Module], Iterable[tuple[str, str]]]
) -> dict[str, str]:
    return {
        f"{name}.{first}".lstrip("."): f"{name}.{second}".lstrip(".")
        for name, module in model.named_modules()
        for first, second in pairs(module)
    }


def _conv_bn_pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Names of a module's children that are a convolution and the BatchNorm after it."""
    pairs = list(getattr(module, "conv_bn_pairs", ()))
    if isinstance(module, nn.Sequential):
        pairs += pairwise(name for name, _child in module.named_children())
    return [
        (conv, norm)
        for conv, norm in pairs
        if isinstance(module.get_submodule(conv), CONVOLUTIONS)
        and isinstance(module.get_submodule(norm), NORMS)
    ]


def _fold_batch_norm(module: nn.Module, conv: str, norm: str) -> None:
    """Scale the convolution's weights by the BatchNorm's, in float64 on the CPU."""
    before, after = getattr(module, conv), getattr(module, norm)
    device, dtype = before.weight.device, before.weight.dtype
    precise = fuse_conv_bn_eval(before.to("cpu", torch.float64), after.to("cpu", torch.float64))
    setattr(module, conv, precise.to(device, dtype).requires_grad_(False))
    setattr(module, norm, nn.Identity())


def _merge_pointwise(module: nn.Module, first: str, second: str) -> None:
    """Replace two pointwise convolutions in a row by their product."""
    inner, outer = module.get_submodule(first), module.get_submodule(second)
    if not (isinstance(inner, nn.Conv2d) and isinstance(outer, nn.Conv2d)):
        return
    assert inner.bias is not None and outer.bias is not None
    mixing = outer.weight.cpu().double().flatten(1)
    weight = mixing @ inner.weight.cpu().double().flatten(1)
    bias = mixing @ inner.bias.cpu().double() + outer.bias.cpu().double()
    merged = nn.Conv2d(inner.in_channels, outer.out_channels, 1)
    merged.weight = nn.Parameter(weight[:, :, None, None].to(inner.weight), requires_grad=False)
    merged.bias = nn.Parameter(bias.to(inner.bias), requires_grad=False)
    module.set_submodule(first, merged)
    module.set_submodule(second, nn.Identity())


def _merge_lateral(lateral: Lateral) -> None:
    """Replace channel and temporal convolution, linear maps in a row, by their product."""
    channel, time = lateral[0], lateral[1]
    if not (isinstance(channel, nn.Conv3d) and isinstance(time, nn.Conv3d)):
        return
    assert channel.bias is not None
    mixing, bias = channel.weight.cpu().double(), channel.bias.cpu().double()
    steps = time.weight.cpu().double().flatten(2)
    merged = nn.Conv3d(channel.in_channels, time.out_channels, (steps.shape[2], 1, 1))
    merged.stride = time.stride
    weight = torch.einsum("omt,mi->oit", steps, mixing.flatten(1)).view_as(merged.weight)
    merged.weight = nn.Parameter(weight.to(channel.weight), requires_grad=False)
    merged.bias = nn.Parameter((steps.sum(dim=2) @ bias).to(channel.bias), requires_grad=False)
    lateral[0], lateral[1] = merged, nn.Identity()


def _replace_linear(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            setattr(module, name, PointwiseLinear(child))
