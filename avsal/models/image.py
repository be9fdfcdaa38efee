"""The image saliency branch: encoder, temporal adapter and spatial attention (section 3.3)."""

from __future__ import annotations

import torch
from torch import nn

from avsal.models.blocks import BasicConv3d, FrameConv3d, SepInception, upsample
from avsal.models.encoders import DECODER_FRAMES, IMAGE, find

STRIDE16_CHANNELS, STRIDE32_CHANNELS = 96, 320  # after the smoothing convolutions
ATTENTION_CHANNELS = 32
MASK_WIDTHS = (192, 96, 208, 16, 48, 64)  # of the branches that make the 512 channels of the masks
MASK_CHANNELS = 512


def smoothing(channels: int, out: int, bias: bool = True) -> nn.Sequential:
    """3x3 convolution, BatchNorm and ReLU: (N, channels, h, w) -> (N, out, h, w)."""
    conv = nn.Conv2d(channels, out, 3, padding=1, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class ImageEncoder(nn.Module):
    """Frames (N, 3, H, W) -> o1 (N, 96, H/16, W/16) and o0 (N, 320, H/32, W/32)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        spec = find(IMAGE, "image encoder", name)
        stride16, stride32 = spec.channels
        self.encoder = spec.build()
        self.smooth_0 = smoothing(stride32, STRIDE32_CHANNELS)
        self.smooth_1 = smoothing(stride16, STRIDE16_CHANNELS)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        stride16, stride32 = self.encoder(frames)
        return self.smooth_1(stride16), self.smooth_0(stride32)


class Adapter(nn.Module):
    """Features of a window's frames -> temporally enhanced features (B, 512, 4, H/16, W/16).

    Input o1 (B, T, 96, H/16, W/16) and o0 (B, T, 320, H/32, W/32), T a multiple of 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = SepInception(STRIDE16_CHANNELS + STRIDE32_CHANNELS, MASK_WIDTHS)

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        stride16, stride32 = (strongest(feature) for feature in features)
        stride32 = upsample(stride32, 2)
        return self.conv(torch.cat((stride16, stride32), dim=1))


def strongest(features: torch.Tensor) -> torch.Tensor:
    """Maximum over groups of neighbouring frames, (B, T, C, h, w) -> (B, C, 4, h, w)."""
    return features.unflatten(1, (DECODER_FRAMES, -1)).amax(dim=2).transpose(1, 2)


class SpatialAttention(nn.Module):
    """Weights x (B, C, 4, h, w) by a mask made of the image features, with residual (eq. 4).

    `factor` is the ratio of the spatial sizes of x and of the masks (B, 512, 4, H/16, W/16).
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv_mask = nn.Sequential(
            BasicConv3d(MASK_CHANNELS, ATTENTION_CHANNELS, 3),
            nn.Identity(),  # the upsampling, so that the names agree with the published weights
            FrameConv3d(ATTENTION_CHANNELS, 1, 3),
        )

    def forward(self, x: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        squeeze, _, score = self.conv_mask
        mask = torch.sigmoid(score(upsample(squeeze(masks), self.factor)))
        return torch.addcmul(x, x, mask)
