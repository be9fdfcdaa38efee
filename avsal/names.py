"""Names that a package hands on before their modules are imported, and names of version 0.2."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def names_from(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    Args:
        package: its `__name__`.
        modules: by module, relative to the package, the names that it defines, with blanks between.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str) -> Any:
        if name in homes:
            return getattr(import_module(f"{package}.{homes[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


RENAMED = {
    "avsal.reframe": "avsal.crops",
    "avsal.measure": "avsal.areas",
    "avsal.shots": "avsal.prediction.shots",
}
FUNCTIONS = {"reframe": "avsal.crops.api", "measure": "avsal.areas.api"}


def function(name: str) -> Any:
    """The function of `avsal` that has a renamed package's name."""
    return getattr(import_module(FUNCTIONS[name]), name)


class _StandIn(ModuleType):
    """A renamed package, and the function of its name.

    An import of an old name binds it to the function's name in `avsal`, so it has the new package's
    names and can be called like the function.
    """

    def __getattr__(self, name: str) -> Any:
        own = self.__name__.rpartition(".")[2]
        if name == "__wrapped__" and own in FUNCTIONS:  # `inspect.signature` shows the function's
            return function(own)
        if name.startswith("__") and name != "__all__":  # above all the new package's `__path__`
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(import_module(RENAMED[self.__name__]), name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return function(self.__name__.rpartition(".")[2])(*arguments, **named)


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if spec.name in RENAMED:
            return _StandIn(spec.name)
        package = next(old for old in RENAMED if spec.name.startswith(f"{old}."))
        module = import_module(RENAMED[package] + spec.name.removeprefix(package))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give a module of the new package back its own description."""
        if not isinstance(module, _StandIn) and module.__spec__:
            module.__spec__ = module.__spec__.loader_state


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = ".".join(name.split(".")[:2])
        if package not in RENAMED:
            return None
        new = RENAMED[package] + name.removeprefix(package)
        if name == package:
            warnings.warn(
                f"{name} has moved; import from {new}, as the old name will go",
                DeprecationWarning,
                stacklevel=2,
            )
        return ModuleSpec(name, _Loader(), is_package=name == package)


def install() -> None:
    """Let the import system know the old names.

    The finder comes first, as an old folder that only holds compiled files is a package too.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
