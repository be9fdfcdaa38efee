"""TOML to frozen dataclasses, with one-line errors for what does not fit."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from avsal.errors import UsageError

T = TypeVar("T")
Table = dict[str, Any]

NONE = "none"  # TOML has no null


def read_toml(path: Path) -> Table:
    """Read a TOML file.

    Raises:
        UsageError: it is missing or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no valid TOML: {error}") from None


def override(table: Table, change: str) -> None:
    """Put "a.b=value" into nested tables; the value is TOML, or else plain text.

    A number in the key counts the tables of a list from 0: "data.train.0.fold=2".

    Raises:
        UsageError: the text has another form, or a list is shorter.
    """
    key, equals, text = change.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not last:
        raise UsageError(f"--set {change}: give TABLE.KEY=VALUE")
    place: Any = table
    for parent in parents:
        place = _inner(place, parent, change)
    if not isinstance(place, dict):
        raise UsageError(f"--set {change}: {parents[-1]} is no table")
    try:
        place[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        place[last] = text.strip()


def _inner(place: Any, key: str, change: str) -> Any:
    if isinstance(place, dict):
        return place.setdefault(key, {})
    if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
        return place[int(key)]
    raise UsageError(f"--set {change}: the file has no {key} there")


def from_table(cls: type[T], table: Table, where: str = "") -> T:
    """Make a dataclass of a TOML table.

    Args:
        cls: dataclass of numbers, text, tuples, tables and other such dataclasses.
        where: the table's dotted name, for errors.

    Raises:
        UsageError: a key is unknown or missing, or a value has the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in fields:
            raise UsageError(f"unknown key {_join(where, key)}; known: {', '.join(fields)}")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise UsageError(f"{_join(where, name)} is missing")
    values = {key: _value(hints[key], value, _join(where, key)) for key, value in table.items()}
    return cls(**values)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _value(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UsageError(f"{key} must be a table, not {_kind(value)}")
        return from_table(typing.cast(type, hint), value, key)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None or value == NONE:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, key)
    if origin is tuple:
        return _sequence(arguments, value, key)
    wanted = dict if origin is dict else hint
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{key} = {value!r} must be {wanted.__name__}, not {_kind(value)}")
    return value


def _sequence(arguments: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{key} = {value!r} must be a list, not {_kind(value)}")
    repeated = arguments[-1] is Ellipsis
    if not repeated and len(value) != len(arguments):
        raise UsageError(f"{key} = {value!r} must have {len(arguments)} entries")
    hints = [arguments[0]] * len(value) if repeated else list(arguments)
    return tuple(
        _value(hint, each, f"{key}[{place}]")
        for place, (hint, each) in enumerate(zip(hints, value, strict=True))
    )


def _kind(value: Any) -> str:
    return "table" if isinstance(value, dict) else type(value).__name__
