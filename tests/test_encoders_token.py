"""Token encoders: MorphMLP, VideoSwin and UniFormer."""

from __future__ import annotations

import itertools

import pytest
import torch
from encoder_parity import fill, fill_encoder, keys, recorded_keys, tap_errors, tap_tolerance
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avsal.errors import UsageError
from avsal.models.blocks import stage_drop_rates
from avsal.models.encoders import MOTION
from avsal.models.encoders.morphmlp import MorphMLP, mix_segments
from avsal.models.encoders.uniformer import UniFormer
from avsal.models.encoders.videoswin import (
    WINDOW,
    Block,
    VideoSwin,
    plan_windows,
    relative_positions,
)

RECORDED = ("morphmlps-224x224", "videoswins-224x224", "uniformerb-224x224")
PARAMETERS = {"morphmlps": 46_723_586, "videoswins": 49_508_886, "uniformerb": 49_813_200}
CPU = torch.device("cpu")


def build(name: str) -> nn.Module:
    """The encoder of a table row; a size after a dash is left out."""
    torch.manual_seed(0)
    return MOTION[name.partition("-")[0]].build()


def build_shallow(name: str) -> nn.Module:
    """The encoder of a table row with one block a stage; two where every second one shifts."""
    torch.manual_seed(0)
    if name == "morphmlps":
        return MorphMLP(depths=(1, 1, 1, 1))
    if name == "uniformerb":
        return UniFormer(depths=(1, 1, 1, 1))
    return VideoSwin(depths=(2, 2, 2, 2))


@pytest.mark.parametrize("variant", RECORDED)
def test_keys_equal_the_recorded_ones(variant: str) -> None:
    with torch.device("meta"):
        encoder = build(variant)
    assert keys(encoder) == recorded_keys(variant)
    parameters = sum(weight.numel() for weight in encoder.parameters())
    assert parameters == PARAMETERS[variant.partition("-")[0]]


@pytest.mark.parametrize(
    "variant",
    [RECORDED[0], *(pytest.param(name, marks=pytest.mark.slow) for name in RECORDED[1:])],
)
def test_taps_equal_the_recorded_ones(variant: str) -> None:
    encoder = build(variant)
    fill_encoder(encoder)
    errors = tap_errors(encoder, variant)
    assert max(errors.values()) <= tap_tolerance(variant), errors


@pytest.mark.slow
@pytest.mark.parametrize("change", ["zeroed", "mirrored"])
def test_taps_notice_the_relative_positions(change: str) -> None:
    # The saliency map hardly feels these tables, so that the recorded taps must.
    variant = "videoswins-224x224"
    encoder = build(variant).eval()
    fill_encoder(encoder)
    clip = torch.from_numpy(fill.inputs(variant, 0)[0])
    with torch.inference_mode():
        before = encoder(clip)
        for name, table in encoder.named_parameters():
            if name.endswith("relative_position_bias_table"):
                table.copy_(table.flip(0) if change == "mirrored" else torch.zeros_like(table))
        after = encoder(clip)
    for old, new in zip(before, after, strict=True):
        # One standard deviation of all cells' changes: any 64 samples hold larger ones.
        assert (new - old).std() > 10 * tap_tolerance(variant) * old.std()


