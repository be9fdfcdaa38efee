"""The size of a network: parameters and multiply-accumulates, counted without running it.

The parameters agree with the paper's Table 6. Its multiply-accumulates were counted by fvcore on
the published code, those here by PyTorch's `FlopCounterMode`. They differ for three reasons:

- fvcore adds normalisations, 0.3 to 0.6 G at 224x224; here they are not counted;
- the readout convolves every scale at its own size and joins the time steps before the last
  upsampling, which gives the same map with 1.6 G less;
- MViTv2 computes its position bias inside the attention product, which is 3 to 5 % more operations
  and no matrix of biases.

Apart from the first two, the counts agree to 0.02 G for every encoder but MViTv2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from avsal.models import build
from avsal.models.network import SPECTROGRAM
from avsal.models.variants import Variant

# Table 6: parameters with training heads in millions, multiply-accumulates in billions.
PAPER_TABLE_6: dict[str, tuple[int, int]] = {
    "s3d-224x224": (88, 122),
    "x3dl-224x224": (84, 121),
    "slowfast4x16-224x224": (114, 127),
    "morphmlps-224x224": (126, 172),
    "videoswins-224x224": (129, 188),
    "uniformerb-224x224": (129, 202),
    "mvitv2s-224x224": (114, 170),
}


@dataclass(frozen=True)
class Measure:
    """Size of a network.

    Attributes:
        parameters: number of parameters at inference.
        parameters_with_heads: the same with the four training heads, as in the paper.
        macs: multiply-accumulates of one window, which is 16 frames, or 4 in the default network;
            convolutions, products and attention, without normalisations, poolings and
            interpolations.
    """

    parameters: int
    parameters_with_heads: int
    macs: int


def measure(variant: Variant) -> Measure:
    """Count parameters and multiply-accumulates on the meta device, which takes no memory.

    Variants that are the same network under several names are counted once.
    """
    return _measure(replace(variant, name=""))


@cache
def _measure(variant: Variant) -> Measure:
    with torch.device("meta"), torch.no_grad():
        network = build(variant).eval()
        clip = torch.empty(1, 3, network.frames, variant.height, variant.width)
        with FlopCounterMode(display=False) as counter:
            network(clip, torch.empty(1, 1, *SPECTROGRAM))
        with_heads = _parameters(build(variant, heads=True))
    return Measure(_parameters(network), with_heads, counter.get_total_flops() // 2)


def _parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
