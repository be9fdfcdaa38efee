"""Sizes of the networks: parameters, multiply-accumulates, and the command that lists them."""

from __future__ import annotations

import json

import pytest
import torch
from parity_check import PARITY, VARIANT_NAMES
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from avsal.models import VARIANTS, build
from avsal.models.measure import MEASURES, PAPER_TABLE_6, Measure
from avsal.models.network import SPECTROGRAM

PARAMETERS = json.loads((PARITY / "param_counts.json").read_text())
REFERENCE = json.loads((PARITY / "macs_and_timing.json").read_text())["macs"]
SIX = [name for name in VARIANT_NAMES if not name.startswith("mvitv2s")]
QUICK = ("s3d-224x224", "small-224x384")  # counting takes more than a second a network
SLOW = pytest.mark.slow


def count(name: str) -> Measure:
    """Count on the meta device, which takes no memory and computes nothing."""
    variant = VARIANTS[name]
    with torch.device("meta"), torch.no_grad():
        network = build(variant).eval()
        clip = torch.empty(1, 3, network.frames, variant.height, variant.width)
        with FlopCounterMode(display=False) as counter:
            network(clip, torch.empty(1, 1, *SPECTROGRAM))
        heads = build(variant, heads=True)
    parameters = [sum(each.numel() for each in made.parameters()) for made in (network, heads)]
    return Measure(*parameters, counter.get_total_flops() // 2)


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[] if each in QUICK else SLOW) for each in VARIANTS]
)
def test_the_table_is_what_is_counted(name: str) -> None:
    assert MEASURES[name] == count(name)


def readout_saving(height: int, width: int) -> float:
    """Multiply-accumulates, in billions, that the readout saves by its order of operations."""
    finest = 4 * (height // 4) * (width // 4)  # four time steps at stride 4
    mixing = 192 * 192 * finest * (3 - 1 / 4 - 1 / 16 - 1 / 64)
    joining = 64 * 4 * 32 * (1 - 1 / 16) * height * width
    return (mixing + joining) / 1e9


@pytest.mark.parametrize("name", VARIANT_NAMES)
def test_parameters_are_the_published_ones(name: str) -> None:
    size, expected = MEASURES[name], PARAMETERS[name]
    assert size.parameters == expected["parameters_without_training_heads"]
    assert size.parameters_with_heads == expected["parameters"]


@pytest.mark.parametrize("name", SIX)
def test_multiply_accumulates_differ_from_the_reference_as_explained(name: str) -> None:
    variant, reference = VARIANTS[name], REFERENCE[name]
    operators, parts = reference["operators_G"], reference["parts_G"]
    heads = sum(parts[part] for part in ("vis_projector", "aud_projector", "mlp_vis", "mlp_aud"))
    norms = operators["layer_norm"] + operators["batch_norm"]
    explained = heads + norms + readout_saving(*variant.size)
    macs = MEASURES[name].macs / 1e9
    assert macs == pytest.approx(reference["total_G"] - explained, abs=0.02)


@pytest.mark.parametrize("name", ["mvitv2s-224x224", "mvitv2s-224x384"])
def test_mvitv2_counts_its_position_bias_within_attention(name: str) -> None:
    variant, reference = VARIANTS[name], REFERENCE[name]
    explained = readout_saving(*variant.size)
    more = MEASURES[name].macs / 1e9 + explained - reference["total_G"]
    assert 0 < more < 0.06 * reference["total_G"]


@pytest.mark.parametrize("name", PAPER_TABLE_6)
def test_table_6_is_met(name: str) -> None:
    parameters, macs = PAPER_TABLE_6[name]
    size = MEASURES[name]
    assert round(size.parameters_with_heads / 1e6) == parameters
    assert size.macs / 1e9 == pytest.approx(macs, abs=3)


def test_frozen_encoders_have_the_papers_size() -> None:
    with torch.device("meta"):
        network = build("s3d-224x224")
    frozen = (*network.audnet.parameters(), *network.image_encoder.parameters())
    assert round(sum(parameter.numel() for parameter in frozen) / 1e6, 2) == 41.53


def test_parts_that_are_left_out_do_not_count() -> None:
    base, v1, v2 = (MEASURES[f"{name}-s3d-224x224"] for name in ("base", "v1", "v2"))
    assert base.parameters == base.parameters_with_heads < v2.parameters < v1.parameters
    assert base.macs < v1.macs < v2.macs


def test_the_command_lists_every_network_in_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    from avsal.cli import app

    monkeypatch.setenv("COLUMNS", "60")
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    cells = {line.split()[0]: line.split()[1:] for line in lines if line.split()}
    assert cells["s3d-224x224"] == ["convnext_t", "avfb", "64.5", "87.6", "120.2", "88/122"]
    assert cells["base-s3d-224x224"][:2] == ["none", "none"]
    for name, variant in VARIANTS.items():
        assert name in cells
        assert (f"{name}: {variant.note}" in lines) == bool(variant.note)
