"""The measurement of a video, and the files that hold it."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avsal import atomic
from avsal.areas.pictures import Page, Version, thumbnail_name
from avsal.areas.report import build_report
from avsal.areas.summary import area_rows, percent, table
from avsal.errors import path_of
from avsal.results.plan import SUMMARY
from avsal.results.records import plain

SHARES, REPORT = "shares.csv", "report.html"
COMPARED = "compared_shares.csv"  # of the other version
_THUMBNAIL = re.compile(r"thumbnail-shot-\d+\.jpg", re.ASCII)
_COLUMNS = "time area share part share_per_part share_per_prior seconds".split()

File = str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class Measurement:
    """What share of the predicted gaze falls in each area.

    In a notebook it shows its table.

    Attributes:
        summary: all that `summary.json` has.
    """

    _page: Page
    summary: dict[str, Any] = field(hash=False)

    @property
    def shares(self) -> list[dict[str, Any]]:
        """One row for each area: its name and its numbers over the time that it exists.

        They are share, expected_error, part, share_per_part, share_per_prior, share_first_3_s,
        largest_share, largest_share_time, seconds and seconds_present; the page on areas says what
        they mean. None is a number that does not exist, such as those over time of a still image.
        """
        return list(self.summary["areas"])

    @property
    def differences(self) -> list[dict[str, Any]]:
        """One row for each area if two versions were compared; empty otherwise."""
        return list(self.summary.get("compare", {}).get("areas", []))

    def frames(self) -> Iterator[dict[str, Any]]:
        """One row for every frame and each area that exists in it, as in `shares.csv`."""
        return _frames(self._page.first, self._page.still)

    def compared_frames(self) -> Iterator[dict[str, Any]]:
        """The rows of the other version; empty if there is none."""
        second = self._page.second
        return _frames(second, self._page.still) if second else iter(())

    def to_html(self, path: File) -> None:
        """Write the report: one page that loads nothing from elsewhere.

        Raises:
            OutputError: it cannot be written.
        """
        self._write(path, build_report(self._page))

    def to_csv(self, path: File) -> None:
        """Write the rows of `frames`; raises the same errors as `to_html`."""
        _write_rows(path_of("path", path), self.frames())

    def to_json(self, path: File) -> None:
        """Write `summary`; raises the same errors as `to_html`."""
        self._write_json(path, self.summary)

    def save(self, folder: File) -> None:
        """Write report.html, shares.csv, summary.json, thumbnails and, if two versions were
        compared, compared_shares.csv. The folder appears only when it is complete.

        Raises:
            OutputError: it cannot be written, or something else is there.
        """
        with atomic.new_folder(path_of("folder", folder), written_names) as partial:
            self.write(partial)

    def write(
        self,
        folder: Path,
        command: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the files into an existing folder; see `save`.

        Args:
            command: the command line that was given, for the end of the report.
            options: what decides the measurement, see `is_current`; summary.json keeps it.
        """
        self.to_csv(folder / SHARES)
        if self._page.second:
            _write_rows(folder / COMPARED, self.compared_frames())
        made = self.summary["made"] | ({} if options is None else {"options": options})
        self._write_json(folder / SUMMARY, {**self.summary, "made": made})
        for number, jpeg in self._page.thumbnails.items():
            atomic.write_bytes(folder / thumbnail_name(number), jpeg)
        self._write(folder / REPORT, build_report(self._page, command, saved=True))

    def _write_json(self, path: File, summary: dict[str, Any]) -> None:
        text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False, default=plain)
        self._write(path, text)

    @staticmethod
    def _write(path: File, text: str) -> None:
        """Write text; what is not UTF-8 in the name of a video becomes an escape."""
        atomic.write_bytes(path_of("path", path), text.encode("utf-8", errors="backslashreplace"))

    def __repr__(self) -> str:
        areas = ", ".join(f"{row['name']} {percent(row['share'])}" for row in self.shares)
        return f"<Measurement of {self._page.first.name}: {areas}>"

    def _repr_html_(self) -> str:
        first = self._page.first
        return table(*area_rows(first.series, first.model, self._page.still))


def _frames(version: Version, still: bool) -> Iterator[dict[str, Any]]:
    series = version.series
    for i, time in enumerate(series.time):
        for position, name in enumerate(series.names):
            share, part, prior = (
                float(values[i, position]) for values in (series.share, series.part, series.prior)
            )
            if not math.isnan(share):
                factors = (share / part if part else None, share / prior if prior else None)
                seconds = None if still else share * float(series.exists[i, position])
                row = (float(time), name, share, part, *factors, seconds)
                yield dict(zip(_COLUMNS, row, strict=True))


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with (
        atomic.new_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for time, name, *numbers in (row.values() for row in rows):
            shown = ["" if number is None else f"{number:.6g}" for number in numbers]
            writer.writerow([f"{time:.6f}", name, *shown])


def is_current(folder: Path, options: Mapping[str, Any]) -> bool:
    """Whether a folder holds all of the measurement that these options (JSON values) give."""
    names = written_names(folder)
    if not names or not all((folder / name).is_file() for name in names):
        return False
    made = json.loads((folder / SUMMARY).read_bytes()).get("made")
    return isinstance(made, dict) and made.get("options") == options


def written_names(folder: Path) -> set[str]:
    """Names of the files of the measurement that a folder holds; empty for none."""
    try:
        summary = json.loads((folder / SUMMARY).read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    is_ours = isinstance(summary, dict) and {"measure", "areas", "spread"} <= summary.keys()
    if not is_ours:
        return set()
    thumbnails = summary.get("thumbnails")
    names = thumbnails if isinstance(thumbnails, list) else []
    ours = {name for name in names if isinstance(name, str) and _THUMBNAIL.fullmatch(name)}
    return {SUMMARY, SHARES, REPORT, *ours} | ({COMPARED} if "compare" in summary else set())
