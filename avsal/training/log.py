"""What a run tells: CSV files, optionally TensorBoard, and a picture of the curves."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path
from typing import Any

from avsal.errors import UsageError

logger = logging.getLogger("avsal")

STEPS, EPOCHS, CURVES = "steps.csv", "epochs.csv", "curves.png"
Row = dict[str, float]


class CsvLog:
    """A CSV file with a column "step" that a resumed run continues."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        """Open the file, without the rows after `step`: the run will write them again."""
        self.path = path
        self._columns = columns
        kept = [row for row in read_rows(path) if row["step"] <= step]
        aside = path.with_name(f".partial-{path.name}")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({key: _text(row.get(key)) for key in columns} for row in kept)
        aside.replace(path)

    def write(self, row: Row) -> None:
        """Append one row."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            values = {key: _text(row.get(key)) for key in self._columns}
            csv.DictWriter(file, self._columns).writerow(values)


def _text(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(int(value)) if value == int(value) else repr(float(value))


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV log; cells without a value are left out. None where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: float(value) for key, value in row.items() if key and value}
            for row in csv.DictReader(file)
            if row.get("step")
        ]


class Events:
    """TensorBoard's event files, or nothing."""

    def __init__(self, folder: Path, wanted: bool, step: int) -> None:
        """Open the event files of a run that stands at `step`.

        Raises:
            UsageError: TensorBoard is wanted and not installed.
        """
        self._writer: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UsageError(
                    'run.tensorboard needs TensorBoard: pip install "avsal[train]"'
                ) from None
            self._writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def write(self, group: str, row: Row) -> None:
        """Add the values of a row at its step."""
        if self._writer is not None:
            for key, value in row.items():
                if key != "step" and not math.isnan(value):
                    self._writer.add_scalar(f"{group}/{key}", value, int(row["step"]))

    def close(self) -> None:
        """Write out what is pending."""
        if self._writer is not None:
            self._writer.close()


def draw_curves(folder: Path) -> None:
    """Draw the loss and the validation scores of a run's CSV files into curves.png."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning('no curves.png: matplotlib is missing; pip install "avsal[train]"')
        return
    steps, epochs = read_rows(folder / STEPS), read_rows(folder / EPOCHS)
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw(left, steps, ("loss",), alpha=0.3)
    _draw(left, epochs, ("loss", "kl"), marker=".")
    _draw(right, epochs, ("val_cc", "val_sim", "val_nss", "val_auc_judd"), marker=".")
    left.set(title="training", xlabel="optimiser step")
    right.set(title="validation", xlabel="optimiser step")
    for axes in (left, right):
        if axes.lines:
            axes.legend()
    aside = folder / f".partial-{CURVES}"
    figure.savefig(aside, format="png", dpi=100)
    aside.replace(folder / CURVES)


def _draw(axes: Any, rows: list[Row], keys: tuple[str, ...], **style: Any) -> None:
    for key in keys:
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            label = f"{key} (steps)" if "alpha" in style else key
            axes.plot(*zip(*points, strict=True), label=label, **style)
