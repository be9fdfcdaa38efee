"""The parts of the default network: skips, recurrence and decoder in the shape of UNISAL's.

UNISAL (Droste, Jiao and Noble, ECCV 2020) reads MobileNet-V2 at strides 8, 16 and 32, adds learnt
Gaussian priors, remembers what it saw with a convolutional GRU at stride 32, and decodes with two
inverted bottlenecks. Training starts from its weights, so the shapes are its own; normalisation is
part of the convolutions. Motion at stride 16 and sound are additions.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.encoders.mobilenetv2 import skipped_mobilenet_v2
from avsal.models.fusion.tokens import Fused

SKIP8, SKIP16, DEEP = 64, 128, 256  # channels of a frame's features at strides 8, 16 and 32
MOTION16 = 32  # channels of the change between the last two frames, at stride 16
WIDEST = 1280  # channels of MobileNet-V2's last convolution
PRIORS = 16  # Gaussians
PRIOR_SCALE = 6.0  # their height
SMOOTHING = 7  # cells of stride 8 that a pixel of the map is smoothed over
HABIT = -2.0  # logit of the share that the middle has in an untrained network's maps
LISTENING = 64  # channels of the head that turns fused features into a change of the map


def relu6() -> nn.Module:
    """UNISAL's activation."""
    return nn.ReLU6(inplace=True)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


def separable(channels: int, out: int) -> nn.Sequential:
    """Depth-wise 3x3, ReLU6, pointwise: (N, channels, h, w) -> (N, out, h, w)."""
    return nn.Sequential(_depthwise(channels), relu6(), nn.Conv2d(channels, out, 1))


def bottleneck(channels: int, inner: int, out: int) -> nn.Sequential:
    """Pointwise to `inner` channels, then `separable`, with ReLU6 between."""
    return nn.Sequential(nn.Conv2d(channels, inner, 1), relu6(), *separable(inner, out))


def skip(channels: int, out: int) -> nn.Sequential:
    """Two pointwise convolutions over twice the channels."""
    inner = 2 * channels
    return nn.Sequential(nn.Conv2d(channels, inner, 1), relu6(), nn.Conv2d(inner, out, 1))


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Bilinear, (N, C, h, w) -> (N, C, 2 h, 2 w)."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Prior(nn.Module):
    """Learnt Gaussians over the picture, where people look whatever there is to see.

    `gaussians` (16, 2, 2): for y and x the mean and the logarithm of the deviation, in shares of
    the picture's height and width.
    """

    def __init__(self) -> None:
        super().__init__()
        thirds = [(y, x, -1.5, -1.5) for y, x in product((0.25, 0.5, 0.75), repeat=2)]
        rows = [(0.5, x, 0.0, -1.5) for x in (0.25, 0.5, 0.75)]
        columns = [(y, 0.5, -1.5, 0.0) for y in (0.25, 0.5, 0.75)]
        start = torch.tensor([*thirds, *rows, *columns, (0.5, 0.5, 0.0, 0.0)])
        self.gaussians = nn.Parameter(start.view(PRIORS, 2, 2).transpose(1, 2).contiguous())

    def forward(self, height: int, width: int) -> torch.Tensor:
        """Maps (16, height, width)."""
        along = [
            torch.exp(-0.5 * ((_places(count, each) - each[:, :1]) / each[:, 1:].exp()) ** 2)
            for count, each in zip((height, width), self.gaussians.unbind(dim=1), strict=True)
        ]
        return PRIOR_SCALE * along[0][:, :, None] * along[1][:, None, :]


def _places(count: int, like: torch.Tensor) -> torch.Tensor:
    return torch.linspace(0, 1, count, dtype=like.dtype, device=like.device)


class SkipEncoder(nn.Module):
    """The image stream: frames (N, 3, H, W) -> features of each frame.

    (N, 64, H/8, W/8), (N, 128, H/16, W/16) and (N, 256, H/32, W/32).
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = skipped_mobilenet_v2()
        self.skip_8 = skip(64, SKIP8)
        self.skip_16 = skip(160, SKIP16)
        self.widen = nn.Sequential(nn.Conv2d(320, WIDEST, 1), relu6())
        self.prior = Prior()
        self.reduce = separable(WIDEST + PRIORS, DEEP)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.refine(self.encoder(frames))

    def refine(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """From the encoder's features (N, 64, ...), (N, 160, ...) and (N, 320, ...)."""
        stride8, stride16, stride32 = features
        return self.skip_8(stride8), self.skip_16(stride16), self.deepened(stride32)

    def deepened(self, stride32: torch.Tensor) -> torch.Tensor:
        """Features with the prior: (N, 320, h, w) -> (N, 256, h, w)."""
        wide = self.widen(stride32)
        priors = self.prior(*wide.shape[-2:]).to(wide.dtype).expand(len(wide), -1, -1, -1)
        deep: torch.Tensor = self.reduce(torch.cat((wide, priors), dim=1))
        return deep


