"""Simplifications for inference change the operations, not the numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from parity_check import fill, filled
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from avsal.models import build
from avsal.models.blocks import DropPath, FrameConv3d, PointwiseLinear, TimeConv3d, pointwise
from avsal.models.decoder import Lateral
from avsal.models.folding import convert_weights, prepare_for_inference
from avsal.models.network import SaliencyNetwork

SMALL = (64, 96)


def batch_norms(model: nn.Module) -> list[str]:
    """Names of the BatchNorm layers that are left."""
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]


def run(model: SaliencyNetwork) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    clip = torch.randn(1, 3, 16, *SMALL, generator=generator)
    spectrogram = torch.randn(1, 1, 257, 111, generator=generator)
    with torch.inference_mode():
        density: torch.Tensor = model(clip, spectrogram)
    return density


@pytest.mark.parametrize(
    ("motion", "image"),
    [
        pytest.param("mvitv2s", "convnext_t", marks=pytest.mark.slow),
        ("s3d", "mobilenet_v2"),
        ("x3dl", None),
        pytest.param("slowfast4x16", None, marks=pytest.mark.slow),
    ],
)
def test_prepared_networks_give_the_same_numbers(motion: str, image: str | None) -> None:
    model = filled("s3d-224x224", motion=motion, image=image)
    before = run(model)
    prepared = prepare_for_inference(model)
    assert prepared is model
    assert batch_norms(model) == []
    torch.testing.assert_close(run(model), before, atol=1e-4, rtol=0)
    assert before.std() > 0.01


@pytest.mark.parametrize(
    "motion", ["uniformerb", pytest.param("videoswins", marks=pytest.mark.slow)]
)
def test_prepared_transformers_give_the_same_numbers(motion: str) -> None:
    model = filled("s3d-224x224", motion=motion, image=None, audio=False)
    before = run(model)
    torch.testing.assert_close(run(prepare_for_inference(model)), before, atol=1e-4, rtol=0)


def test_a_second_call_changes_nothing() -> None:
    model = prepare_for_inference(filled("s3d-224x224", motion="x3dl", image=None))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = prepare_for_inference(model).state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_prepared_networks_ask_for_no_gradients() -> None:
    model = prepare_for_inference(build("s3d-224x224", motion="x3dl", image=None).train())
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_lateral_convolutions_become_one(stride: int) -> None:
    lateral = Lateral(10, 6, stride).eval()
    fill.fill(lateral.state_dict(), 0)
    x = torch.randn(2, 10, 4 * stride, 3, 5)
    with torch.inference_mode():
        before = lateral(x)
        merged = prepare_for_inference(copy.deepcopy(lateral))
        torch.testing.assert_close(merged(x), before, atol=1e-5, rtol=1e-4)
    convolutions = [layer for layer in merged if isinstance(layer, nn.Conv3d)]
    assert [conv.kernel_size for conv in convolutions] == [(stride, 1, 1)]


def test_linear_layers_are_computed_alike() -> None:
    linear = nn.Linear(24, 40)
    x = torch.randn(2, 3, 5, 24)
    replaced = PointwiseLinear(linear)
    assert replaced.weight is linear.weight
    with torch.no_grad():
        torch.testing.assert_close(replaced(x), linear(x))
        transposed = x.transpose(1, 2)
        torch.testing.assert_close(
            pointwise(transposed, linear.weight, None), transposed @ linear.weight.T
        )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("batch", [1, 2])
def test_2d_forms_of_3d_convolutions(batch: int, memory_format: torch.memory_format) -> None:
    x = torch.randn(batch, 6, 4, 8, 10).contiguous(memory_format=memory_format)
    for conv in (FrameConv3d(6, 9, 3), TimeConv3d(6, 6, 7, groups=6)):
        plain = nn.functional.conv3d(
            x, conv.weight, conv.bias, padding=conv.padding, groups=conv.groups
        )
        torch.testing.assert_close(conv(x), plain, atol=1e-5, rtol=1e-4)


def test_dropped_paths_are_whole_samples() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    out = drop(torch.ones(2000, 3, 2))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert bool((out.flatten(1).std(dim=1) == 0).all())
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(4)), torch.ones(4))


@pytest.mark.parametrize("variant", ["v2-s3d-224x224", "mvitv2s-224x224"])
def test_weights_converted_once_are_those_that_autocast_converts(variant: str) -> None:
    network = prepare_for_inference(filled(variant))
    with torch.autocast("cpu", torch.bfloat16):
        expected = run(network)
        assert torch.equal(run(convert_weights(network, torch.bfloat16)), expected)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert {module.weight.dtype for module in convolutions} == {torch.bfloat16}
