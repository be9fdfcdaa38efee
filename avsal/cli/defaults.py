"""Defaults that a person keeps in `avsal.toml`, in the working folder or a folder for settings.

    device = "cpu"          # for every command that has this option
    [overlay]
    colormap = "viridis"    # for this command only; [weights.pull] is `avsal weights pull`

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

from avsal.errors import UsageError, exists, nearest
from avsal.text import read_text

NAME = "avsal.toml"

Defaults = dict[str, Any]  # by command and parameter, as click's default_map


def places() -> list[Path]:
    """Where settings files may be; what later ones say comes first.

    Raises:
        UsageError: the working folder was removed.
    """
    try:
        return [Path(typer.get_app_dir("avsal")) / NAME, Path(NAME).absolute()]
    except FileNotFoundError:
        raise UsageError("the working folder was removed; change to another one") from None


def _files() -> list[Path]:
    return [path for path in places() if exists(path) and path.is_file()]


def read_defaults(group: Any) -> Defaults:
    """The defaults of every command.

    Args:
        group: the click group of the commands.

    Raises:
        UsageError: a file cannot be read, or names what no command has.
    """
    commands = _commands(group)
    defaults: Defaults = {}
    for path in _files():
        for table, key, value in _entries(path):
            chosen = [name for name in commands if f"{name} ".startswith(table)]
            if not chosen:
                command = table.strip()
                raise UsageError(
                    f"{path}: there is no command {command}{nearest(command, commands)}"
                )
            having = [name for name in chosen if key in _options(commands[name])]
            if not having:
                known = {word for name in chosen for word in _options(commands[name])}
                where = f"{table}has" if table else "commands have"
                raise UsageError(f"{path}: {where} no option {key}{nearest(key, known)}")
            for name in having:
                place = defaults
                for word in name.split():
                    place = place.setdefault(word, {})
                option = _options(commands[name])[key]
                place[option.name] = _checked(path, key, value, option.multiple)
    return defaults


def described(group: Any) -> dict[str, str]:
    """What `avsal info` shows: the files that exist, and the variables that are set."""
    files = [str(path) for path in _files()]
    entries = [
        f"{table.strip()}: {key} = {value!r}" if table else f"{key} = {value!r}"
        for path in _files()
        for table, key, value in _entries(path)
    ]
    variables = {
        parameter.envvar
        for command in _commands(group).values()
        for parameter in _options(command).values()
        if isinstance(parameter.envvar, str)
    }
    entries += [f"{name}={os.environ[name]}" for name in sorted(variables & os.environ.keys())]
    return {
        "settings files": ", ".join(files) or f"none; may be {' or '.join(map(str, places()))}",
        "defaults changed": ", ".join(entries) or "none",
    }


def _commands(group: Any, before: str = "") -> dict[str, Any]:
    """All commands by name; those of a group by both names: "weights pull"."""
    commands: dict[str, Any] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            commands |= _commands(command, f"{before}{name} ")
        else:
            commands[before + name] = command
    return commands


def _options(command: Any) -> dict[str, Any]:
    """The options of a command by their long names without dashes."""
    return {
        text.lstrip("-"): parameter
        for parameter in command.params
        for text in parameter.opts
        if text.startswith("--") and text != "--help"
    }


def _entries(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Table, option and value of every line; [weights.pull] is the table "weights pull "."""
    try:
        content = tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); correct it or remove it") from None
    yield from _flat(content, "")


def _flat(content: dict[str, Any], table: str) -> Iterator[tuple[str, str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{table}{key} ")
        else:
            yield table, key.replace("_", "-"), value


def _checked(path: Path, key: str, value: Any, several: bool) -> Any:
    """The value of an option, which may be given `several` times or once."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float | bool) for item in values):
        raise UsageError(f"{path}: {key}: give a text, a number, true or false, or a list of these")
    if isinstance(value, list) and not several:
        raise UsageError(f"{path}: {key}: give one value, without brackets")
    return values if several else value
