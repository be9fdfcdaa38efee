"""What starts fast, and the names that packages hand on.

The rules on imports themselves are in pyproject.toml, for import-linter.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

HEAVY = {
    *("torch", "av", "cv2", "numpy", "PIL", "onnxruntime", "huggingface_hub", "safetensors"),
    *("scipy", "scenedetect", "pydantic"),
}

IMPORT = "import avsal"
COMMANDS = """
import importlib, pkgutil
import avsal.cli
for module in pkgutil.iter_modules(avsal.cli.__path__):
    importlib.import_module(f"avsal.cli.{module.name}")
"""
HELP = """
import avsal.cli
sys.argv = ["avsal", "--help"]
try:
    avsal.cli.main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("code", [IMPORT, COMMANDS, HELP], ids=["avsal", "commands", "help"])
def test_nothing_heavy_is_loaded_before_it_is_used(code):
    told = f"import sys\n{code}\nprint(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    modules = done.stderr.split()
    assert "avsal" in modules
    assert not HEAVY & set(modules)


@pytest.mark.parametrize("package", ["areas", "crops", "media", "prediction", "weights"])
def test_every_name_that_a_package_hands_on_exists(package):
    module = import_module(f"avsal.{package}")
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    (modules,) = (node for node in ast.walk(tree) if isinstance(node, ast.Dict))
    names = " ".join(ast.literal_eval(modules).values()).split()
    assert names
    for name in names:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", ["", ".areas", ".crops", ".media", ".prediction", ".weights"])
def test_names_that_a_package_hands_on_have_their_types(package):
    """A type checker sees only the imports, a program only the table."""
    tree = ast.parse(Path(import_module(f"avsal{package}").__file__).read_text("utf-8"))
    (modules,) = (node for node in ast.walk(tree) if isinstance(node, ast.Dict))
    table = ast.literal_eval(modules).items()
    handed_on = {
        (f"avsal{package}.{home}", name) for home, names in table for name in names.split()
    }
    conditions = (node for node in tree.body if isinstance(node, ast.If))
    (typed,) = (node for node in conditions if ast.unparse(node.test) == "TYPE_CHECKING")
    assert {(line.module, name.asname) for line in typed.body for name in line.names} == handed_on
