"""`avsal info`: versions, device and folders, and what auto would choose."""

from __future__ import annotations

import platform
from typing import Any

import typer


def info(context: typer.Context) -> None:
    """Show versions, the device and precision that auto chooses, folders and weights."""
    import cv2
    import numpy
    import torch
    from rich.console import Console
    from rich.table import Table

    from avsal import media, weights
    from avsal.cli.defaults import described
    from avsal.prediction.device import (
        automatic_precision,
        choose_device,
        device_label,
        precision_name,
    )
    from avsal.version import __version__

    commands: Any = context.parent and context.parent.command
    device = choose_device("auto")
    precision, why = automatic_precision(device)
    rows = {
        "avsal": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "default network": _default_engine(),
        "resampling": _resampler(),
        "av": media.library_version(),
        "opencv": cv2.__version__,
        "numpy": numpy.__version__,
        "device": f"{device} ({device_label(device)})",
        "precision": f"{precision_name(precision)} ({why})",
        **described(commands),
        "weights cache": str(weights.hub_cache()),
        "imported weights": str(weights.user_folder()),
        "weights present": ", ".join(weights.present()) or "none",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(soft_wrap=True).print(table)


def _default_engine() -> str:
    """What computes the default network where nothing else is asked for."""
    from importlib.metadata import version

    from avsal.prediction.model import onnx_obstacle

    obstacle = onnx_obstacle("auto", "auto")
    if obstacle:
        return f"computed by PyTorch, not by ONNX Runtime: {obstacle}"
    return f"computed by ONNX Runtime {version('onnxruntime')}"


def _resampler() -> str:
    """What brings sound to the networks' sample rate beside PyTorch."""
    from avsal.media.resample import torchaudio_module

    audio = torchaudio_module()
    if audio is None:
        return "avsal's own, which gives the same sound (torchaudio does not load here)"
    return f"torchaudio {audio.__version__}"
