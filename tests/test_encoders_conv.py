"""Convolutional encoders: S3D, X3D, SlowFast and MobileNet-V2."""

from __future__ import annotations

import copy

import pytest
import torch
from encoder_parity import fill_encoder, keys, recorded_keys, tap_errors, tap_tolerance
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avsal.models.encoders import IMAGE, MOTION
from avsal.models.encoders.slowfast import SLOW_FRAMES
from avsal.models.encoders.x3d import X3D, round_channels

RECORDED = ("s3d-224x224", "s3d-224x384", "x3dl-224x224", "slowfast4x16-224x224")
SMALL_MOTION = ("s3d", "x3dl", "slowfast4x16")
CLASSIFIER_MACS = 7 * 7 * 320 * 1280 + 1280 * 1000  # of MobileNet-V2, beyond the encoder


def build(name: str) -> nn.Module:
    """The encoder of a table row; a size after a dash is left out."""
    name = name.partition("-")[0]
    torch.manual_seed(0)
    return (MOTION | IMAGE)[name].build()


@pytest.mark.parametrize("variant", RECORDED)
def test_keys_equal_the_recorded_ones(variant: str) -> None:
    with torch.device("meta"):
        encoder = build(variant)
    assert keys(encoder) == recorded_keys(variant)


@pytest.mark.parametrize(
    "variant",
    [RECORDED[0], *(pytest.param(name, marks=pytest.mark.slow) for name in RECORDED[1:])],
)
def test_taps_equal_the_recorded_ones(variant: str) -> None:
    encoder = build(variant)
    fill_encoder(encoder)
    errors = tap_errors(encoder, variant)
    assert max(errors.values()) <= tap_tolerance(variant), errors


