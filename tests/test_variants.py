"""The ablation variants: their table, their networks, image maps, small networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from parity_check import VARIANT_NAMES, filled, golden_keys

from avsal.errors import UsageError
from avsal.models import VARIANTS, Variant, build
from avsal.models.ablations import MapAdapter, MapAttention
from avsal.models.blocks import MaxPool3d
from avsal.models.encoders import MOTION
from avsal.models.folding import prepare_for_inference
from avsal.models.network import SaliencyNetwork
from avsal.weights.loading import detect

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = "small-224x384"
ABLATIONS = [name for name in VARIANTS if name not in (*VARIANT_NAMES, SMALL)]
NEW_PARTS = ("v7", "bilinear", "avim")  # rows whose parts no other row has
SIZE = (32, 32)  # the smallest; one encoder has a size of its own
# In the published weights without influence; the last is SlowFast's fast path past all fusions.
UNUSED = ("visnet.norm.", "visnet.head.", "visnet.s5.pathway1_")


def network_of(variant: Variant) -> Variant:
    """A variant without its name and size: equal for variants that are one network."""
    return replace(variant, name="", height=0, width=0)


DISTINCT = list({network_of(VARIANTS[name]): name for name in reversed(VARIANTS)}.values())


def _fixed_size(name: str) -> tuple[int, int] | None:
    row = MOTION.get(VARIANTS[name].motion)
    return row.fixed_size if row else None


def names(variant: str) -> list[str]:
    with torch.device("meta"):
        return list(build(variant).state_dict())


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return torch.randn(1, 3, 16, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def spectrogram() -> torch.Tensor:
    return torch.randn(1, 1, 257, 111, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", VARIANTS)
def test_rows_say_what_they_are(name: str) -> None:
    variant = VARIANTS[name]
    assert variant.name == name
    motion = "small" if name == SMALL else variant.motion
    assert name.endswith(f"{motion}-{variant.height}x{variant.width}")
    assert _fixed_size(variant.name) in {None, variant.size}
    assert variant.height % 32 == variant.width % 32 == 0


def test_table_2_and_5_are_complete() -> None:
    expected = "base v1 v2 v3 v4 v5 v6 v7 bilinear-channel bilinear-space avim avim-cpc"
    assert [name.removesuffix("-s3d-224x224") for name in ABLATIONS] == expected.split()


def test_variants_that_differ_by_training_only_are_one_network_with_notes() -> None:
    v3, v4, v5, v6 = (VARIANTS[f"v{number}-s3d-224x224"] for number in (3, 4, 5, 6))
    assert network_of(v3) == network_of(v4) != network_of(v5)
    assert network_of(v5) == network_of(v6) == network_of(VARIANTS["s3d-224x224"])
    assert len({v3.note, v4.note, v5.note, v6.note}) == 4


def test_parts_left_out_take_only_their_own_names() -> None:
    published = [key for key, *_ in golden_keys("s3d-224x224")]
    image, audio = ("image_encoder.", "adapter.", "sa_"), ("audnet.", "aud_vis_sync_block.")
    heads = ("vis_projector.", "aud_projector.", "mlp_vis.", "mlp_aud.")
    for name, gone in (("base", image + audio), ("v1", image), ("v5", ())):
        remaining = [key for key in published if not key.startswith((*gone, *heads))]
        assert names(f"{name}-s3d-224x224") == remaining


def test_encoders_and_fusions_change_their_own_names_only() -> None:
    published = set(names("s3d-224x224"))
    for name in ABLATIONS:
        new = {key for key in names(name) if key not in published}
        assert all(key.startswith(("image_encoder.", "aud_vis_sync_block.")) for key in new)


@pytest.mark.parametrize(
    "name",
    [
        # Motion encoders other than the ablations' and the default's have tests of their own, too.
        pytest.param(name, marks=[] if name in (*ABLATIONS, SMALL) else pytest.mark.slow)
        for name in DISTINCT
    ],
)
def test_forward_and_backward(name: str, clip: torch.Tensor, spectrogram: torch.Tensor) -> None:
    size = _fixed_size(name)
    if size:
        clip = F.interpolate(clip, (16, *size))
    torch.manual_seed(0)
    model = build(name).eval()
    density = model(clip[:, :, -model.frames :], spectrogram)
    assert density.shape == (1, *clip.shape[-2:])
    torch.testing.assert_close(density.logsumexp((1, 2)), torch.zeros(1), atol=1e-4, rtol=0)
    density.square().mean().backward()
    silent = [key for key, parameter in model.named_parameters() if not _has_gradient(parameter)]
    assert all(key.startswith(UNUSED) for key in silent)


def _has_gradient(parameter: torch.nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize("name", [name for name in DISTINCT if name.startswith(NEW_PARTS)])
@torch.inference_mode()
def test_prepared_networks_give_the_same_numbers(
    name: str, clip: torch.Tensor, spectrogram: torch.Tensor
) -> None:
    model = filled(name)
    before = model(clip, spectrogram)
    after = prepare_for_inference(model)(clip, spectrogram)
    assert before.std() > 0.05
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def test_weights_tell_their_network() -> None:
    for name in DISTINCT:
        with torch.device("meta"):
            found, difference = detect(build(name).state_dict())
        assert not difference
        assert network_of(VARIANTS[found]) == network_of(VARIANTS[name])


@pytest.fixture(scope="module")
def v7() -> SaliencyNetwork:
    torch.manual_seed(4)
    return build("v7-s3d-224x224", image="mobilenet_v2", audio=False, decoder_width=48).eval()


@torch.inference_mode()
def test_image_maps_have_a_peak_of_one_and_are_shared_by_windows(
    v7: SaliencyNetwork, clip: torch.Tensor
) -> None:
    frames = [v7.image_features(clip[:, :, index]) for index in range(16)]
    (first,) = frames[0]
    assert first.shape == (1, 1, 8, 8)
    assert first.max() == 1
    assert first.min() > 0
    stacked = tuple(torch.stack(parts, dim=1) for parts in zip(*frames, strict=True))
    shared = v7.forward_with_features(clip, stacked)
    torch.testing.assert_close(shared, v7(clip), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_image_maps_decide_with_the_motion(v7: SaliencyNetwork, clip: torch.Tensor) -> None:
    maps = torch.zeros(1, 16, 1, 8, 8)
    unlit = v7.forward_with_features(clip, (maps,))
    maps[..., 4:] = 1
    lit = v7.forward_with_features(clip, (maps,))
    assert (lit - unlit).abs().max() > 1e-3


def test_maps_are_masks_without_weights() -> None:
    maps = torch.zeros(1, 16, 1, 16, 16)
    maps[:, 5] = 1  # in the second group of four frames
    masks = MapAdapter()((maps,))
    assert masks.shape == (1, 1, 4, 16, 16)
    for factor, size in ((4, 16), (2, 8), (1, 4)):
        attention = MapAttention(factor)
        x = torch.randn(1, 3, 4, size, size)
        weighted = attention(x, masks)
        torch.testing.assert_close(weighted[:, :, 1], 2 * x[:, :, 1])
        torch.testing.assert_close(weighted[:, :, [0, 2, 3]], x[:, :, [0, 2, 3]])
        assert not list(attention.parameters())


def test_the_small_network_has_at_most_8_million_parameters() -> None:
    model = build(SMALL).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) <= 8_000_000
    density = model(torch.randn(1, 3, model.frames, *SIZE), torch.randn(1, 1, 257, 111))
    density.square().mean().backward()
    assert all(_has_gradient(parameter) for parameter in model.parameters())


@torch.inference_mode()
def test_the_small_network_needs_features_only() -> None:
    torch.manual_seed(6)
    model = filled(SMALL)
    clip, spectrogram = torch.randn(1, 3, 4, *SIZE), torch.randn(1, 1, 257, 111)
    each = [model.image_features(clip[:, :, index]) for index in range(4)]
    features = tuple(torch.stack(parts, dim=1) for parts in zip(*each, strict=True))
    assert [part.shape[-1] for part in features] == [4, 2, 1, 4]
    shared = model.forward_with_features(None, features, spectrogram)
    torch.testing.assert_close(shared, model(clip, spectrogram), atol=1e-4, rtol=0)
    backwards = tuple(part.flip(1) for part in features)
    other = model.forward_with_features(None, backwards, spectrogram)
    assert (other - shared).abs().max() > 1e-3  # the order of the frames matters


def test_maxima_of_space_and_then_time_are_those_of_both() -> None:
    for frames in (1, 2, 4):
        x = torch.randn(2, 3, frames, 6, 5)
        torch.testing.assert_close(MaxPool3d()(x), F.max_pool3d(x, 3, stride=1, padding=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"motion": "c3d"}, "no motion encoder called 'c3d'; there are mvitv2s, s3d"),
        ({"image": "vgg"}, "no image encoder called 'vgg'; there are convnext_t, mobilenet_v2"),
        ({"image_output": "maps"}, "no image output called 'maps'; there are features, map"),
        ({"fusion": "sum"}, "no fusion called 'sum'; there are avfb, bilinear_channel"),
    ],
)
def test_unknown_parts_are_named(changes: dict[str, str], message: str) -> None:
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        build("s3d-224x224", **changes)


def test_a_frozen_image_encoder_sees_equal_frames_once() -> None:
    model = filled(SMALL).train()
    model.image_encoder.eval().requires_grad_(False)
    clip = torch.randn(2, 3, 4, *SIZE)
    clip[0] = clip[0, :, :1]  # a still
    clip[1, :, 3] = clip[1, :, 2]
    counted: list[int] = []
    model.image_encoder.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    found = model._window_features(clip)
    model.eval()
    expected = model._window_features(clip)
    assert counted == [1 + 3, 8]
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each, other, atol=1e-4, rtol=1e-4)
