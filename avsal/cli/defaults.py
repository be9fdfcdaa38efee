"""Defaults that a person keeps in `avsal.toml`, in the working folder or a folder for settings.

    device = "cpu"          # for every command that has this option
    [overlay]
    colormap = "viridis"    # for this command only

Options given on the command line come first, then the environment (AVSAL_MODEL, ...), then the file
in the working folder, then the user's.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from avsal.errors import UsageError, nearest

NAME = "avsal.toml"

Defaults = dict[str, dict[str, Any]]  # by command and parameter, as click's default_map


def places() -> list[Path]:
    """Where settings files may be; what later ones say comes first."""
    return [Path(typer.get_app_dir("avsal")) / NAME, Path(NAME).absolute()]


def read_defaults(group: Any) -> Defaults:
    """The defaults of every command.

    Args:
        group: the click group of the commands.

    Raises:
        UsageError: a file cannot be read, or names what no command has.
    """
    defaults: Defaults = {name: {} for name in _commands(group)}
    for path in filter(Path.is_file, places()):
        for command, key, value in _entries(path):
            if command is not None and command not in defaults:
                hint = nearest(command, defaults)
                raise UsageError(f"{path}: there is no command {command}{hint}")
            chosen = [command] if command is not None else list(defaults)
            options = {name: _options(group, name) for name in chosen}
            having = [name for name in chosen if key in options[name]]
            if not having:
                known = {word for words in options.values() for word in words}
                where = f"{command} has" if command is not None else "commands have"
                raise UsageError(f"{path}: {where} no option {key}{nearest(key, known)}")
            for name in having:
                defaults[name][options[name][key].name] = _checked(path, key, value)
    return defaults


def described(group: Any) -> dict[str, str]:
    """What `avsal info` shows: the files that exist, and the variables that are set."""
    files = [str(path) for path in places() if path.is_file()]
    entries = [
        f"{key} = {value!r}" if command is None else f"{command}: {key} = {value!r}"
        for path in filter(Path.is_file, places())
        for command, key, value in _entries(path)
    ]
    variables = {
        parameter.envvar
        for name in _commands(group)
        for parameter in _options(group, name).values()
        if isinstance(parameter.envvar, str)
    }
    entries += [f"{name}={os.environ[name]}" for name in sorted(variables & os.environ.keys())]
    return {
        "settings files": ", ".join(files) or f"none; may be {' or '.join(map(str, places()))}",
        "defaults changed": ", ".join(entries) or "none",
    }


def _commands(group: Any) -> list[str]:
    """Names of the commands that have no commands of their own."""
    return [name for name, command in group.commands.items() if not hasattr(command, "commands")]


def _options(group: Any, name: str) -> dict[str, Any]:
    """The options of a command by their long names without dashes."""
    return {
        text.lstrip("-"): parameter
        for parameter in group.commands[name].params
        for text in parameter.opts
        if text.startswith("--") and text != "--help"
    }


def _entries(path: Path) -> Iterator[tuple[str | None, str, Any]]:
    """Command (None for all), option and value of every line."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); mend it or remove it") from None
    for key, value in content.items():
        if isinstance(value, dict):
            for inner, setting in value.items():
                yield key, inner.replace("_", "-"), setting
        else:
            yield None, key.replace("_", "-"), value


def _checked(path: Path, key: str, value: Any) -> Any:
    simple = (str, int, float, bool)
    if isinstance(value, simple) or (
        isinstance(value, list) and all(isinstance(item, simple) for item in value)
    ):
        return value
    raise UsageError(f"{path}: {key}: give a text, a number, true or false, or a list of these")
