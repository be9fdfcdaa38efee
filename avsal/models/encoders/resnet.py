"""Audio encoder: ResNet-18 on one-channel spectrograms (He et al. 2016; section 3.2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection, (N, C, H, W)."""

    conv_bn_pairs: ClassVar = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """Spectrogram (B, 1, 257, 111) -> features (B, 8 * width, 9, 4), without pooling or classifier.

    `width` is the number of channels of the first stage; the published encoder has 64.
    """

    conv_bn_pairs: ClassVar = (("conv1", "bn1"),)

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.channels = 8 * width
        self.conv1 = nn.Conv2d(1, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(width, width, stride=1)
        self.layer2 = self._stage(width, 2 * width, stride=2)
        self.layer3 = self._stage(2 * width, 4 * width, stride=2)
        self.layer4 = self._stage(4 * width, 8 * width, stride=2)

    @staticmethod
    def _stage(channels: int, out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(BasicBlock(channels, out, stride), BasicBlock(out, out, 1))

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.bn1(self.conv1(spectrogram))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))
