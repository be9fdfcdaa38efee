"""Results of many recordings as tables: means by database and fold, CSV, JSON and text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from avsal.evaluation.baselines import BASELINES
from avsal.evaluation.paper import published
from avsal.evaluation.protocol import MODEL
from avsal.evaluation.saved_scores import Result
from avsal.evaluation.scores import METRICS, Scores, mean_scores

if TYPE_CHECKING:
    from rich.table import Table

METHODS = (MODEL, *BASELINES)
MISSING = "-"

ByMethod = dict[str, Scores]


def mean_by_method(each: Iterable[ByMethod]) -> ByMethod:
    """Mean of every method's metrics, methods in the tables' order."""
    rows = list(each)
    return {
        method: mean_scores(row[method] for row in rows if method in row)
        for method in METHODS
        if any(method in row for row in rows)
    }


def group_means(results: Iterable[Result]) -> dict[str, dict[str, ByMethod]]:
    """Means over a group's recordings, by group and fold."""
    gathered: dict[str, dict[str, list[ByMethod]]] = {}
    for result in results:
        gathered.setdefault(result.group, {}).setdefault(result.fold, []).append(result.scores)
    return {
        group: {fold: mean_by_method(rows) for fold, rows in folds.items()}
        for group, folds in gathered.items()
    }


def as_csv(results: Iterable[Result], label: str) -> str:
    """One line a recording and method."""
    text = io.StringIO()
    keys = [metric.key for metric in METRICS]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "fold", "name", "frames", "method", *keys])
    for result in results:
        for method in (method for method in METHODS if method in result.scores):
            scores = result.scores[method]
            values = [f"{scores[key]:.6f}" if key in scores else "" for key in keys]
            head = [result.group, result.fold, result.name, result.frames]
            writer.writerow([*head, label if method == MODEL else method, *values])
    return text.getvalue()


def summary(results: list[Result], label: str, made_with: dict[str, Any]) -> dict[str, Any]:
    """All means as JSON values: by group over its folds, and by fold."""
    groups = {}
    for group, folds in group_means(results).items():
        mine = [result for result in results if result.group == group]
        groups[group] = {
            "recordings": len({result.name for result in mine}),
            "frames": sum({result.name: result.frames for result in mine}.values()),
            "mean": _labelled(mean_by_method(folds.values()), label),
            "folds": {fold: _labelled(rows, label) for fold, rows in folds.items() if fold},
            "published": {
                row.name: dict(zip(("cc", "nss"), row.scores[group], strict=True))
                for row in published(group)
            },
        }
    return {"made_with": made_with, "groups": groups}


def _labelled(rows: ByMethod, label: str) -> ByMethod:
    return {label if method == MODEL else method: scores for method, scores in rows.items()}


def tables(summed: dict[str, Any]) -> Iterable[Table]:
    """One table a group, for a terminal, from what `summary` gives."""
    from rich import box
    from rich.table import Table

    for group, content in summed["groups"].items():
        folds = ", ".join(content["folds"])
        counts = f"{content['recordings']} recordings, {content['frames']} frames"
        title = f"{group}: {counts}" + (f", folds {folds}" if folds else "")
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("")
        for metric in METRICS:
            table.add_column(metric.heading, justify="right", no_wrap=True)
        for method, scores in content["mean"].items():
            table.add_row(method, *_cells(scores))
        if content["published"]:
            table.add_section()
        for name, scores in content["published"].items():
            table.add_row(name, *_cells(scores), style="dim")
        yield table


def _cells(scores: dict[str, float | None]) -> list[str]:
    values = [scores.get(metric.key) for metric in METRICS]
    return [MISSING if value is None else f"{value:.3f}" for value in values]
