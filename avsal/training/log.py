"""What a run tells while it trains: rows of numbers, one per step and one per epoch.

CSV files are always written: they need no library, anything can draw them, and a run that resumes
cuts them back to its checkpoint. TensorBoard gets the same rows where run.tensorboard asks for it.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from avsal.atomic import new_file, write_errors
from avsal.errors import UsageError

STEPS, EPOCHS = "steps.csv", "epochs.csv"
Row = dict[str, float]


class CsvLog:
    """A CSV file with a column "step" that a resumed run continues."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        """Open the file, without the rows after `step`: the run will write them again.

        Raises:
            OutputError: it cannot be written.
        """
        self.path = path
        self._columns = columns
        kept = [row for row in read_rows(path) if row["step"] <= step]
        with new_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({key: _text(row.get(key)) for key in columns} for row in kept)

    def write(self, row: Row) -> None:
        """Append one row; raises OutputError."""
        with write_errors(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            values = {key: _text(row.get(key)) for key in self._columns}
            csv.DictWriter(file, self._columns).writerow(values)


def holds_a_run(folder: Path) -> bool:
    """Whether a run has written its log into a folder."""
    try:
        with (folder / STEPS).open(encoding="utf-8") as file:
            return file.readline(200).startswith("step,epoch,learning_rate,")
    except (OSError, ValueError):
        return False


def _text(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(int(value)) if value == int(value) else repr(float(value))


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV log, none where there is no file; cells without a value are omitted."""
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
                    'run.tensorboard: TensorBoard is missing; pip install "avsal[train]"'
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