class CompactDecoder(nn.Module):
    """Features and the past of the last frame, and what is heard -> log-density (B, H, W)."""

    def __init__(self, fusion_dim: int | None) -> None:
        super().__init__()
        self.middle = bottleneck(DEEP + SKIP16 + MOTION16, 2 * (DEEP + SKIP16), SKIP16)
        self.fine = bottleneck(SKIP16 + SKIP8, 2 * (SKIP16 + SKIP8), SKIP8)
        self.score = nn.Conv2d(SKIP8, 1, 1)
        self.smooth = nn.Conv2d(1, 8 * 8, SMOOTHING, bias=False)
        self.habit = Habit()
        if fusion_dim is not None:
            self.listen = Listening(fusion_dim)

    def forward(
        self,
        features: tuple[torch.Tensor, ...],
        volumes: tuple[torch.Tensor, ...],
        fused: Fused | None = None,
        presence: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Features (B, T, C, h, w), volumes as `Recurrence` gives them, presence (B,)."""
        scores = self.scores(features, volumes)
        if fused is not None and presence is not None:
            scores = scores + doubled(self.listen(fused, features[1][:, -1], presence))
        return self.mapped(scores)

    def mapped(self, scores: torch.Tensor) -> torch.Tensor:
        """Log-densities (B, H, W) of scores (B, 1, H/8, W/8)."""
        logits = self.smoothed(scores).float()
        log_density: torch.Tensor = self.habit(logits - logits.logsumexp(dim=(1, 2), keepdim=True))
        return log_density

    def scores(
        self, features: tuple[torch.Tensor, ...], volumes: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """What is seen alone: scores (B, 1, H/8, W/8) of cells."""
        change, seen = (volume.squeeze(2) for volume in volumes[:2])
        stride8, stride16 = (feature[:, -1] for feature in features[:2])
        middle = self.middle(torch.cat((doubled(seen), stride16, change), dim=1))
        scores: torch.Tensor = self.score(self.fine(torch.cat((doubled(middle), stride8), dim=1)))
        return scores

    def smoothed(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, 1, h, w) of cells -> logits (B, 8 h, 8 w) of pixels, each a weighted sum of
        the cells around it."""
        margin = SMOOTHING // 2
        padded = F.pad(scores, (margin, margin, margin, margin), mode="replicate")
        return F.pixel_shuffle(self.smooth(padded), 8).squeeze(1)


class Habit(nn.Module):
    """A share of every map that does not depend on what is where: a Gaussian about the middle.

    `share` is a logit; `middle` and `spread` are (y, x) in shares of height and width, the latter
    as logarithms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.tensor([0.5, 0.5]))
        self.spread = nn.Parameter(torch.tensor([-1.5, -1.5]))
        self.share = nn.Parameter(torch.tensor(HABIT))

    def forward(self, log_density: torch.Tensor) -> torch.Tensor:
        """Log-densities (B, H, W) -> (B, H, W)."""
        everywhere = self.prior(log_density) + F.logsigmoid(self.share)
        return torch.logaddexp(log_density + F.logsigmoid(-self.share), everywhere)

    def prior(self, like: torch.Tensor) -> torch.Tensor:
        """The Gaussian as a log-density (H, W)."""
        rows, columns = (
            -0.5 * ((_places(count, like) - middle) / spread.exp()) ** 2
            for count, middle, spread in zip(like.shape[-2:], self.middle, self.spread, strict=True)
        )
        return rows.log_softmax(dim=0)[:, None] + columns.log_softmax(dim=0)


class Listening(nn.Module):
    """How sound moves the map: a change of the scores at stride 16, 0 where nothing is heard.

    Fused volume (B, dim, 1, h, w) and features of the last frame (B, 128, 2 h, 2 w) -> (B, 1, 2 h,
    2 w): what is seen at a place, weighted by what is heard. `gate` judges from the sound whether
    it is one that people look for; `presence` (B,) is the share of the window that has sound at
    all.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fused = nn.Conv2d(dim, LISTENING, 1)
        self.frame = nn.Conv2d(SKIP16, LISTENING, 1)
        self.heard = nn.Linear(dim, LISTENING)
        self.change = nn.Conv2d(LISTENING, 1, 1)
        self.gate = nn.Linear(dim, 1)

    def forward(self, fused: Fused, frame: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(doubled(self.fused(fused.volume.squeeze(2))) + self.frame(frame))
        matched = seen * self.heard(fused.audio)[:, :, None, None]
        strength = presence[:, None] * torch.sigmoid(self.gate(fused.audio))
        moved: torch.Tensor = strength[:, :, None, None] * self.change(matched)
        return moved


def presence(spectrogram: torch.Tensor) -> torch.Tensor:
    """Share of the columns of (B, 1, 257, 111) that hold sound, (B,): a column is standardised
    over its frequencies, so that its deviation is 1 with sound and 0 without."""
    return spectrogram.float().std(dim=2).mean(dim=(1, 2)).clamp(max=1)
