"""The whole network: weight names, goldens, sizes, interfaces."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from parity_check import (
    VARIANT_NAMES,
    assert_parity,
    fill,
    filled,
    golden,
    golden_keys,
    inputs,
    state_keys,
)

from avsal.errors import UsageError
from avsal.models import VARIANTS, build
from avsal.models.blocks import DropPath
from avsal.models.decoder import Lateral, Readout, top_down
from avsal.models.folding import prepare_for_inference
from avsal.models.fusion import alignment_loss, sinusoid
from avsal.models.network import SaliencyNetwork

HEADS = ("vis_projector", "aud_projector", "mlp_vis", "mlp_aud")
SMALL = (32, 64)


@pytest.fixture(scope="module")
def network() -> SaliencyNetwork:
    """MViTv2-S with its heads; the same weights at every input size."""
    return filled("mvitv2s-224x224", heads=True)


@pytest.fixture(scope="module")
def small_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Two clips (2, 3, 16, 32, 64) and their spectrograms."""
    generator = torch.Generator().manual_seed(3)
    clip = torch.randn(2, 3, 16, *SMALL, generator=generator)
    return clip, torch.randn(2, 1, 257, 111, generator=generator)


@pytest.fixture
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_every_parity_variant_is_in_the_table_before_all_others() -> None:
    assert sorted(list(VARIANTS)[: len(VARIANT_NAMES)]) == VARIANT_NAMES


@pytest.mark.parametrize("variant", VARIANT_NAMES)
def test_keys_are_the_published_ones_in_order(variant: str) -> None:
    with torch.device("meta"):
        assert state_keys(build(variant, heads=True)) == golden_keys(variant)


@pytest.mark.parametrize("variant", VARIANT_NAMES)
def test_without_heads_only_they_are_missing(variant: str) -> None:
    with torch.device("meta"):
        keys = state_keys(build(variant))
    assert keys == [key for key in golden_keys(variant) if key[0].split(".")[0] not in HEADS]


def test_strict_loading_names_what_does_not_fit() -> None:
    with torch.device("meta"):
        state = build("s3d-224x224", heads=True).state_dict()
        plain = build("s3d-224x224")
    with pytest.raises(RuntimeError, match=r"Unexpected key.*vis_projector\.0\.weight"):
        plain.load_state_dict(state, strict=True)


def test_filled_weights_are_the_golden_ones(network: SaliencyNetwork) -> None:
    expected = int(golden("mvitv2s-224x224")["weights_crc32"])
    assert fill.checksum(network.state_dict()) == expected


def test_golden_output_and_taps(network: SaliencyNetwork) -> None:
    assert_parity(network, "mvitv2s-224x224")


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANT_NAMES)
def test_golden_output_and_taps_of_every_variant(variant: str) -> None:
    model = filled(variant, heads=True)
    assert fill.checksum(model.state_dict()) == int(golden(variant)["weights_crc32"])
    assert_parity(model, variant)
    assert_parity(prepare_for_inference(model), variant)


