"""SlowFast motion encoder (Feichtenhofer et al. 2019, "SlowFast Networks for Video Recognition").

A slow pathway sees few frames with many channels, a fast pathway all frames with an eighth of the
channels; after each stage but the last the fast features are joined to the slow ones.

The residual bottlenecks are those of X3D too, which has one pathway; names are the projects'. A
stage is a ModuleDict with the keys `pathway<p>_res<i>`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from avsal.models.blocks import SqueezeExcite, run

SLOW, FAST = 0, 1
SLOW_FRAMES = (0, 4, 12, 15)  # of a window of 16, uneven as published
ALPHA = 4  # fast frames for each slow frame
BETA_INVERSE = 8  # slow channels for each fast channel
FUSION_KERNEL = 5  # frames
FUSION_RATIO = 2  # fused channels for each fast channel

STEM_CHANNELS = 64  # of the slow pathway, as are the widths below
INNER_CHANNELS = (64, 128, 256, 512)
OUT_CHANNELS = (256, 512, 1024, 2048)
DEPTHS = (3, 4, 6, 3)  # ResNet-50
STRIDES = (1, 2, 2, 2)
SLOW_KERNELS = (1, 1, 3, 3)  # frames; the slow pathway's early stages do not mix them
FAST_KERNEL = 3


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


class Stem(nn.Module):
    """Convolution (frames, 7, 7) with stride 2, BatchNorm, ReLU, 3x3 max-pooling with stride 2."""

    conv_bn_pairs: ClassVar = (("conv", "bn"),)

    def __init__(self, out: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, out, (frames, 7, 7), (1, 2, 2), (frames // 2, 3, 3), bias=False)
        self.bn = nn.BatchNorm3d(out)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Clip (B, 3, T, H, W) -> (B, out, T, H/4, W/4)."""
        return self.pool(torch.relu_(self.bn(self.conv(clip))))


class FastToSlow(nn.Module):
    """Join the fast features to `channels` slow ones by a time-strided convolution."""

    conv_bn_pairs: ClassVar = (("conv_f2s", "bn"),)

    def __init__(self, channels: int) -> None:
        super().__init__()
        fast = channels // BETA_INVERSE
        self.conv_f2s = nn.Conv3d(
            fast,
            FUSION_RATIO * fast,
            (FUSION_KERNEL, 1, 1),
            (ALPHA, 1, 1),
            (FUSION_KERNEL // 2, 0, 0),
            bias=False,
        )
        self.bn = nn.BatchNorm3d(FUSION_RATIO * fast)

    def forward(self, slow: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        """(B, C, T/4, H, W) and (B, C/8, T, H, W) -> (B, C + C/4, T/4, H, W)."""
        return torch.cat([slow, torch.relu_(self.bn(self.conv_f2s(fast)))], dim=1)


def _stage(index: int) -> nn.ModuleDict:
    """Make both pathways of one residual stage; the slow one gets the fused fast channels too."""
    inner, out, stride = INNER_CHANNELS[index], OUT_CHANNELS[index], STRIDES[index]
    channels = (STEM_CHANNELS, *OUT_CHANNELS)[index]
    fast = channels // BETA_INVERSE
    slow_spec = BottleneckSpec(inner, out, SLOW_KERNELS[index])
    fast_spec = BottleneckSpec(inner // BETA_INVERSE, out // BETA_INVERSE, FAST_KERNEL)
    blocks = pathway_blocks(
        SLOW, channels + FUSION_RATIO * fast, DEPTHS[index], stride, slow_spec
    ) | pathway_blocks(FAST, fast, DEPTHS[index], stride, fast_spec)
    return nn.ModuleDict(blocks)


class SlowFast(nn.Module):
    """SlowFast 4x16 with the stages of ResNet-50.

    Clip (B, 3, 16, H, W) -> v1..v4, (B, C, 4, H/s, W/s), with H and W multiples of 32. The channels
    C are 320, 640, 1280 and 2048, the strides s 4, 8, 16 and 32. The outputs are those of the slow
    pathway: v1..v3 after the fusion, v4 without one. The last fast stage exists only because
    checkpoints contain it; no output depends on it.
    """

    def __init__(self) -> None:
        super().__init__()
        stems = {
            "pathway0_stem": Stem(STEM_CHANNELS, frames=1),
            "pathway1_stem": Stem(STEM_CHANNELS // BETA_INVERSE, frames=5),
        }
        self.s1, self.s1_fuse = nn.ModuleDict(stems), FastToSlow(STEM_CHANNELS)
        self.s2, self.s2_fuse = _stage(0), FastToSlow(OUT_CHANNELS[0])
        self.s3, self.s3_fuse = _stage(1), FastToSlow(OUT_CHANNELS[1])
        self.s4, self.s4_fuse = _stage(2), FastToSlow(OUT_CHANNELS[2])
        self.s5 = _stage(3)

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fast = self.s1["pathway1_stem"](clip)
        slow = self.s1_fuse(self.s1["pathway0_stem"](clip[:, :, SLOW_FRAMES]), fast)
        taps = []
        for stage, fuse in (
            (self.s2, self.s2_fuse),
            (self.s3, self.s3_fuse),
            (self.s4, self.s4_fuse),
        ):
            fast = run_pathway(stage, FAST, fast)
            slow = fuse(run_pathway(stage, SLOW, slow), fast)
            taps.append(slow)
        return (*taps, run_pathway(self.s5, SLOW, slow))
