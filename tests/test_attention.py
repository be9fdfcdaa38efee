"""Attention: folded relative positions against the bias that they stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from avsal.models.blocks import SelfAttention, attend, attend_decomposed, one_hot_positions
from avsal.models.blocks import relative_rows as rows_of
from avsal.models.encoders import mvitv2
from avsal.models.encoders.mvitv2 import BlockSpec, HeadPool, PooledAttention, under_windows


class Operators(TorchDispatchMode):
    """Names of the operators that run while the mode is on."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("queries", "keys"), [((2, 4, 6), (2, 2, 3)), ((2, 4, 6), (2, 4, 6)), ((1, 2, 3), (2, 4, 6))]
)
def test_folded_positions_equal_an_explicit_bias(
    queries: tuple[int, int, int], keys: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    heads, channels = 2, 8
    query = torch.randn(2, *queries, heads, channels, dtype=torch.float64)
    key, value = torch.randn(2, 2, keys[0] * keys[1] * keys[2], heads, channels).double().unbind()
    time, height, width = (
        rows_of(torch.randn(2 * max(q, k) - 1, channels).double(), q, k)
        for q, k in zip(queries, keys, strict=True)
    )
    folded = attend_decomposed(
        query, key, value, (height, width, time), one_hot_positions(torch.Size(keys), query)
    )
    bias = (
        (
            torch.einsum("bthwnc,tkc->bnthwk", query, time)[..., :, None, None]
            + torch.einsum("bthwnc,hkc->bnthwk", query, height)[..., None, :, None]
            + torch.einsum("bthwnc,wkc->bnthwk", query, width)[..., None, None, :]
        )
        .flatten(5, 7)
        .flatten(2, 4)
    )
    logits = torch.einsum("bqnc,bknc->bnqk", query.flatten(1, 3), key) * channels**-0.5 + bias
    expected = torch.einsum("bnqk,bknc->bqnc", logits.softmax(-1), value)
    torch.testing.assert_close(folded, expected)


def test_rows_are_taken_by_distance() -> None:
    table = torch.arange(7.0)[:, None]
    rows = rows_of(table, 4, 4)[..., 0]
    assert rows.tolist() == [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]
    coarse = rows_of(table, 4, 2)[..., 0]  # keys stand at query positions 0 and 2
    assert coarse.tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]


def test_tables_of_another_size_are_resampled_linearly() -> None:
    table = torch.arange(3.0)[:, None]
    places = (torch.arange(5) + 0.5) * 3 / 5 - 0.5  # half-pixel centres, clamped at the ends
    rows = rows_of(table, 3, 3)[..., 0]
    assert rows[:, 0].tolist() == pytest.approx(places.clamp(0, 2)[2:].tolist())


@pytest.mark.parametrize("stride", [4, 8])
def test_skipping_unread_places_changes_nothing(stride: int) -> None:
    x = torch.randn(1, 2, 16, 24, 192)
    whole, thinned = HeadPool(stride), HeadPool(3)
    thinned.load_state_dict(whole.state_dict())
    read = under_windows(x, stride)
    assert read.shape[2:4] == (3 * 16 // stride - 1, 3 * 24 // stride - 1)
    torch.testing.assert_close(thinned(read), whole(x), atol=1e-5, rtol=1e-4)


def test_tables_are_resampled_once_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(mvitv2, "relative_rows", lambda *a: calls.append(a) or rows_of(*a))
    attention = PooledAttention(BlockSpec(96, 96, 1, 2, 8)).eval()
    small, large = torch.randn(1, 2, 4, 4, 96), torch.randn(1, 2, 8, 8, 96)
    with torch.no_grad():
        for x, total in ((small, 3), (small, 3), (large, 6), (large, 6)):
            attention(x)
            assert len(calls) == total
        before = attention(large)
        attention.rel_pos_h.mul_(-3)
        assert not torch.allclose(attention(large), before)
    assert len(calls) == 9


def test_moved_tables_are_resampled_again() -> None:
    attention = PooledAttention(BlockSpec(96, 96, 1, 2, 8)).eval()
    x = torch.randn(1, 2, 4, 4, 96)
    with torch.no_grad():
        single = attention(x)
        double = attention.double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-5, rtol=1e-4)


def test_pooled_attention_runs_the_fused_kernel_without_a_bias() -> None:
    attention = PooledAttention(BlockSpec(96, 192, 2, 4, 56)).eval()
    with torch.no_grad(), Operators() as operators:
        attention(torch.randn(1, 2, 16, 24, 96))
    assert any("flash_attention" in name for name in operators.names)
    assert not any("softmax" in name for name in operators.names)


def test_self_attention_equals_torch_s_own() -> None:
    torch.manual_seed(0)
    ours = SelfAttention(16, 4, qkv_bias=True)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.proj.state_dict())
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("queries", [7, 1500])
def test_attention_in_bfloat16_is_that_in_float64(queries: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, count, 16) for count in (queries, 50, 50))
    value = value[..., :5]  # fewer channels than query and key
    expected = (query.double() @ key.double().mT / 4).softmax(dim=-1) @ value.double()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = attend(query, key, value)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, rtol=0, atol=0.03)
    with torch.no_grad():
        torch.testing.assert_close(attend(query, key, value), expected.float())


def test_attention_in_bfloat16_can_be_trained() -> None:
    tokens = torch.randn(1, 6, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        SelfAttention(16, 2)(tokens).sum().backward()
    assert tokens.grad is not None and tokens.grad.any()
