"""Networks through `torch.export`: what exporters and compilers begin with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avsal.models import VARIANTS, build
from avsal.models.encoders.mvitv2 import PooledAttention, block_specs
from avsal.models.encoders.videoswin import VideoSwin
from avsal.models.folding import prepare_for_inference
from avsal.models.fusion import AudioVisualFusion

SIZE = (64, 96)


def assert_traced(network: nn.Module, *inputs: torch.Tensor) -> None:
    """The exported program computes what the network does, and the network still does so."""
    with torch.no_grad():
        traced = torch.export.export(network, inputs).module()(*inputs)
        expected, again = network(*inputs), network(*inputs)
    for one, other, last in zip(*map(_tensors, (traced, expected, again)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert torch.equal(other, last)


def _tensors(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


@pytest.mark.parametrize(
    ("part", "shapes"),
    [
        (lambda: VideoSwin(dim=12, depths=(1, 2, 2, 1)), [(1, 3, 16, *SIZE)]),
        (lambda: PooledAttention(block_specs()[1]), [(1, 4, 16, 16, 96)]),
        (lambda: AudioVisualFusion(12, 8, 16), [(1, 12, 2, 3, 4), (1, 8, 5, 4)]),
    ],
    ids=["windows", "positions", "fusion"],
)
def test_parts_that_keep_constants_are_traced_before_and_after_they_ran(part, shapes) -> None:
    """What was made while tracing has no values, and must not be kept for predictions."""
    module = part().eval()
    inputs = [torch.randn(shape) for shape in shapes]
    assert_traced(module, *inputs)
    assert_traced(prepare_for_inference(module), *inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_network_is_traced(name) -> None:
    network = prepare_for_inference(build(name))
    height, width = network.fixed_size or SIZE
    clip = torch.randn(1, 3, network.frames, height, width)
    sound = (torch.randn(1, 1, 257, 111),) if network.uses_audio else ()
    assert_traced(network, clip, *sound)
