"""Results of many recordings as tables: means by database and fold, CSV, JSON and text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from avsal.evaluation.baselines import BASELINES
from avsal.evaluation.protocol import MODEL
from avsal.evaluation.published import published
from avsal.evaluation.saved_scores import RecordingScores
from avsal.evaluation.scoring import METRICS, MethodScores, mean_scores

if TYPE_CHECKING:
    from rich.table import Table

METHODS = (MODEL, *BASELINES)
MISSING = "-"


def fold_means(results: Iterable[RecordingScores]) -> dict[str, dict[str, MethodScores]]:
    """Means over recordings, by database and fold."""
    gathered: dict[str, dict[str, list[MethodScores]]] = {}
    for result in results:
        gathered.setdefault(result.database, {}).setdefault(result.fold, []).append(result.scores)
    return {
        database: {fold: mean_scores(rows) for fold, rows in folds.items()}
        for database, folds in gathered.items()
    }


def as_csv(results: Iterable[RecordingScores], label: str) -> str:
    """One line a recording and method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "fold", "name", "frames", "method", *METRICS])
    for result in results:
        for method in (method for method in METHODS if method in result.scores):
            scores = result.scores[method]
            values = [f"{scores[key]:.6f}" if key in scores else "" for key in METRICS]
            head = [result.database, result.fold, result.name, result.frames]
            writer.writerow([*head, label if method == MODEL else method, *values])
    return text.getvalue()


def summary(
    results: list[RecordingScores], label: str, made_with: dict[str, Any]
) -> dict[str, Any]:
    """All means as JSON values: by database over its folds, and by fold."""
    groups = {}
    for database, folds in fold_means(results).items():
        own = [result for result in results if result.database == database]
        groups[database] = {
            "recordings": len({result.name for result in own}),
            "frames": sum({result.name: result.frames for result in own}.values()),
            "mean": _labelled(mean_scores(folds.values()), label),
            "folds": {fold: _labelled(rows, label) for fold, rows in folds.items() if fold},
            "published": {
                row.name: dict(zip(("cc", "nss"), row.scores[database], strict=True))
                for row in published(database)
            },
        }
    return {"made_with": made_with, "groups": groups}


def _labelled(rows: MethodScores, label: str) -> MethodScores:
    """Rows in the tables' order, the model's under its own name."""
    return {
        label if method == MODEL else method: rows[method] for method in METHODS if method in rows
    }


def tables(summed: dict[str, Any], shown: Callable[[str], str] = str) -> Iterable[Table]:
    """One table a database, for a terminal, from what `summary` gives.

    Args:
        shown: turns names of folders, which may hold anything, into what may be printed.
    """
    from rich import box
    from rich.table import Table

    for database, content in summed["groups"].items():
        folds = ", ".join(content["folds"])
        counts = f"{content['recordings']} recordings, {content['frames']} frames"
        title = f"{shown(database)}: {counts}" + (f", folds {folds}" if folds else "")
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
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
