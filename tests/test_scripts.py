"""Scripts beside the package: what they take from it exists."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

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
