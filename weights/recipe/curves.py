"""Training curves of several stages in one small figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avsal.training.log import EPOCHS, STEPS, Row, read_rows

STAGES = ("image", "image-tune", "sound", "whole")
COLOURS = ("tab:blue", "tab:purple", "tab:orange", "tab:green")
SMOOTHED = 25  # optimiser steps that a point of the loss curve is the mean of


def draw_curves(runs: Path, out: Path) -> None:
    """Loss and validation scores of all stages, one after the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss, *scores = figure.subplots(1, 3)
    first = {STEPS: 0.0, EPOCHS: 0.0}
    for stage, colour in zip(STAGES, COLOURS, strict=True):
        steps, epochs = (read_rows(runs / stage / name) for name in (STEPS, EPOCHS))
        if not steps:
            continue
        _draw_loss(loss, steps, first[STEPS], label=stage, color=colour)
        for axes, key in zip(scores, ("val_cc", "val_nss"), strict=True):
            points = [(first[EPOCHS] + row["epoch"], row[key]) for row in epochs if key in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=stage, color=colour)
        first[STEPS] += steps[-1]["step"]
        first[EPOCHS] += epochs[-1]["epoch"] if epochs else 0
    loss.set(title=f"training loss, mean of {SMOOTHED} steps", xlabel="optimiser step")
    for axes, name in zip(scores, ("CC", "NSS"), strict=True):
        axes.set(title=f"{name}, validation stills", xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in (loss, *scores):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(out, format="png", dpi=100)


def _draw_loss(axes: Any, rows: list[Row], first: float, **style: Any) -> None:
    steps, losses = (np.array([row[key] for row in rows]) for key in ("step", "loss"))
    width = min(SMOOTHED, len(losses))
    smooth = np.convolve(losses, np.full(width, 1 / width), mode="valid")
    axes.plot(first + steps[width - 1 :], smooth, **style)
