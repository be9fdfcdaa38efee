"""S3D motion encoder (Xie et al. 2018, "Rethinking Spatiotemporal Feature Learning").

The feature version: the separable Inception network without its classifier, cut before each of its
later poolings. The last pooling halves space only, so that v4 keeps the four time steps of v3.
"""

from __future__ import annotations

import torch
from torch import nn

from avsal.models.blocks import BasicConv3d, SepConv3d, SepInception

# Inception widths: 1x1x1 branch; reduction and convolution of the second and of the third branch;
# pooling branch. One row for each block of Inception's groups 3b-3c, 4b-4f and 5b-5c.
MIXED_3 = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64))
MIXED_4 = (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
)
MIXED_5 = ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))


def _mixed(channels: int, table: tuple[tuple[int, int, int, int, int, int], ...]) -> nn.Sequential:
    """Stack inception blocks, one for each row of widths."""
    blocks = []
    for widths in table:
        blocks.append(SepInception(channels, widths))
        channels = blocks[-1].out_channels
    return nn.Sequential(*blocks)


class S3D(nn.Module):
    """Clip (B, 3, T, H, W) -> v1..v4 with 192, 480, 832 and 1024 channels.

    Spatial strides are 4, 8, 16 and 32 (H and W are multiples of 32), temporal strides 2, 2, 4
    and 4 (T is a multiple of 4).
    """

    def __init__(self) -> None:
        super().__init__()
        self.base1 = nn.Sequential(
            SepConv3d(3, 64, 7, stride=2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            BasicConv3d(64, 64, 1),
            SepConv3d(64, 192, 3),
        )
        self.pool2 = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.base2 = _mixed(192, MIXED_3)
        self.pool3 = nn.MaxPool3d(3, 2, 1)
        self.base3 = _mixed(480, MIXED_4)
        self.pool4 = nn.MaxPool3d((1, 2, 2), (1, 2, 2))
        self.base4 = _mixed(832, MIXED_5)

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        v1 = self.base1(clip)
        v2 = self.base2(self.pool2(v1))
        v3 = self.base3(self.pool3(v2))
        v4 = self.base4(self.pool4(v3))
        return v1, v2, v3, v4
