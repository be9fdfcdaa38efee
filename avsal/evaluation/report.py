"""Results of many recordings as tables: means by database and fold, CSV, JSON and text.

The published scores on the six databases are shown alongside: those of Xie et al. 2024, Table 1, as
far as they are legible or confirmed by a later paper that cites them (arXiv 2606.03540, Tables 17
and 22), and that paper's rows of later networks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from avsal.evaluation.scoring import (
    BASELINES,
    METRICS,
    MODEL,
    MethodScores,
    RecordingScores,
    mean_scores,
)

if TYPE_CHECKING:
    from rich.table import Table

METHODS = (MODEL, *BASELINES)
MISSING = "-"

# (CC, NSS) by network and database; None for an unknown number.
PUBLISHED: dict[str, dict[str, tuple[float, float | None]]] = {
    "S3D 224x384 (paper)": {
        "DIEM": (0.653, 2.62),
        "ETMD_av": (0.601, 3.24),
        "SumMe": (0.482, 2.49),
        "AVAD": (0.697, 3.87),
        "Coutrot_db1": (0.567, 2.76),
        "Coutrot_db2": (0.783, 6.28),
    },
    "MViTv2-S 224x224 (paper)": {
        "DIEM": (0.659, 2.65),
        "ETMD_av": (0.615, 3.27),
        "SumMe": (0.494, 2.55),
        "Coutrot_db1": (0.583, None),
    },
    "MViTv2-S 224x384 (paper)": {
        "DIEM": (0.671, 2.71),
        "ETMD_av": (0.624, 3.35),
        "SumMe": (0.503, 2.61),
        "Coutrot_db1": (0.606, None),
    },
    "TAVDiff (later)": {
        "DIEM": (0.670, 2.75),
        "ETMD_av": (0.613, 3.15),
        "SumMe": (0.500, 2.51),
        "AVAD": (0.729, 4.29),
        "Coutrot_db1": (0.607, 2.85),
        "Coutrot_db2": (0.798, 6.52),
    },
    "AAM (later)": {
        "DIEM": (0.710, 2.88),
        "ETMD_av": (0.655, 3.66),
        "SumMe": (0.550, 2.90),
        "AVAD": (0.712, 4.10),
        "Coutrot_db1": (0.626, 3.22),
        "Coutrot_db2": (0.887, 7.46),
    },
}


def fold_means(results: Iterable[RecordingScores]) -> dict[str, dict[str, MethodScores]]:
    """Means over the recordings of each fold, by database."""
    gathered: dict[str, dict[str, list[MethodScores]]] = {}
    for result in results:
        gathered.setdefault(result.database, {}).setdefault(result.fold, []).append(result.scores)
    return {
        database: {fold: mean_scores(rows) for fold, rows in folds.items()}
        for database, folds in gathered.items()
    }


def csv_head() -> str:
    """The first line of scores.csv."""
    return ",".join(["group", "fold", "name", "frames", "method", *METRICS]) + "\n"


def as_csv(results: Iterable[RecordingScores], label: str) -> str:
    """Contents of scores.csv: one line per recording and method."""
    text = io.StringIO()
    text.write(csv_head())
    writer = csv.writer(text, lineterminator="\n")
    for result in results:
        head = [result.database, result.fold, result.name, result.frames]
        for method in (method for method in METHODS if method in result.scores):
            scores = result.scores[method]
            values = [f"{scores[key]:.6f}" if key in scores else "" for key in METRICS]
            writer.writerow([*head, label if method == MODEL else method, *values])
    return text.getvalue()


def summary(
    results: list[RecordingScores],
    label: str,
    made_with: dict[str, Any],
    readings: Mapping[str, str],
) -> dict[str, Any]:
    """Contents of summary.json: means of each database over its folds, and of each fold.

    Args:
        readings: what was read of a table of gaze, by database.
    """
    groups = {}
    for database, folds in fold_means(results).items():
        # A recording may belong to several folds; it counts once.
        frames = {result.name: result.frames for result in results if result.database == database}
        groups[database] = {
            "recordings": len(frames),
            "frames": sum(frames.values()),
            "gaze": readings.get(database),
            "mean": _labelled(mean_scores(folds.values()), label),
            "folds": {fold: _labelled(rows, label) for fold, rows in folds.items() if fold},
            "published": {
                network: dict(zip(("cc", "nss"), scores[database], strict=True))
                for network, scores in PUBLISHED.items()
                if database in scores
            },
        }
    return {"made_with": made_with, "groups": groups}


def _labelled(rows: MethodScores, label: str) -> MethodScores:
    """Rows in the order of the tables, with the model's name for `MODEL`."""
    return {
        label if method == MODEL else method: rows[method] for method in METHODS if method in rows
    }


def tables(summed: dict[str, Any], shown: Callable[[str], str] = str) -> Iterable[Table]:
    """One table per database, for a terminal.

    Args:
        summed: the result of `summary`.
        shown: makes a file name safe to print.
    """
    from rich import box
    from rich.table import Table

    for database, content in summed["groups"].items():
        folds = ", ".join(content["folds"])
        counts = ", ".join(
            f"{content[key]} {key if content[key] != 1 else key[:-1]}"
            for key in ("recordings", "frames")
        )
        title = f"{shown(database)}: {counts}" + (f", folds {folds}" if folds else "")
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        if content["gaze"]:
            table.caption, table.caption_justify = shown(content["gaze"]), "left"
        table.add_column("")
        for heading in METRICS.values():
            table.add_column(heading, justify="right", no_wrap=True)
        for method, scores in content["mean"].items():
            table.add_row(shown(method), *_cells(scores))
        if content["published"]:
            table.add_section()
        for name, scores in content["published"].items():
            table.add_row(name, *_cells(scores), style="dim")
        yield table


def _cells(scores: dict[str, float | None]) -> list[str]:
    values = [scores.get(key) for key in METRICS]
    return [MISSING if value is None else f"{value:.3f}" for value in values]
