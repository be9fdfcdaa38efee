"""Scripts beside the package: what they take from it exists."""

from __future__ import annotations

import ast
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    path
    for folder in ("weights/recipe", "benchmarks", "examples")
    for path in sorted((ROOT / folder).glob("*.py"))
]


def wanted(path: Path) -> list[tuple[str, str]]:
    """Modules of the package and the names that a script imports from them."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "avsal"
        for alias in node.names
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_import_names_that_exist(path):
    for module, name in wanted(path):
        exists = hasattr(import_module(module), name) or find_spec(f"{module}.{name}")
        assert exists, f"{module} has no {name}"


def test_boxes_that_a_prior_does_not_tell_apart_have_a_dash(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    areas = import_module("areas")
    prior = areas.on_grid(areas.centre_prior(areas.FINE))
    first, second = np.random.default_rng(1).random((2, 30, 2)) * 0.7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        areas.report([(prior[:, ::-1] ** 2, first, second)], prior, 2)
    row = next(line for line in capsys.readouterr().out.splitlines() if "centre prior" in line)
    assert "above even -, below 0." in row
    assert row.endswith("rank correlation -")
