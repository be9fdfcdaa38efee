"""What all fusions share: both modalities as tokens, and what a fusion gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Fused(NamedTuple):
    """What a fusion gives: the volume (B, C, T, h, w) for the decoder, and the two modalities'
    mean features (B, C) that the training heads align."""

    volume: torch.Tensor
    visual: torch.Tensor
    audio: torch.Tensor


class TokenFusion(nn.Module):
    """What all fusions begin with: both modalities as tokens of `dim` channels.

    `forward` takes v4 (B, C4, T, h, w) and audio features (B, Ca, h', w') of any size and gives
    `Fused` with C = `dim`. Audio channels other than `dim` are projected first.
    """

    def __init__(self, motion: int, audio: int, dim: int) -> None:
        super().__init__()
        self.vis_proj = nn.Linear(motion, dim)
        self.vis_norm = nn.LayerNorm(dim)
        self.aud_proj = nn.Identity() if audio == dim else nn.Linear(audio, dim)
        self.aud_norm = nn.LayerNorm(dim)

    def embed(self, v4: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of motion (B, T * h * w, dim) and of sound (B, h' * w', dim)."""
        visual_tokens = self.vis_norm(self.vis_proj(v4.flatten(2).mT))
        audio_tokens = self.aud_norm(self.aud_proj(audio.flatten(2).mT))
        return visual_tokens, audio_tokens
