"""Imports flow one way, and the command line starts without anything heavy."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "avsal"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_CHAIN = 14  # of imports between files, late ones included
HEAVY = set("torch av cv2 numpy PIL huggingface_hub safetensors scipy scenedetect pydantic".split())

# From the ground up: a part imports parts of earlier rows only. `avsal/__init__.py` stands outside:
# it names what `prediction` has, on first use, and no part may import it.
LAYERS = (
    ("version", "errors", "renamed"),
    ("atomic", "metrics", "pool"),
    ("media", "models"),
    ("preprocess", "shots"),
    ("weights",),
    ("prediction",),
    ("datasets",),
    ("results",),
    ("crops", "areas"),
    ("training",),
    ("evaluation",),
    ("cli",),
    ("__main__",),
)
FLOOR = {part: floor for floor, parts in enumerate(LAYERS) for part in parts}


def part_of(path: Path) -> str:
    """The part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Modules that a file imports, late imports included; `from a import b` as "a" and "a.b"."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def parts_imported(path: Path) -> set[str]:
    """Parts of avsal that a file imports; the package itself counts as "avsal"."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    whole = any(
        isinstance(node, ast.Import) and any(alias.name == "avsal" for alias in node.names)
        for node in ast.walk(tree)
    )
    parts = {module.split(".")[1] for module in imports(path) if module.startswith("avsal.")}
    return parts | ({"avsal"} if whole else set())


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path != PACKAGE / "__init__.py"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_imports_flow_one_way(path):
    here = part_of(path)
    for part in parts_imported(path):
        assert part in FLOOR, f"{part} has no place in LAYERS"
        assert part == here or FLOOR[part] < FLOOR[here], f"{here} imports {part}"


def modules_imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """Files of avsal that a file imports; the package of an imported file does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in (alias.name for alias in node.names):
                inner = f"{node.module}.{name}"
                found.add(inner if inner in modules else node.module)
    return found & modules.keys() - {module_of(path)}


def test_no_cycles_between_files():
    """Names re-exported on first use (under TYPE_CHECKING, or by `__getattr__`) are no imports."""
    modules = {module_of(path): path for path in FILES}
    files = {module for module, path in modules.items() if path.name != "__init__.py"}
    graph = {module: modules_imported(modules[module], modules) & files for module in files}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


def test_chains_of_imports_stay_short():
    """Names come from the file that defines them, and no file hands on what it imported."""
    modules = {module_of(path): path for path in FILES}
    depth: dict[str, int] = {}

    def depth_of(module: str) -> int:
        if module not in depth:
            depth[module] = 0  # a package whose names come on first use may close a circle
            path = modules[module]
            depth[module] = 1 + max(map(depth_of, modules_imported(path, modules)), default=0)
        return depth[module]

    assert max(map(depth_of, modules)) <= LONGEST_CHAIN


def test_only_media_imports_pyav():
    outside = [path for path in FILES if part_of(path) != "media"]
    users = [p.name for p in outside if any(m.split(".")[0] == "av" for m in imports(p))]
    assert users == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda p: p.name)
def test_commands_import_nothing_heavy_at_the_top(path):
    assert not {m.split(".")[0] for m in imports(path, top_level=True)} & HEAVY


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines that the text for users takes; a function of many options has many."""
    first = node.body[0]
    return first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0


def test_functions_and_files_stay_readable():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 450, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1 - docstring_lines(node)
                assert length <= 60, f"{path.name}: {node.name} has {length} lines"