@pytest.mark.usefixtures("no_gradients")
@pytest.mark.parametrize("size", [(64, 96), (32, 32), (96, 64)])
def test_any_multiple_of_32_gives_a_log_density(
    network: SaliencyNetwork, size: tuple[int, int]
) -> None:
    clip = torch.randn(1, 3, 16, *size)
    density = network(clip, torch.randn(1, 1, 257, 111))
    assert density.shape == (1, *size)
    assert density.dtype == torch.float32
    torch.testing.assert_close(density.logsumexp((1, 2)), torch.zeros(1), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("no_gradients")
def test_windows_of_a_batch_do_not_meet(
    network: SaliencyNetwork, small_inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    clip, spectrogram = small_inputs
    together = network(clip, spectrogram)
    for i in range(2):
        alone = network(clip[i : i + 1], spectrogram[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("no_gradients")
def test_features_of_single_frames_give_the_same_map(
    network: SaliencyNetwork, small_inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    clip, spectrogram = (x[:1] for x in small_inputs)
    frames = [network.image_features(clip[:, :, i]) for i in range(16)]
    stacked = tuple(torch.stack(parts, dim=1) for parts in zip(*frames, strict=True))
    shared = network.forward_with_features(clip, stacked, spectrogram)
    torch.testing.assert_close(shared, network(clip, spectrogram), atol=1e-4, rtol=0)


@pytest.mark.usefixtures("no_gradients")
def test_reloaded_weights_do_not_meet_cached_positions(
    network: SaliencyNetwork, small_inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    clip = small_inputs[0][:1]
    visnet = copy.deepcopy(network.visnet)
    before = visnet(clip)[0]
    state = {name: tensor.clone() for name, tensor in visnet.state_dict().items()}
    for name, tensor in state.items():
        if "rel_pos" in name:
            tensor.mul_(-2)
    fresh = copy.deepcopy(visnet)
    for block in fresh.blocks:
        block.attn._positions = None
    for model, assign in ((fresh, False), (visnet, True)):
        model.load_state_dict(state, assign=assign)
    assert not torch.allclose(fresh(clip)[0], before, atol=1e-3)
    torch.testing.assert_close(visnet(clip)[0], fresh(clip)[0])


@pytest.mark.usefixtures("no_gradients")
def test_alignment_comes_with_the_same_map(
    network: SaliencyNetwork, small_inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    clip, spectrogram = small_inputs
    density, loss = network.forward_with_alignment(clip, spectrogram)
    assert -1 <= loss.item() <= 1
    torch.testing.assert_close(density, network(clip, spectrogram), atol=1e-4, rtol=0)


def test_gradients_reach_every_weight_but_the_unused_norm(network: SaliencyNetwork) -> None:
    model = copy.deepcopy(network).train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.rate = 0.0  # a branch dropped for the only sample would get no gradient
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            module.eval()  # at this size some layers hold one value a channel
    clip, spectrogram = torch.randn(1, 3, 16, 32, 32), torch.randn(1, 1, 257, 111)
    density, loss = model.forward_with_alignment(clip, spectrogram)
    (density.square().mean() + loss).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"visnet.norm.weight", "visnet.norm.bias"}


@pytest.mark.parametrize(
    "changes", [{"audio": None}, {"image": None}, {"audio": None, "image": None}]
)
def test_branches_can_be_left_out(changes: dict[str, None]) -> None:
    model = filled("mvitv2s-224x224", **changes)
    names = {name for name, *_ in state_keys(model)}
    assert names < {name for name, *_ in golden_keys("mvitv2s-224x224")}
    gone = {"audio": ("audnet", "aud_vis"), "image": ("image_encoder", "adapter", "sa_")}
    for part in changes:
        assert not any(name.startswith(gone[part]) for name in names)
    assert model.uses_audio == ("audio" not in changes)
    assert model.uses_images == ("image" not in changes)
    clip = torch.randn(1, 3, 16, *SMALL)
    with torch.inference_mode():
        spectrogram = torch.randn(1, 1, 257, 111) if model.uses_audio else None
        density = model(clip, spectrogram)
    assert density.shape == (1, *SMALL)
    assert density.std() > 0


def test_all_widths_are_settings() -> None:
    settings = {
        "motion": "x3dl",
        "audio_width": 16,
        "fusion_dim": 96,
        "decoder_width": 48,
    }
    model = build("s3d-224x224", heads=True, head_norm="batch", **settings).eval()
    density, _ = model.forward_with_alignment(
        torch.randn(2, 3, 16, 32, 64), torch.randn(2, 1, 257, 111)
    )
    assert density.shape == (2, 32, 64)
    assert model.readout[1].weight.shape == (48, 48, 3, 3, 3)
    assert isinstance(model.mlp_vis[1], torch.nn.BatchNorm1d)


@pytest.mark.parametrize(
    ("variant", "shape", "message"),
    [
        ("mvitv2s-224x224", (1, 3, 16, 60, 64), "60x64.*multiples of 32"),
        ("mvitv2s-224x224", (1, 3, 8, 64, 64), r"\(1, 3, 8, 64, 64\)"),
        ("morphmlps-224x224", (1, 3, 16, 64, 64), "morphmlps takes 224x224"),
    ],
)
def test_wrong_clips_are_named(variant: str, shape: tuple[int, ...], message: str) -> None:
    with torch.device("meta"):
        model = build(variant, audio=False)
        clip = torch.empty(shape)
    with pytest.raises(UsageError, match=message):
        model(clip)
    with pytest.raises(UsageError, match=message):
        model.forward_with_features(clip, ())


def test_missing_sound_missing_heads_and_unknown_names_are_said() -> None:
    with torch.device("meta"):
        model = build("mvitv2s-224x224", image=None).eval()
    clip = torch.empty(1, 3, 16, 64, 64, device="meta")
    with pytest.raises(UsageError, match="spectrogram"):
        model(clip)
    with pytest.raises(UsageError, match="heads=True"):
        model.forward_with_alignment(clip, torch.empty(1, 1, 257, 111, device="meta"))
    with pytest.raises(UsageError, match=r"s4d.*mvitv2s-224x384"):
        build("s4d-224x224")


def test_naming_the_variants_does_not_import_torch() -> None:
    code = "import sys, avsal.models.variants, avsal.models.encoders; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_sinusoid_follows_the_formula() -> None:
    positions = sinusoid(5, 8, torch.device("cpu"))
    for place in range(5):
        for channel in range(8):
            angle = torch.tensor(place / 10000 ** (2 * (channel // 2) / 8), dtype=torch.float64)
            expected = angle.cos() if channel % 2 else angle.sin()
            assert positions[place, channel].item() == pytest.approx(expected.item(), abs=1e-7)


def test_alignment_loss_is_symmetric_and_stops_gradients() -> None:
    visual, audio = torch.randn(2, 3, 8).unbind()
    visual.requires_grad_()
    audio.requires_grad_()
    assert alignment_loss(audio, visual, visual, audio).item() == pytest.approx(-1)
    predictions = torch.randn(2, 3, 8, requires_grad=True)
    alignment_loss(predictions[0], predictions[1], visual, audio).backward()
    assert predictions.grad is not None
    assert visual.grad is None
    assert audio.grad is None


@pytest.mark.usefixtures("no_gradients")
def test_readout_equals_convolving_the_concatenated_scales() -> None:
    readout = Readout(12).eval()
    scales = [torch.randn(2, 12, 4, 16 // 2**i, 24 // 2**i) for i in range(4)]
    full = [
        F.interpolate(scale, scale_factor=(1, 2**i, 2**i), mode="trilinear")
        for i, scale in enumerate(scales)
    ]
    expected = torch.nn.Sequential(*readout)(torch.cat(full, dim=1))
    assert expected.shape == (2, 1, 1, 64, 96)
    torch.testing.assert_close(readout(scales), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("no_gradients")
def test_lateral_block_equals_its_3d_convolutions() -> None:
    lateral = Lateral(10, 6, stride=2).eval()
    x = torch.randn(2, 10, 8, 5, 7)
    block = lateral[2]
    y = lateral[1](lateral[0](x))
    in_time = (block.dwconv_t.weight, block.dwconv_t.bias, 1, (3, 0, 0), 1, 6)
    in_space = (block.dwconv_s.weight, block.dwconv_s.bias, 1, (0, 3, 3), 1, 6)
    branch = block.norm(F.conv3d(F.conv3d(y, *in_time), *in_space))
    branch = block.pwconv2(F.gelu(block.pwconv1(branch)))
    torch.testing.assert_close(lateral(x), y + branch, atol=1e-5, rtol=1e-4)


def test_top_down_adds_every_coarser_sum() -> None:
    ones = [torch.ones(1, 2, 4, 16 // 2**i, 16 // 2**i) for i in range(4)]
    sums = top_down(ones)
    for scale, total in zip(sums, (8, 4, 2, 1), strict=True):  # 1; 1+1; 1+2+1; 1+4+2+1
        torch.testing.assert_close(scale, torch.full_like(scale, total))
    assert all(bool((scale == 1).all()) for scale in ones)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_cuda(network: SaliencyNetwork, dtype: torch.dtype) -> None:
    model = prepare_for_inference(copy.deepcopy(network)).cuda()
    clip, spectrogram = (x.cuda() for x in inputs("mvitv2s-224x224"))
    with torch.inference_mode():
        exact = model(clip, spectrogram)
        with torch.autocast("cuda", dtype):
            half = model(clip, spectrogram)
    assert half.dtype == torch.float32
    assert torch.isfinite(half).all()
    pair = torch.stack((exact.exp().flatten(), half.exp().flatten()))
    assert torch.corrcoef(pair)[0, 1] > 0.999


@pytest.mark.usefixtures("no_gradients")
def test_autocast_keeps_the_density_normalised(
    network: SaliencyNetwork, small_inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    clip, spectrogram = (x[:1] for x in small_inputs)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(clip, spectrogram)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.logsumexp((1, 2)), torch.zeros(1), atol=1e-5, rtol=0)
    pair = torch.stack((network(clip, spectrogram).exp().flatten(), half.exp().flatten()))
    assert torch.corrcoef(pair)[0, 1] > 0.99
