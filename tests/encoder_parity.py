"""Checks of a motion encoder against the recorded reference: weight names and feature taps."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

PARITY = Path(__file__).parent / "parity"
PREFIX = "visnet."
TAPS = ("v1", "v2", "v3", "v4")

_spec = importlib.util.spec_from_file_location("parity_fill", PARITY / "fill.py")
assert _spec is not None and _spec.loader is not None
fill = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill)


def recorded_keys(variant: str) -> list[tuple[str, str, str]]:
    """Name without prefix, dtype and shape of every entry of the recorded motion encoder."""
    lines = (PARITY / "keys" / f"{variant}.tsv").read_text().splitlines()
    rows = [tuple(line.split("\t")) for line in lines if line.startswith(PREFIX)]
    return [(name.removeprefix(PREFIX), dtype, shape) for name, dtype, shape in rows]


def keys(encoder: nn.Module) -> list[tuple[str, str, str]]:
    """The same three columns of an encoder, in the order of its state_dict."""
    rows = []
    for name, tensor in encoder.state_dict().items():
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        rows.append((name, str(tensor.dtype).removeprefix("torch."), shape))
    return rows


def fill_encoder(encoder: nn.Module) -> None:
    """Give the encoder the recorded weights, which depend on the prefixed names."""
    fill.fill({PREFIX + name: value for name, value in encoder.state_dict().items()}, 0)


def tap_errors(encoder: nn.Module, variant: str) -> dict[str, float]:
    """Run the recorded input through a filled encoder.

    Returns for each tap the largest difference of its samples from the recorded ones, divided by
    the recorded standard deviation. A shape or an L2 norm that differs is an AssertionError.
    """
    golden = np.load(PARITY / "golden" / f"{variant}.npz")
    clip = torch.from_numpy(fill.inputs(variant, 0)[0])
    with torch.inference_mode():
        taps = encoder.eval()(clip)
    errors = {}
    for name, tap in zip(TAPS, taps, strict=True):
        assert list(tap.shape) == golden[f"{name}.shape"].tolist(), name
        values = tap.flatten().numpy()
        _, std, norm = golden[f"{name}.stats"]
        np.testing.assert_allclose(np.linalg.norm(values.astype(np.float64)), norm, rtol=1e-5)
        samples = values[golden[f"{name}.index"]]
        errors[name] = float(np.abs(samples - golden[f"{name}.values"]).max() / std)
    return errors


def tap_tolerance(variant: str) -> float:
    """Largest accepted tap error, relative to the standard deviation."""
    table = json.loads((PARITY / "tolerances.json").read_text())
    return float(table[variant]["tolerance"]["taps_max_abs_over_std"])