@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
@pytest.mark.parametrize("name", ["s3d", "x3dl", "x3dl", "slowfast4x16"])
def test_other_sizes_give_the_tabled_shapes(name: str, size: tuple[int, int]) -> None:
    height, width = size
    with torch.inference_mode():
        taps = build(name).eval()(torch.randn(2, 3, 16, height, width))
    table = zip(MOTION[name].channels, MOTION[name].temporal_sizes, (4, 8, 16, 32), strict=True)
    expected = [(2, c, t, height // s, width // s) for c, t, s in table]
    assert [tuple(tap.shape) for tap in taps] == expected


@pytest.mark.parametrize("name", SMALL_MOTION)
def test_gradients_reach_every_weight_in_use(name: str) -> None:
    encoder = build(name).train()
    clip = torch.randn(2, 3, 16, 64, 64, requires_grad=True)
    # Squares, because the mean over a batch-normalised map is constant.
    sum(tap.square().mean() for tap in encoder(clip)).backward()
    assert clip.grad is not None and clip.grad.abs().sum() > 0
    unused = {key for key, weight in encoder.named_parameters() if weight.grad is None}
    expected = {
        key
        for key, _ in encoder.named_parameters()
        if name == "slowfast4x16" and key.startswith("s5.pathway1_")
    }
    assert unused == expected
    used = [weight.grad for weight in encoder.parameters() if weight.grad is not None]
    assert all(grad.isfinite().all() for grad in used)


def test_x3d_s_is_the_published_size() -> None:
    encoder = X3D(depth=2.2)
    depths = [len(stage) for stage in (encoder.s2, encoder.s3, encoder.s4, encoder.s5)]
    assert depths == [3, 5, 11, 7]
    # 3.794 M published parameters, less the head: 192->432 with BatchNorm, 432->2048, 2048->400.
    head = 192 * 432 + 2 * 432 + 432 * 2048 + 2048 * 400 + 400
    parameters = sum(weight.numel() for weight in encoder.parameters())
    assert (parameters + head) / 1e6 == pytest.approx(3.794, abs=5e-4)


def test_x3d_width_scales_all_stages() -> None:
    # X3D-XL: 1.45 times the base width, 24 * 1.45 = 34.8 -> 32 channels in the stem.
    with torch.device("meta"):
        encoder = X3D(width=1.45)
    shapes = {name: tuple(weight.shape) for name, weight in encoder.named_parameters()}
    assert shapes["s1.pathway0_stem.conv.weight"] == (32, 1, 5, 1, 1)
    outs = [shapes[f"s{stage}.pathway0_res0.branch2.c.weight"][0] for stage in (2, 3, 4, 5)]
    assert outs == [32, 72, 136, 280]


def test_slow_pathway_sees_the_published_frames() -> None:
    encoder = build("slowfast4x16").eval()
    for fuse in (encoder.s1_fuse, encoder.s2_fuse, encoder.s3_fuse, encoder.s4_fuse):
        nn.init.zeros_(fuse.conv_f2s.weight)  # cuts the fast pathway off
    clip = torch.randn(1, 3, 16, 32, 32)
    seen = []
    with torch.inference_mode():
        before = encoder(clip)[3]
        for frame in range(16):
            changed = clip.clone()
            changed[:, :, frame] += 1
            if not torch.equal(encoder(changed)[3], before):
                seen.append(frame)
    assert tuple(seen) == SLOW_FRAMES == (0, 4, 12, 15)


def randomise_norms(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(child.weight, 0.8, 1.2)
            nn.init.normal_(child.bias, std=0.1)
            nn.init.normal_(child.running_mean, std=0.1)
            nn.init.uniform_(child.running_var, 0.5, 1.5)


@pytest.mark.parametrize("name", [*SMALL_MOTION, "mobilenet_v2"])
def test_declared_conv_bn_pairs_are_complete_and_exact(name: str) -> None:
    encoder = build(name).eval()
    randomise_norms(encoder)
    folded = copy.deepcopy(encoder)
    for module in list(folded.modules()):
        for conv, norm in getattr(module, "conv_bn_pairs", ()):
            fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
            setattr(module, conv, fused)
            setattr(module, norm, nn.Identity())
    assert not any(isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d)) for m in folded.modules())
    x = torch.randn(1, 3, 64, 64) if name in IMAGE else torch.randn(1, 3, 16, 64, 64)
    with torch.inference_mode():
        for tap, exact in zip(folded(x), encoder(x), strict=True):
            assert (tap - exact).abs().max() <= 1e-5 * exact.std()


@pytest.mark.parametrize(
    ("channels", "rounded"), [(3.4, 8), (12, 16), (27, 32), (13.5, 16), (34.8, 32), (24, 24)]
)
def test_round_channels(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded


@pytest.mark.parametrize("size", [(64, 96), (224, 384)])
def test_mobilenet_taps(size: tuple[int, int]) -> None:
    height, width = size
    encoder = build("mobilenet_v2").eval()
    with torch.inference_mode():
        stride16, stride32 = encoder(torch.randn(2, 3, height, width))
    assert stride16.shape == (2, IMAGE["mobilenet_v2"].channels[0], height // 16, width // 16)
    assert stride32.shape == (2, IMAGE["mobilenet_v2"].channels[1], height // 32, width // 32)


def count_macs(encoder: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates of all convolutions in one forward pass."""
    macs = 0

    def count(module: nn.Conv2d, _: tuple[torch.Tensor], out: torch.Tensor) -> None:
        nonlocal macs
        macs += out.numel() * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in encoder.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        encoder(x)
    for hook in hooks:
        hook.remove()
    return macs


def test_mobilenet_is_the_published_network() -> None:
    encoder = build("mobilenet_v2").eval()
    # 3,504,872 parameters with the 1280-channel convolution, its BatchNorm and the classifier.
    classifier = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(weight.numel() for weight in encoder.parameters()) == 3_504_872 - classifier
    macs = count_macs(encoder, torch.randn(1, 3, 224, 224)) + CLASSIFIER_MACS
    assert macs == pytest.approx(300e6, rel=0.01)  # the paper's table 4


def test_mobilenet_weight_names_are_timm_s() -> None:
    weights = build("mobilenet_v2").state_dict()
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    expected = {
        "conv_stem.weight": (32, 3, 3, 3),
        "bn1.running_var": (32,),
        "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
        "blocks.0.0.conv_pw.weight": (16, 32, 1, 1),
        "blocks.1.0.conv_pw.weight": (96, 16, 1, 1),
        "blocks.3.3.conv_dw.weight": (384, 1, 3, 3),
        "blocks.4.2.conv_pwl.weight": (96, 576, 1, 1),
        "blocks.6.0.conv_pwl.weight": (320, 960, 1, 1),
        "blocks.6.0.bn3.bias": (320,),
    }
    assert expected.items() <= shapes.items()
    assert {name.split(".")[0] for name in shapes} == {"conv_stem", "bn1", "blocks"}


def test_mobilenet_gradients_reach_every_weight() -> None:
    encoder = build("mobilenet_v2").train()
    sum(tap.square().mean() for tap in encoder(torch.randn(2, 3, 64, 64))).backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in encoder.parameters())
