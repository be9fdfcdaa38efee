"""`avsal info` and `avsal models`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import typer

from avsal.cli import console

if TYPE_CHECKING:
    from avsal.models.variants import Variant

CAPTION = (
    "M: million parameters, without and with the training heads",
    "MACs: billion multiply-accumulates of one window of 16 frames",
    "paper: Table 6, parameters with heads / multiply-accumulates with normalisations",
)
WIDTH = 100  # columns; the table has the same ones in a pipe and in every terminal


def models() -> None:
    """List the networks with their parts, parameters and multiply-accumulates."""
    from avsal.models.variants import VARIANTS

    rows = [_row(variant) for variant in VARIANTS.values()]
    _print(rows, [f"{known.name}: {known.note}" for known in VARIANTS.values() if known.note])


def _row(variant: Variant) -> list[str]:
    """Cells of a network: name, parts, sizes in millions and billions."""
    from avsal.models.measure import MEASURES, PAPER_TABLE_6

    size = MEASURES[variant.name]
    paper = PAPER_TABLE_6.get(variant.name)
    image = variant.image or "none"
    return [
        variant.name,
        f"{image} map" if variant.image_output == "map" else image,
        variant.fusion if variant.audio else "none",
        f"{size.parameters / 1e6:.1f}",
        f"{size.parameters_with_heads / 1e6:.1f}",
        f"{size.macs / 1e9:.1f}",
        "/".join(map(str, paper)) if paper else "",
    ]


def _print(rows: list[list[str]], notes: list[str]) -> None:
    """Print the table in its own width, whatever the terminal's, with the notes below it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("network", "image", "sound fusion"):
        table.add_column(heading, no_wrap=True)
    for heading in ("M", "M heads", "MACs G", "paper"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    wide = Console(width=WIDTH)
    wide.print(table)
    wide.print()
    for line in (*CAPTION, *notes):
        wide.print(line, highlight=False)


def info(context: typer.Context) -> None:
    """Show versions, the device and precision that auto chooses, folders and weights."""
    import cv2
    import numpy
    import torch
    from rich.table import Column, Table

    from avsal import media, weights
    from avsal.cli.defaults import described
    from avsal.prediction.device import (
        automatic_precision,
        choose_device,
        device_label,
        precision_name,
    )
    from avsal.prediction.model import engine_obstacle
    from avsal.version import __version__

    commands: Any = context.parent and context.parent.command
    device = choose_device("auto")
    precision, why = automatic_precision(device)
    by_pytorch = f"{precision_name(precision)} ({why})"
    obstacle = engine_obstacle("onnx", "auto", "auto")
    rows = {
        "avsal": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "default network": _default_engine(obstacle),
        "resampling": _resampler(),
        "av": media.library_version(),
        "opencv": cv2.__version__,
        "numpy": numpy.__version__,
        "device": f"{device} ({device_label(device)})",
        "precision": by_pytorch if obstacle else f"fp32; where PyTorch computes {by_pytorch}",
        **described(commands),
        "weights cache": str(weights.hub_cache()),
        "imported weights": str(weights.user_folder()),
        "weights present": ", ".join(weights.present()) or "none",
    }
    table = Table("", Column(overflow="fold"), show_header=False, box=None)
    for row in rows.items():
        console.add_row(table, *row)
    console.print_table(table)


def _default_engine(obstacle: str) -> str:
    """What computes the default network where nothing else is asked for.

    Args:
        obstacle: why ONNX Runtime does not.
    """
    from importlib.metadata import version

    from avsal.prediction.model import engine_obstacle

    if obstacle:
        by_default = f"computed by PyTorch, not by ONNX Runtime: {obstacle}"
    else:
        by_default = f"computed by ONNX Runtime {version('onnxruntime')}"
    if obstacle := engine_obstacle("openvino", "auto", "bf16"):
        return f"{by_default}; with --precision bf16 by PyTorch: {obstacle}"
    return f"{by_default}; with --precision bf16 by OpenVINO {version('openvino')}"


def _resampler() -> str:
    """What brings sound to the networks' sample rate beside PyTorch."""
    from avsal.media.resample import torchaudio_module

    audio = torchaudio_module()
    if audio is None:
        return "avsal's own, which gives the same sound (torchaudio does not load here)"
    return f"torchaudio {audio.__version__}"
