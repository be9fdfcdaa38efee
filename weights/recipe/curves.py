"""Plot the training curves of a run on cached features, and the scores on held-out data.

python weights/recipe/curves.py runs/small/seen-validation/log.jsonl -o runs/small/curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

SMOOTHED = 20  # number of steps averaged for a point of the loss curve


def main() -> None:
    """Draw the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("log", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.log.read_text().splitlines()]
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss, *scores = figure.subplots(1, 3)
    losses = np.convolve([row["loss"] for row in rows], np.full(SMOOTHED, 1 / SMOOTHED), "valid")
    loss.plot([row["step"] for row in rows][SMOOTHED - 1 :], losses)
    loss.set(title=f"training loss, mean of {SMOOTHED} steps", xlabel="step")
    scored = [row for row in rows if "scores" in row]
    for number, (axes, name) in enumerate(zip(scores, ("NSS", "CC"), strict=True)):
        for kind in scored[0]["scores"]:
            values = [row["scores"][kind][number] for row in scored]
            axes.plot([row["step"] for row in scored], values, marker=".", label=kind)
        axes.set(title=f"{name} of what is held out", xlabel="step")
        axes.legend()
    for axes in (loss, *scores):
        axes.grid(alpha=0.3)
    figure.savefig(given.output, format="png", dpi=90)


if __name__ == "__main__":
    main()
