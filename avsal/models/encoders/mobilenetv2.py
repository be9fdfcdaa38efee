"""Image encoder: the stages of MobileNet-V2 (Sandler et al. 2018), named as in timm's feature
extractor `mobilenetv2_100`.

The paper's second choice of image saliency encoder (section 3.2), read at "the last two stages"
(section 3.3). They are taken to be the last outputs at stride 16 (96 channels, `blocks.4`) and at
stride 32 (320 channels, `blocks.6`): timm's feature extractor gives these as its last two, and the
published smoothing convolutions are just as wide, 96 and 320. The 1280-channel convolution after
`blocks.6` belongs to the classifier and is omitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

STEM_CHANNELS = 32


@dataclass(frozen=True)
class StageSpec:
    """One row of the MobileNet-V2 paper's table 2: expansion t, channels c, repeats n, stride s."""

    expansion: int
    channels: int
    repeats: int
    stride: int


STAGES = (
    StageSpec(1, 16, 1, 1),
    StageSpec(6, 24, 2, 2),
    StageSpec(6, 32, 3, 2),
    StageSpec(6, 64, 4, 2),
    StageSpec(6, 96, 3, 1),
    StageSpec(6, 160, 3, 2),
    StageSpec(6, 320, 1, 1),
)
DENSE_STAGES = (3, 5)  # stages whose first block UNISAL reads before subsampling
STRIDE16_STAGES = 5  # number of stages up to the last one at that stride


class DepthwiseSeparable(nn.Module):
    """The block of the first stage: depth-wise 3x3, BatchNorm, ReLU6, pointwise, BatchNorm."""

    conv_bn_pairs: ClassVar = (("conv_dw", "bn1"), ("conv_pw", "bn2"))

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU6(inplace=True)
        self.conv_pw = nn.Conv2d(channels, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, out, H, W)."""
        return self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x)))))


class InvertedResidual(nn.Module):
    """Pointwise expansion, depth-wise 3x3, linear pointwise reduction; residual where shapes allow.

    (N, C, H, W) -> (N, out, H/s, W/s).
    """

    conv_bn_pairs: ClassVar = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.conv_pw = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_dw = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv_pwl = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.act = nn.ReLU6(inplace=True)
        self.has_residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.act(self.bn1(self.conv_pw(x)))
        inner = self.act(self.bn2(self.conv_dw(inner)))
        out: torch.Tensor = self.bn3(self.conv_pwl(inner))
        return out + x if self.has_residual else out


def _stage(channels: int, out: int, spec: StageSpec) -> nn.Sequential:
    """Stack the blocks of one stage; the first one takes the stride."""
    if spec.expansion == 1:
        return nn.Sequential(DepthwiseSeparable(channels, out))
    blocks = []
    for index in range(spec.repeats):
        stride = spec.stride if index == 0 else 1
        blocks.append(InvertedResidual(channels, out, stride, spec.expansion))
        channels = out
    return nn.Sequential(*blocks)


class MobileNetV2(nn.Module):
    """Frames (N, 3, H, W) -> features (N, 96, H/16, W/16) and (N, 320, H/32, W/32)."""

    conv_bn_pairs: ClassVar = (("conv_stem", "bn1"),)

    def __init__(self) -> None:
        super().__init__()
        channels = STEM_CHANNELS
        self.conv_stem = nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU6(inplace=True)
        stages = []
        for spec in STAGES:
            stages.append(_stage(channels, spec.channels, spec))
            channels = spec.channels
        self.blocks = nn.Sequential(*stages)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.conv_stem(frames.contiguous(memory_format=torch.channels_last))
        stride16 = self.blocks[:STRIDE16_STAGES](self.act(self.bn1(x)))
        return stride16, self.blocks[STRIDE16_STAGES:](stride16)


class SkippedMobileNetV2(MobileNetV2):
    """Frames (N, 3, H, W) -> (N, 64, H/8, W/8), (N, 160, H/16, W/16) and (N, 320, H/32, W/32).

    As in UNISAL (Droste et al. 2020), the first block of the stages with strides 16 and 32 is
    computed and read on the finer grid, and subsampled afterwards. The weights, and the values on
    the coarser grid, are those of MobileNet-V2.
    """

    def __init__(self) -> None:
        super().__init__()
        for stage in DENSE_STAGES:
            self._first(stage).conv_dw.stride = (1, 1)

    def _first(self, stage: int) -> InvertedResidual:
        return cast(InvertedResidual, cast(nn.Sequential, self.blocks[stage])[0])

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.conv_stem(frames.contiguous(memory_format=torch.channels_last))
        x = self.act(self.bn1(x))
        outputs = []
        for number, stage in enumerate(self.blocks):
            blocks = cast(nn.Sequential, stage)
            if number in DENSE_STAGES:
                outputs.append(blocks[0](x))
                x = outputs[-1][..., ::2, ::2]
                blocks = cast(nn.Sequential, blocks[1:])
            x = blocks(x)
        return (*outputs, x)
