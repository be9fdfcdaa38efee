"""Imports flow one way, and the command line starts without anything heavy."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "avsal"
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "av", "cv2", "numpy", "PIL", "huggingface_hub", "safetensors", "scipy"}

# What a part must not import, directly: the ones that stand above it.
FORBIDDEN = {
    "models": {"cli", "pipeline", "media", "weights", "jobs", "outputs", "training", "evaluation"},
    "media": {"cli", "pipeline", "models", "weights", "jobs", "outputs", "training", "evaluation"},
    "weights": {"cli", "pipeline", "media", "jobs", "outputs", "training", "evaluation"},
    "datasets": {"cli", "pipeline", "models", "weights", "jobs", "training", "evaluation"},
    "evaluation": {"cli", "training"},
    "training": {"cli"},
    "pipeline.py": {"cli", "jobs", "overlay", "outputs", "training", "evaluation"},
    "inference.py": {"cli", "pipeline", "media", "weights", "jobs", "outputs"},
    "inputs.py": {"cli", "pipeline", "media", "models", "weights", "jobs", "outputs"},
    "windows.py": {"cli", "pipeline", "media", "models", "weights", "jobs", "outputs"},
    "outputs.py": {"cli", "pipeline", "models", "weights", "jobs"},
}


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Modules that a file imports, `from a import b` as "a" and "a.b"."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_only_media_imports_pyav():
    outside = [path for path in FILES if "media" not in path.relative_to(PACKAGE).parts]
    users = [p.name for p in outside if any(m.split(".")[0] == "av" for m in imports(p))]
    assert users == []


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_flow_one_way(part):
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] != part:
            continue
        above = {f"avsal.{name}" for name in FORBIDDEN[part]}
        found = {m for m in imports(path) if any(m == a or m.startswith(f"{a}.") for a in above)}
        assert not found, f"{path.relative_to(PACKAGE)} imports {sorted(found)}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda p: p.name)
def test_commands_import_nothing_heavy_at_the_top(path):
    assert not {m.split(".")[0] for m in imports(path, top_level=True)} & HEAVY


def test_functions_and_files_stay_readable():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 420, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= 60, f"{path.name}: {node.name} has {length} lines"
