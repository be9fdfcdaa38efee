"""Compares a network with the golden numbers of a variant; used by the tests of all encoders."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from avsal.models import build
from avsal.models.network import SaliencyNetwork

PARITY = Path(__file__).parent / "parity"
VARIANT_NAMES = sorted(path.stem for path in (PARITY / "keys").glob("*.tsv"))


def _load_fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_fill", PARITY / "fill.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill = _load_fill()


def golden_keys(variant: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of every entry of a variant's state_dict, in order."""
    rows = []
    for line in (PARITY / "keys" / f"{variant}.tsv").read_text().splitlines():
        name, dtype, shape = line.split("\t")
        size = () if shape == "scalar" else tuple(int(n) for n in shape.split("x"))
        rows.append((name, dtype, size))
    return rows


def state_keys(model: torch.nn.Module) -> list[tuple[str, str, tuple[int, ...]]]:
    """The same three facts of a network's own state_dict."""
    return [
        (name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    ]


def filled(variant: str, heads: bool = False, seed: int = 0, **changes: Any) -> SaliencyNetwork:
    """A network in eval mode with the deterministic weights of `fill.py`."""
    model = build(variant, heads=heads, **changes).eval()
    fill.fill(model.state_dict(), seed)
    return model


def inputs(variant: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Golden clip (1, 3, 16, H, W) and spectrogram (1, 1, 257, 111)."""
    clip, spectrogram = fill.inputs(variant, 0)
    return torch.from_numpy(clip), torch.from_numpy(spectrogram)


def golden(variant: str) -> Any:
    """The variant's golden arrays."""
    return np.load(PARITY / "golden" / f"{variant}.npz")


def tolerance(variant: str) -> dict[str, float]:
    """log_density_max_abs, va_loss_abs and taps_max_abs_over_std."""
    limits: dict[str, float] = json.loads((PARITY / "tolerances.json").read_text())[variant][
        "tolerance"
    ]
    return limits


@contextmanager
def recorded_taps(model: SaliencyNetwork) -> Iterator[dict[str, torch.Tensor]]:
    """Collect, while the context lasts, the intermediate tensors that the goldens name."""
    taps: dict[str, torch.Tensor] = {}

    def keep(*names: str) -> Any:
        def hook(_module: torch.nn.Module, _args: Any, output: Any) -> None:
            values = (output,) if isinstance(output, torch.Tensor) else output
            taps.update(zip(names, values, strict=False))

        return hook

    def keep_scales(_module: torch.nn.Module, args: Any) -> None:
        taps.update(zip(("s0", "s1", "s2", "s3"), args[0], strict=True))

    hooks = {
        "audnet": ("audio_features",),
        "image_encoder": ("image_o1", "image_o0"),
        "adapter": ("masks",),
        "visnet": ("v1", "v2", "v3", "v4"),
        "aud_vis_sync_block": ("vis_sync",),
        "aud_vis_sync_block.blocks": ("sync_tokens",),
        "vis_projector": ("vis_embedding",),
        "aud_projector": ("aud_embedding",),
        "readout": ("readout_out",),
    }
    modules = dict(model.named_modules())
    handles = [
        modules[path].register_forward_hook(keep(*names))
        for path, names in hooks.items()
        if path in modules
    ]
    handles.append(model.readout.register_forward_pre_hook(keep_scales))
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def tap_names(variant: str) -> list[str]:
    """Names of the taps in a golden file."""
    return [name.removesuffix(".index") for name in golden(variant).files if name.endswith("index")]


def tap_error(variant: str, name: str, value: torch.Tensor) -> float:
    """Largest deviation of a tap's sampled values, mean, std and norm, over the golden std.

    The shape has to be the golden one.
    """
    arrays = golden(variant)
    assert tuple(value.shape) == tuple(arrays[f"{name}.shape"]), name
    flat = value.detach().double().contiguous().flatten()
    mean, std, norm = (float(x) for x in arrays[f"{name}.stats"])
    sampled = flat[torch.from_numpy(arrays[f"{name}.index"])].numpy()
    deviations = (
        np.abs(sampled - arrays[f"{name}.values"]).max(),
        abs(flat.mean().item() - mean),
        abs(flat.std(correction=0).item() - std),
        abs(flat.norm().item() - norm) / flat.numel() ** 0.5,
    )
    return float(max(deviations)) / std


def assert_parity(model: SaliencyNetwork, variant: str) -> dict[str, float]:
    """Check output and every tap of a filled network; return the errors by name.

    The audio-visual loss and its embeddings are checked where the network has heads.
    """
    clip, spectrogram = inputs(variant)
    arrays, limits = golden(variant), tolerance(variant)
    with_heads = hasattr(model, "vis_projector")
    errors = {}
    with torch.inference_mode(), recorded_taps(model) as taps:
        if with_heads:
            log_density, loss = model.forward_with_alignment(clip, spectrogram)
            errors["va_loss"] = abs(loss.item() - float(arrays["va_loss"]))
            assert errors["va_loss"] <= limits["va_loss_abs"]
        else:
            log_density = model(clip, spectrogram)
    errors["log_density"] = float(np.abs(log_density.numpy() - arrays["log_density"]).max())
    assert errors["log_density"] <= limits["log_density_max_abs"]
    expected = [n for n in tap_names(variant) if with_heads or not n.endswith("embedding")]
    for name in expected:
        errors[name] = tap_error(variant, name, taps[name])
        assert errors[name] <= limits["taps_max_abs_over_std"], name
    return errors
