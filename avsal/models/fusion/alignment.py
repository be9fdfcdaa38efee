"""The heads that align motion and sound in training, and their loss (section 3.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

EMBEDDING = 2048  # of the projectors
PREDICTOR_HIDDEN = 512


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
    heard: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetrised negative cosine of predictions and the other modality's embeddings (eq. 6-7).

    Computed in float32. No gradient flows into the embeddings that serve as targets.

    Args:
        visual_prediction, audio_prediction, visual_embedding, audio_embedding: (B, C).
        heard: bool (B,), the samples that have sound, as silence has nothing to align with; None
            for all.

    Returns:
        Scalar in -1..1, the mean over the samples that have sound; 0 where none has.
    """
    to_visual = F.cosine_similarity(
        audio_prediction.float(), visual_embedding.detach().float(), dim=1
    )
    to_audio = F.cosine_similarity(
        visual_prediction.float(), audio_embedding.detach().float(), dim=1
    )
    weights = torch.ones_like(to_visual) if heard is None else heard.to(to_visual)
    return -0.5 * ((to_visual + to_audio) * weights).sum() / weights.sum().clamp(min=1)
