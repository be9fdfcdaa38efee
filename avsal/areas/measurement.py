"""What was measured of a video, and the files that hold it."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avsal import atomic
from avsal.areas.report import Page, area_rows, build_report

SUMMARY, SHARES, REPORT = "summary.json", "shares.csv", "report.html"
_COLUMNS = "time area share part share_per_part share_per_prior seconds".split()

File = str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class Measurement:
    """What share of the predicted gaze falls in each area.

    In a notebook it shows its table.

    Attributes:
        summary: the contents of `summary.json`.
    """

    _page: Page
    summary: dict[str, Any] = field(hash=False)

    @property
    def shares(self) -> list[dict[str, Any]]:
        """One row for each area: means over the time that it exists; see `avsal.areas.summary`."""
        return list(self.summary["areas"])

    @property
    def differences(self) -> list[dict[str, Any]]:
        """One row for each area if two versions were compared; empty otherwise."""
        return list(self.summary.get("compare", {}).get("areas", []))

    def frames(self) -> Iterator[dict[str, Any]]:
        """One row for every frame and each area that exists in it, as in `shares.csv`."""
        series = self._page.series
        for i, (time, duration) in enumerate(zip(series.time, series.duration, strict=True)):
            for place, name in enumerate(series.names):
                share, part, prior = (
                    float(values[i, place]) for values in (series.share, series.part, series.prior)
                )
                if not math.isnan(share):
                    factors = (share / part if part else None, share / prior if prior else None)
                    seconds = None if self._page.still else share * float(duration)
                    row = (float(time), name, share, part, *factors, seconds)
                    yield dict(zip(_COLUMNS, row, strict=True))

    def to_html(self, path: File) -> None:
        """Write the report: one page that loads nothing from elsewhere.

        Raises:
            OutputError: it cannot be written.
        """
        self._write(path, build_report(self._page))

    def to_csv(self, path: File) -> None:
        """Write the rows of `frames`; raises the same errors as `to_html`."""
        with (
            atomic.new_file(Path(path)) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for time, name, *numbers in (row.values() for row in self.frames()):
                shown = ["" if number is None else f"{number:.6g}" for number in numbers]
                writer.writerow([f"{time:.6f}", name, *shown])

    def to_json(self, path: File) -> None:
        """Write `summary`; raises the same errors as `to_html`."""
        text = json.dumps(self.summary, indent=1, ensure_ascii=False, allow_nan=False)
        self._write(path, text)

    def save(self, folder: File) -> None:
        """Write report.html, shares.csv and summary.json to a folder, which appears once complete.

        Raises:
            OutputError: it cannot be written, or something else is there.
        """
        with atomic.new_folder(Path(folder), written_names) as partial:
            self.write(partial)

    def write(self, folder: Path) -> None:
        """Write the three files into an existing folder; see `save`."""
        self.to_csv(folder / SHARES)
        self.to_json(folder / SUMMARY)
        self.to_html(folder / REPORT)

    @staticmethod
    def _write(path: File, text: str) -> None:
        """Write text; what is no UTF-8 in the name of a video becomes an escape."""
        atomic.write_bytes(Path(path), text.encode("utf-8", errors="backslashreplace"))

    def __repr__(self) -> str:
        areas = ", ".join(f"{row['name']} {_percent(row['share'])}" for row in self.shares)
        return f"<Measurement of {self._page.name}: {areas}>"

    def _repr_html_(self) -> str:
        heads, rows = area_rows(self._page)
        cells = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
        head = "".join(f"<th>{word}</th>" for word in heads)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>"


def _percent(share: float | None) -> str:
    return "absent" if share is None else f"{share:.1%}"


def written_names(folder: Path) -> set[str]:
    """Names of the files of the measurement that a folder holds; empty for none."""
    try:
        summary = json.loads((folder / SUMMARY).read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    is_ours = isinstance(summary, dict) and {"measure", "areas", "spread"} <= summary.keys()
    return {SUMMARY, SHARES, REPORT} if is_ours else set()
