"""The parts of the paper's ablation studies: other fusions (Table 5) and map fusion (Table 2, V7).

**Bilinear fusions** ("Avg + C", "Max + S") remove the temporal axis of the motion features before
fusing them with the sound (section 4.5). Both start from the token embeddings of the published
block, so that the training heads get two vectors of the usual width, the means of these embeddings.

**AVIM and CPC**, after CASP-Net (Xiong et al. 2023): in the audio-visual interaction module, visual
positions attend to the sound; consistency-aware predictive coding then reduces the distance between
the two representations in a few iterations. This follows the descriptions in CASP-Net's abstract
and in sections 2.2 and 4.5 of the MSPI paper, not CASP-Net's own equations. Chosen here: the
interaction is a non-local block (Wang et al. 2018) between the modalities, the iterations are
predictive coding as plain gradient descent, and both are applied at v4 only, as AVFB is, while
CASP-Net fuses features of several scales.

**Map fusion** keeps the decoder of the image saliency model (section 3.3, fig. 3) and fuses the
motion features with its maps (section 4.5). Not specified in the paper and chosen here: the layers
of the decoder; maps of a quarter of the input size, each divided by its maximum; and that they
replace the mask M of eq. 4, without the adapter and the convolutions that compute M from features.
As in the adapter, four frames share a mask, their maximum.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.blocks import attend, grow
from avsal.models.fusion import Fused, TokenFusion
from avsal.models.image import (
    STRIDE16_CHANNELS,
    STRIDE32_CHANNELS,
    ImageEncoder,
    smoothing,
    strongest,
)

BILINEAR_REDUCTION = 4  # ratio of the fused channels to those that the channel-wise form multiplies
GRID = (4, 7, 7)  # time, height and width of S3D's v4 at 224x224, the setting of Table 5
SOUND_STEPS = 4  # columns of the audio features
BOTTLENECK = 2  # channel reduction of the non-local block
ITERATIONS = 3
STEP = 0.1  # small against the curvature that the predictions have when they are initialised
STAGE_CHANNELS = (128, 64, 32)  # at strides 16, 8 and 4
MAP_STRIDE = 4
STRIDE16 = 16  # of the features to whose size `factor` of the attention refers


class ChannelBilinear(TokenFusion):
    """Average over time, then a bilinear form of the channels of every pixel ("Avg + C").

    STAViS (Tsiami et al. 2020) averages the visual features over time, reduces them and one audio
    vector to a common width, and lets every output channel be a bilinear form of the two at each
    pixel: fused_k(x, y) = seen(x, y)^T M_k heard + b_k.

    Not specified in Table 5 and chosen here: the common width is a quarter of the output's (128 of
    512); there are as many forms as AVFB has channels; the audio vector is the mean over time and
    frequency; the result is repeated at every time step of v4, where the decoder needs it.
    """

    def __init__(self, motion: int, audio: int, dim: int = 512) -> None:
        super().__init__(motion, audio, dim)
        common = dim // BILINEAR_REDUCTION
        self.vis_reduce = nn.Linear(dim, common)
        self.aud_reduce = nn.Linear(dim, common)
        self.bilinear = nn.Bilinear(common, common, dim)

    def forward(self, v4: torch.Tensor, audio: torch.Tensor) -> Fused:
        visual_tokens, audio_tokens = self.embed(v4, audio)
        pixels = visual_tokens.unflatten(1, (v4.shape[2], -1)).mean(dim=1)
        seen, heard = self.vis_reduce(pixels), self.aud_reduce(audio_tokens.mean(dim=1))
        # All pixels have the same sound, so it is multiplied with the forms first.
        matrix = torch.einsum("kij,bj->bik", self.bilinear.weight, heard)
        fused = torch.matmul(seen, matrix) + self.bilinear.bias
        still = fused.mT.unflatten(2, v4.shape[3:]).unsqueeze(2)
        volume = still.expand(-1, -1, v4.shape[2], -1, -1)
        return Fused(volume, visual_tokens.mean(dim=1), audio_tokens.mean(dim=1))


class SpatialBilinear(TokenFusion):
    """Maximum over time, then a bilinear form of the positions of every channel ("Max + S").

    AViNet (Jain et al. 2021) max-pools the deepest visual features and lets every position of the
    fused volume be a bilinear form, the same for all channels, of a channel's visual positions and
    audio time steps: fused(c, k) = seen(c)^T M_k heard(c) + b_k.

    Such forms fix the number of positions, and AViNet knows one input size only. Chosen here, so
    that other sizes and encoders work: the maxima go to a 7x7 grid, the forms give a 4x7x7 volume,
    and this is resampled linearly to v4's size; at 224x224 these are S3D's own sizes and nothing is
    resampled. The sound is averaged over frequency to 4 time steps. The channels are AVFB's.
    """

    def __init__(self, motion: int, audio: int, dim: int = 512) -> None:
        super().__init__(motion, audio, dim)
        time, height, width = GRID
        self.bilinear = nn.Bilinear(height * width, SOUND_STEPS, time * height * width)

    def forward(self, v4: torch.Tensor, audio: torch.Tensor) -> Fused:
        visual_tokens, audio_tokens = self.embed(v4, audio)
        strongest = visual_tokens.mT.unflatten(2, v4.shape[2:]).amax(dim=2)
        seen = F.adaptive_max_pool2d(strongest, GRID[1:]).flatten(2)
        spectral = audio_tokens.mT.unflatten(2, audio.shape[2:])
        heard = F.adaptive_avg_pool2d(spectral, (1, SOUND_STEPS)).flatten(2)
        forms = torch.einsum("kij,bcj->bcik", self.bilinear.weight, heard)
        fused = torch.matmul(seen.unsqueeze(2), forms).squeeze(2) + self.bilinear.bias
        volume = fused.unflatten(2, GRID)
        if volume.shape[2:] != v4.shape[2:]:
            volume = F.interpolate(volume, v4.shape[2:], mode="trilinear", align_corners=False)
        return Fused(volume, visual_tokens.mean(dim=1), audio_tokens.mean(dim=1))


class Interaction(TokenFusion):
    """AVIM: visual positions attend to the sound, and the result is added to them.

    Visual tokens are the queries, audio tokens the keys and values, in one head with half of the
    channels. Each time step of v4 attends to all audio tokens. As in non-local blocks, there is no
    positional encoding.
    """

    def __init__(self, motion: int, audio: int, dim: int = 512) -> None:
        super().__init__(motion, audio, dim)
        inner = dim // BOTTLENECK
        self.query = nn.Linear(dim, inner)
        self.key = nn.Linear(dim, inner)
        self.value = nn.Linear(dim, inner)
        self.answer = nn.Linear(inner, dim)

    def forward(self, v4: torch.Tensor, audio: torch.Tensor) -> Fused:
        visual, heard = self._interact(v4, audio)
        volume = visual.mT.unflatten(2, v4.shape[2:])
        return Fused(volume, visual.mean(dim=1), heard.mean(dim=1))

    def _interact(self, v4: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return visual tokens (B, T * h * w, dim) after attending, and the audio tokens."""
        visual, heard = self.embed(v4, audio)
        query, key, value = self.query(visual), self.key(heard), self.value(heard)
        response = attend(query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)).squeeze(1)
        return visual + self.answer(response), heard