@pytest.mark.parametrize(
    "size", [(32, 32), (64, 96), pytest.param((224, 384), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["videoswins", "uniformerb"])
def test_other_sizes_give_the_tabled_shapes(name: str, size: tuple[int, int]) -> None:
    height, width = size
    encoder = build_shallow(name).eval()
    names = set(encoder.state_dict())
    with torch.inference_mode():
        taps = encoder(torch.randn(1, 3, 16, height, width))
    table = zip(MOTION[name].channels, MOTION[name].temporal_sizes, (4, 8, 16, 32), strict=True)
    expected = [(1, c, t, height // s, width // s) for c, t, s in table]
    assert [tuple(tap.shape) for tap in taps] == expected
    assert all(tap.isfinite().all() for tap in taps)
    assert set(encoder.state_dict()) == names


@pytest.mark.parametrize("name", ["videoswins", "uniformerb"])
def test_clips_of_a_batch_do_not_meet(name: str) -> None:
    encoder = build_shallow(name).eval()
    clips = torch.randn(2, 3, 16, 64, 96)
    with torch.inference_mode():
        together = encoder(clips)
        alone = encoder(clips[1:])
    for both, single in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:], single, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "unused"),
    [
        pytest.param("morphmlps", (224, 224), set(), marks=pytest.mark.slow),
        ("videoswins", (64, 96), {"norm.weight", "norm.bias"}),
        ("uniformerb", (64, 96), {"norm.weight", "norm.bias", "head.weight", "head.bias"}),
    ],
)
def test_gradients_reach_every_weight_in_use(
    name: str, size: tuple[int, int], unused: set[str]
) -> None:
    encoder = build_shallow(name)
    clip = torch.randn(1, 3, 16, *size)
    with torch.inference_mode():
        encoder.eval()(clip)  # what a prediction leaves cached must not get in training's way
    # Squares, because the mean over a normalised map is constant. Eval mode, because a dropped
    # path has no gradient.
    sum(tap.square().mean() for tap in encoder(clip)).backward()
    grads = {key: weight.grad for key, weight in encoder.named_parameters()}
    assert {key for key, grad in grads.items() if grad is None} == unused
    used = {key: grad for key, grad in grads.items() if grad is not None}
    assert [key for key, grad in used.items() if not grad.isfinite().all()] == []
    assert [key for key, grad in used.items() if not grad.any()] == []


@pytest.mark.parametrize("shape", [(16, 224, 384), (16, 64, 64), (8, 224, 224)])
def test_morphmlp_says_which_size_it_needs(shape: tuple[int, int, int]) -> None:
    encoder = build_shallow("morphmlps")
    with pytest.raises(UsageError, match="needs clips of 16 frames of 224x224 pixels") as error:
        encoder(torch.zeros(1, 3, *shape))
    assert f"{shape[0]} of {shape[1]}x{shape[2]}" in str(error.value)
    assert "\n" not in str(error.value)
    assert MOTION["morphmlps"].fixed_size == (224, 224)


def test_morphmlp_conv_bn_pairs_are_exact() -> None:
    embed = build_shallow("morphmlps").get_submodule("patch_embed1").eval()
    for norm in (embed.norm1, embed.norm2):
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    clip = torch.randn(1, 3, 4, 16, 16)
    with torch.inference_mode():
        before = embed(clip)
        for conv, norm in embed.conv_bn_pairs:
            fused = fuse_conv_bn_eval(getattr(embed, conv), getattr(embed, norm))
            setattr(embed, conv, fused)
            setattr(embed, norm, nn.Identity())
        torch.testing.assert_close(embed(clip), before)


def test_segments_mix_one_channel_group_of_their_own_tokens() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 12)
    tokens = torch.randn(8, 12)  # two segments of 4 tokens; 4 groups of 3 channels
    mixed = mix_segments(tokens, 4, layer)
    for segment, group in itertools.product(range(2), range(4)):
        rows, columns = slice(4 * segment, 4 * segment + 4), slice(3 * group, 3 * group + 3)
        expected = layer(tokens[rows, columns].flatten()).view(4, 3)
        torch.testing.assert_close(mixed[rows, columns], expected)


def test_relative_positions_are_one_row_an_offset() -> None:
    window = (2, 3, 4)
    index = relative_positions(window)
    cells = list(itertools.product(*map(range, window)))
    rows: dict[tuple[int, ...], set[int]] = {}
    for (i, first), (j, second) in itertools.product(enumerate(cells), repeat=2):
        offset = tuple(a - b for a, b in zip(first, second, strict=True))
        rows.setdefault(offset, set()).add(int(index[i, j]))
    assert all(len(found) == 1 for found in rows.values())
    ordered = [rows[offset].pop() for offset in sorted(rows)]
    assert ordered == list(range(3 * 5 * 7))


