"""Bilinear fusions of motion and sound, two rows of the comparison in Table 5.

Both take the temporal axis out of the motion features before they meet the sound (section 4.5),
and both start from the token embeddings of the published block, so that the training heads find
two vectors of the usual width. The means of these embeddings are what the heads align.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.fusion.tokens import Fused, TokenFusion

BOTTLENECK = 4  # ratio of the fused channels to those that the channel-wise form multiplies
GRID = (4, 7, 7)  # time, height and width of S3D's v4 at 224x224, the setting of Table 5
SOUND_STEPS = 4  # columns of the audio features


class ChannelBilinear(TokenFusion):
    """Average over time, then a bilinear form of the channels of every pixel ("Avg + C").

    STAViS (Tsiami et al. 2020) averages the visual features over time, reduces them and one audio
    vector to a common width, and lets every output channel be a bilinear form of the two at each
    pixel: fused_k(x, y) = seen(x, y)^T M_k heard + b_k.

    Left open by Table 5, and chosen here: the common width is a quarter of the output's (128 of
    512); there are as many forms as AVFB has channels; the audio vector is the mean over time and
    frequency; the result is repeated at every time step of v4, where the decoder needs it.
    """

    def __init__(self, motion: int, audio: int, dim: int = 512) -> None:
        super().__init__(motion, audio, dim)
        common = dim // BOTTLENECK
        self.vis_reduce = nn.Linear(dim, common)
        self.aud_reduce = nn.Linear(dim, common)
        self.bilinear = nn.Bilinear(common, common, dim)

    def forward(self, v4: torch.Tensor, audio: torch.Tensor) -> Fused:
        visual_tokens, audio_tokens = self.embed(v4, audio)
        pixels = visual_tokens.unflatten(1, (v4.shape[2], -1)).mean(dim=1)
        seen, heard = self.vis_reduce(pixels), self.aud_reduce(audio_tokens.mean(dim=1))
        # All pixels share the sound, so that it turns the forms into one matrix first.
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