class ConsistentInteraction(Interaction):
    """AVIM followed by CPC: at each time step, each modality moves towards the other's prediction.

    Every visual position v predicts the sound s of its time step as A v, and the sound predicts
    the position as V s. The energy |s - A v|^2 / 2 + |v - V s|^2 / 2, a mean over the positions, is
    lowered by gradient steps on v and s. The sound of a time step is the audio features' mean over
    frequency, resampled linearly to v4's time steps. Chosen here: linear predictions, 3 steps of
    size 0.1.
    """

    def __init__(self, motion: int, audio: int, dim: int = 512) -> None:
        super().__init__(motion, audio, dim)
        self.hear = nn.Linear(dim, dim, bias=False)  # A
        self.see = nn.Linear(dim, dim, bias=False)  # V

    def forward(self, v4: torch.Tensor, audio: torch.Tensor) -> Fused:
        visual, heard = self._interact(v4, audio)
        seen = visual.unflatten(1, (v4.shape[2], -1))
        sound = _over_time(heard.unflatten(1, audio.shape[2:]), v4.shape[2])
        for _ in range(ITERATIONS):
            seen, sound = self.step(seen, sound)
        volume = seen.flatten(1, 2).mT.unflatten(2, v4.shape[2:])
        return Fused(volume, seen.mean(dim=(1, 2)), sound.mean(dim=1))

    def step(self, seen: torch.Tensor, sound: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a step with the visual positions (B, T, h * w, dim) and the sound (B, T, dim)."""
        unheard, unseen = self.errors(seen, sound)
        seen_slope = unseen - torch.matmul(unheard, self.hear.weight)
        sound_slope = unheard.mean(dim=2) - torch.matmul(unseen.mean(dim=2), self.see.weight)
        return seen - STEP * seen_slope, sound - STEP * sound_slope

    def errors(self, seen: torch.Tensor, sound: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the prediction errors of the sound and of the positions, (B, T, h * w, dim)."""
        return sound.unsqueeze(2) - self.hear(seen), seen - self.see(sound).unsqueeze(2)


def _over_time(spectral: torch.Tensor, steps: int) -> torch.Tensor:
    """Audio tokens (B, frequency, time, dim) -> (B, steps, dim)."""
    sound = spectral.mean(dim=1).mT
    return F.interpolate(sound, steps, mode="linear", align_corners=False).mT


class ImageDecoder(nn.Module):
    """o1 (N, 96, H/16, W/16) and o0 (N, 320, H/32, W/32) -> logits (N, 1, H/4, W/4).

    Convolution, BatchNorm and ReLU at every scale, bilinear upsampling between.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (STRIDE16_CHANNELS + STRIDE32_CHANNELS, *STAGE_CHANNELS)
        self.stages = nn.ModuleList(
            smoothing(channels, out, bias=False) for channels, out in pairwise(widths)
        )
        self.score = nn.Conv2d(STAGE_CHANNELS[-1], 1, 1)

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        stride16, stride32 = features
        first, *others = self.stages
        x = first(torch.cat((stride16, grow(stride32, 2)), dim=1))
        for stage in others:
            x = stage(grow(x, 2))
        return self.score(x)


class MapEncoder(ImageEncoder):
    """The whole image saliency model: frames (N, 3, H, W) -> one map (N, 1, H/4, W/4) in 0..1."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.decoder = ImageDecoder()

    def logits(self, frames: torch.Tensor) -> torch.Tensor:
        """Unnormalised log-density (N, 1, H/4, W/4), as its training on images needs it."""
        return self.decoder(super().forward(frames))

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.logits(frames)
        return ((logits - logits.amax(dim=(2, 3), keepdim=True)).exp(),)


class MapAdapter(nn.Module):
    """Maps of a window's frames (B, 16, 1, H/4, W/4) -> masks (B, 1, 4, H/4, W/4)."""

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (maps,) = features
        return strongest(maps)


class MapAttention(nn.Module):
    """Weights x (B, C, 4, h, w) by masks (B, 1, 4, H/4, W/4), with residual (eq. 4).

    `factor` is the ratio of x's size to H/16, as it is for `SpatialAttention`.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        reduction = STRIDE16 // (factor * MAP_STRIDE)
        self.pool = nn.AvgPool3d((1, reduction, reduction))

    def forward(self, x: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(x, x, self.pool(masks))
