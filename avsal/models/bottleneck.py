"""Residual bottleneck stages of the SlowFast and X3D families, under those projects' weight names.

A stage is a ModuleDict with the keys `pathway<p>_res<i>`; it may contain several pathways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from avsal.models.blocks import SqueezeExcite, run


@dataclass(frozen=True)
class BottleneckSpec:
    """The common settings of all blocks of one pathway in one stage.

    `reduce_frames` is the temporal kernel of the first convolution, `kernel` that of the middle
    one, which may be depth-wise and is followed by `activation`. The first, third, ... blocks have
    squeeze-and-excitation with `squeeze` hidden channels; 0 means none.
    """

    inner: int
    out: int
    reduce_frames: int = 1
    kernel: tuple[int, int, int] = (1, 3, 3)
    depthwise: bool = False
    squeeze: int = 0
    activation: Callable[..., nn.Module] = nn.ReLU


class Bottleneck(nn.Module):
    """Pointwise reduction, spatial (or spatio-temporal) convolution, pointwise expansion.

    The spatial stride belongs to the middle convolution; (B, C, T, H, W) -> (B, out, T, H/s, W/s).
    """

    conv_bn_pairs: ClassVar = (("a", "a_bn"), ("b", "b_bn"), ("c", "c_bn"))

    def __init__(self, channels: int, spec: BottleneckSpec, stride: int, squeeze: int) -> None:
        super().__init__()
        inner, frames = spec.inner, spec.reduce_frames
        self.a = nn.Conv3d(channels, inner, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.a_bn = nn.BatchNorm3d(inner)
        time, height, width = spec.kernel
        self.b = nn.Conv3d(
            inner,
            inner,
            spec.kernel,
            (1, stride, stride),
            (time // 2, height // 2, width // 2),
            groups=inner if spec.depthwise else 1,
            bias=False,
        )
        self.b_bn = nn.BatchNorm3d(inner)
        self.se = SqueezeExcite(inner, squeeze) if squeeze else nn.Identity()
        self.act = spec.activation(inplace=True)
        self.c = nn.Conv3d(inner, spec.out, 1, bias=False)
        self.c_bn = nn.BatchNorm3d(spec.out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.a_bn(self.a(x)))
        x = self.act(self.se(self.b_bn(self.b(x))))
        return self.c_bn(self.c(x))


class ResidualBottleneck(nn.Module):
    """relu(shortcut + bottleneck); the shortcut is projected where the shape changes."""

    def __init__(self, channels: int, spec: BottleneckSpec, stride: int, squeeze: int) -> None:
        super().__init__()
        self.projects = channels != spec.out or stride != 1
        self.conv_bn_pairs = (("branch1", "branch1_bn"),) if self.projects else ()
        if self.projects:
            self.branch1 = nn.Conv3d(channels, spec.out, 1, (1, stride, stride), bias=False)
            self.branch1_bn = nn.BatchNorm3d(spec.out)
        self.branch2 = Bottleneck(channels, spec, stride, squeeze)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, out, T, H/s, W/s)."""
        shortcut = self.branch1_bn(self.branch1(x)) if self.projects else x
        return torch.relu_(self.branch2(x) + shortcut)


def pathway_blocks(
    pathway: int, channels: int, depth: int, stride: int, spec: BottleneckSpec
) -> dict[str, nn.Module]:
    """Make the `depth` blocks of one pathway in one stage; the first one takes the stride."""
    blocks: dict[str, nn.Module] = {}
    for index in range(depth):
        squeeze = spec.squeeze if index % 2 == 0 else 0
        block = ResidualBottleneck(channels, spec, stride if index == 0 else 1, squeeze)
        blocks[f"pathway{pathway}_res{index}"] = block
        channels = spec.out
    return blocks


def run_pathway(stage: nn.ModuleDict, pathway: int, x: torch.Tensor) -> torch.Tensor:
    """Run x through the blocks of one pathway in a stage."""
    return run((stage[name] for name in stage if name.startswith(f"pathway{pathway}_")), x)
