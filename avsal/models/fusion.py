"""Fusion of motion and sound: AVFB, the published block, and the loss that aligns the two.

A fusion is a module with `forward(v4, audio) -> Fused`. Those that the paper compares AVFB with
(Table 5) are in `ablations.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.blocks import MLP, SelfAttention, kept

HEADS, DEPTH = 4, 3  # of the transformer
EMBEDDING = 2048  # channels of the projectors
PREDICTOR_HIDDEN = 512


class Fused(NamedTuple):
    """The output of a fusion: the volume (B, C, T, h, w) for the decoder, and the mean features
    (B, C) of both modalities, which the training heads align."""

    volume: torch.Tensor
    visual: torch.Tensor
    audio: torch.Tensor


class TokenFusion(nn.Module):
    """The base class of the fusions: both modalities become tokens of `dim` channels.

    `forward` takes v4 (B, C4, T, h, w) and audio features (B, Ca, h', w') of any size, and returns
    `Fused` with C = `dim`. Audio features are projected unless they have `dim` channels.
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


@kept
def sinusoid(count: int, dim: int, device: torch.device) -> torch.Tensor:
    """Sinusoidal positions (count, dim), computed in float64 (Vaswani et al. 2017, section 3.5)."""
    channel = torch.arange(dim, dtype=torch.float64, device="cpu")
    rate = 10000.0 ** (-2 * torch.div(channel, 2, rounding_mode="floor") / dim)
    angle = torch.arange(count, dtype=torch.float64, device="cpu")[:, None] * rate
    positions = torch.where(channel % 2 == 0, angle.sin(), angle.cos())
    return positions.float().to(device)


class FusionBlock(nn.Module):
    """Pre-norm transformer layer over tokens (B, N, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, HEADS, qkv_bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class AudioVisualFusion(TokenFusion):
    """AVFB: transformer layers over motion tokens followed by audio tokens (section 3.4, eq. 5).

    Positions count the tokens of each modality separately.
    """

    def __init__(self, motion: int, audio: int, dim: int) -> None:
        super().__init__(motion, audio, dim)
        self.blocks = nn.Sequential(*(FusionBlock(dim) for _ in range(DEPTH)))

    def forward(self, v4: torch.Tensor, audio: torch.Tensor) -> Fused:
        visual_tokens, audio_tokens = self.embed(v4, audio)
        tokens = torch.cat((_placed(visual_tokens), _placed(audio_tokens)), dim=1)
        tokens = self.blocks(tokens)
        visual, heard = tokens.split((visual_tokens.shape[1], audio_tokens.shape[1]), dim=1)
        volume = visual.unflatten(1, v4.shape[2:]).movedim(-1, 1)
        return Fused(volume, visual.mean(dim=1), heard.mean(dim=1))


def _placed(tokens: torch.Tensor) -> torch.Tensor:
    """Add sinusoidal positions to tokens (B, N, dim)."""
    return tokens + sinusoid(*tokens.shape[1:], tokens.device).to(tokens.dtype)


def _norm(kind: str, features: int) -> nn.Module:
    return nn.BatchNorm1d(features) if kind == "batch" else nn.LayerNorm(features)


def projector(dim: int, norm: str) -> nn.Sequential:
    """Projection head (B, dim) -> (B, 2048); `norm` is "layer" or "batch" (section 3.4)."""
    return nn.Sequential(
        nn.Linear(dim, EMBEDDING),
        _norm(norm, EMBEDDING),
        nn.ReLU(inplace=True),
        nn.Linear(EMBEDDING, EMBEDDING),
        _norm(norm, EMBEDDING),
        nn.ReLU(inplace=True),
        nn.Linear(EMBEDDING, EMBEDDING),
        _norm(norm, EMBEDDING),
    )


def predictor(norm: str) -> nn.Sequential:
    """Prediction head (B, 2048) -> (B, 2048) through a bottleneck of 512 (section 3.4)."""
    return nn.Sequential(
        nn.Linear(EMBEDDING, PREDICTOR_HIDDEN),
        _norm(norm, PREDICTOR_HIDDEN),
        nn.ReLU(inplace=True),
        nn.Linear(PREDICTOR_HIDDEN, EMBEDDING),
    )


def alignment_loss(
    visual_prediction: torch.Tensor,
    audio_prediction: torch.Tensor,
    visual_embedding: torch.Tensor,
    audio_embedding: torch.Tensor,
    has_sound: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetrised negative cosine of predictions and the other modality's embeddings (eq. 6-7).

    Computed in float32. No gradient flows into the embeddings that serve as targets.

    Args:
        visual_prediction, audio_prediction, visual_embedding, audio_embedding: (B, C).
        has_sound: bool (B,), the samples with sound, because silence cannot be aligned; None means
            all.

    Returns:
        Scalar in -1..1, the mean over the samples with sound; 0 if there are none.
    """
    to_visual = F.cosine_similarity(
        audio_prediction.float(), visual_embedding.detach().float(), dim=1
    )
    to_audio = F.cosine_similarity(
        visual_prediction.float(), audio_embedding.detach().float(), dim=1
    )
    weights = torch.ones_like(to_visual) if has_sound is None else has_sound.to(to_visual)
    return -0.5 * ((to_visual + to_audio) * weights).sum() / weights.sum().clamp(min=1)
