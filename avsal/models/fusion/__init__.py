"""Fusion of motion and audio features.

A fusion is a module `forward(v4, audio) -> Fused`, made by a row of FUSIONS from the channels of
its two inputs and of its output; the rest of the network asks nothing else of it. The published
one is `avfb`; the others are those that the paper compares it with (Table 5).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from avsal.models.fusion.avfb import AudioVisualFusion
from avsal.models.fusion.avim import ConsistentInteraction, Interaction
from avsal.models.fusion.bilinear import ChannelBilinear, SpatialBilinear
from avsal.models.fusion.tokens import Fused as Fused

FUSIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "avfb": AudioVisualFusion,
    "bilinear_channel": ChannelBilinear,
    "bilinear_space": SpatialBilinear,
    "avim": Interaction,
    "avim_cpc": ConsistentInteraction,
}
