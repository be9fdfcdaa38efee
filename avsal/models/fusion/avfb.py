"""AVFB, the published fusion: transformer layers over motion and audio tokens (section 3.4)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from avsal.models.attention import SelfAttention
from avsal.models.blocks import MLP
from avsal.models.fusion.tokens import Fused, TokenFusion


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # the cached tensor must also serve training
def sinusoid(count: int, dim: int, device: torch.device) -> torch.Tensor:
    """Sinusoidal positions (count, dim), computed in float64 (Vaswani et al. 2017, section 3.5)."""
    channel = torch.arange(dim, dtype=torch.float64)
    rate = 10000.0 ** (-2 * torch.div(channel, 2, rounding_mode="floor") / dim)
    angle = torch.arange(count, dtype=torch.float64)[:, None] * rate
    positions = torch.where(channel % 2 == 0, angle.sin(), angle.cos())
    return positions.float().to(device)


class FusionBlock(nn.Module):
    """Pre-norm transformer layer over tokens (B, N, dim)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class AudioVisualFusion(TokenFusion):
    """AVFB: transformer layers over motion tokens followed by audio tokens (section 3.4, eq. 5).

    Positions count the tokens of each modality separately.
    """

    def __init__(
        self, motion: int, audio: int, dim: int = 512, heads: int = 4, depth: int = 3
    ) -> None:
        super().__init__(motion, audio, dim)
        self.blocks = nn.Sequential(*(FusionBlock(dim, heads) for _ in range(depth)))

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