def dense_windows(block: Block, x: torch.Tensor, shift: tuple[int, int, int]) -> torch.Tensor:
    """What `Block.attend_windows` gives, from one attention over the whole volume with a mask.

    Windows of the shifted grid start at `shift`: the cells before it are windows of their own.
    """
    size = x.shape[1:4]
    window = [min(n, cells) for n, cells in zip(size, WINDOW, strict=True)]
    padded = [-(-n // cells) * cells for n, cells in zip(size, window, strict=True)]
    volume = x.new_zeros(1, *padded, x.shape[-1])
    volume[:, : size[0], : size[1], : size[2]] = x
    cells = torch.cartesian_prod(*(torch.arange(n) for n in padded))
    owner = (cells - torch.tensor(shift)).div(torch.tensor(window), rounding_mode="floor")
    together = (owner[:, None] == owner[None]).all(dim=-1)
    offsets = (cells[:, None] - cells[None]).where(together[..., None], 0)
    spans = [2 * n - 1 for n in WINDOW]
    centred = offsets + torch.tensor(WINDOW) - 1
    row = (centred[..., 0] * spans[1] + centred[..., 1]) * spans[2] + centred[..., 2]
    bias = block.attn.relative_position_bias_table[row].permute(2, 0, 1)
    query, key, value = (
        part.unflatten(-1, (block.attn.heads, -1)).transpose(0, 1)
        for part in block.attn.qkv(volume[0].flatten(0, 2)).chunk(3, dim=-1)
    )
    logits = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5 + bias
    weights = logits.masked_fill(~together, float("-inf")).softmax(dim=-1)
    mixed = block.attn.proj((weights @ value).transpose(0, 1).flatten(1))
    return mixed.view(volume.shape)[:, : size[0], : size[1], : size[2]]


@pytest.mark.parametrize(
    ("size", "shift"),
    [
        ((8, 14, 7), (0, 3, 0)),  # one window wide: no shift along the width
        ((8, 10, 16), (0, 3, 3)),  # padded
        ((12, 9, 7), (4, 3, 0)),  # padded and shifted in time
        ((8, 2, 3), (0, 0, 0)),  # smaller than a window
        ((4, 5, 8), (0, 0, 3)),
    ],
)
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_equal_masked_attention_over_the_volume(
    size: tuple[int, int, int], shift: tuple[int, int, int], shifted: bool
) -> None:
    torch.manual_seed(0)
    block = Block(16, 2, shifted=shifted, drop_rate=0.0).eval()
    nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(1, *size, 16)
    with torch.inference_mode():
        expected = dense_windows(block, x, shift if shifted else (0, 0, 0))
        torch.testing.assert_close(block.attend_windows(x), expected, rtol=1e-4, atol=1e-5)


def test_windows_are_planned_once_a_size() -> None:
    size, window = (8, 56, 56), (8, 7, 7)
    plan = plan_windows(size, window, True, CPU)
    assert plan_windows(size, window, True, CPU) is plan
    # 8x8 windows: the last row and column hold cells of opposite borders, the corner both.
    counts = {count: None if apart is None else int(apart.sum()) for count, apart in plan.groups}
    cells = 8 * 7 * 7
    half = 2 * (8 * 7 * 3) * (8 * 7 * 4)
    assert counts.keys() == {49, 7, 1}
    assert counts[49] is None and counts[7] == half
    assert counts[1] == cells**2 - sum((8 * a * b) ** 2 for a in (3, 4) for b in (3, 4))


def test_drop_rates_rise_linearly_to_the_last_block() -> None:
    assert stage_drop_rates(0.4, (2, 3)) == [
        [0.0, pytest.approx(0.1)],
        pytest.approx([0.2, 0.3, 0.4]),
    ]
    assert stage_drop_rates(0.3, (1,)) == [[0.0]]


@pytest.mark.parametrize(
    ("name", "last"), [("morphmlps", 0.1), ("videoswins", 0.1), ("uniformerb", 0.3)]
)
def test_blocks_take_the_drop_rates_in_order(name: str, last: float) -> None:
    with torch.device("meta"):
        encoder = build(name)
    rates = [m.rate for m in encoder.modules() if type(m).__name__ == "DropPath"]
    assert rates[0] == 0.0
    assert rates[-1] == pytest.approx(last)
    assert rates == sorted(rates)
