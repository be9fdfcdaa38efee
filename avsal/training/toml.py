"""TOML files to checked settings, with errors of one line that name the key."""

from __future__ import annotations

import difflib
import json
import reprlib
import tomllib
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from avsal.errors import UsageError


class Table(BaseModel):
    """A table of the file: unknown keys and values of another type are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


T = TypeVar("T", bound=Table)

_TOO_DEEP = "tables or arrays are nested too deep"


def read_toml(path: Path, table: type[T], changes: Iterable[str] = ()) -> T:
    """Read a file.

    Args:
        path: TOML file.
        table: what it holds.
        changes: "table.key=value" each, over what the file says.

    Raises:
        UsageError: the file cannot be read, or a key, a type or a value is wrong.
    """
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise UsageError(f"{path}: cannot be read: no regular file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            _override(values, change)
        return table.model_validate_json(json.dumps(values))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        # Python 3.13's parsers go deeper than pydantic's, which then finds the JSON wrong.
        deep = error.errors()[0]["type"] == "json_invalid"
        line = _TOO_DEEP if deep else _first_line(error, table)
        raise UsageError(f"{path}: {line}") from None
    except RecursionError:
        raise UsageError(f"{path}: {_TOO_DEEP}") from None
    except TypeError:  # JSON has none
        raise UsageError(f"{path}: dates and times have no place here; use quotes") from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UsageError(f"{path}: no valid TOML: {error}") from None


def one_of(value: str, allowed: Iterable[str]) -> str:
    """Check a word against a table of words, for validators of fields."""
    if value not in allowed:
        raise PydanticCustomError(
            "one_of",
            "{value} is unknown; {suggestion}",
            {"value": reprlib.repr(value), "suggestion": _suggestion(value, allowed)},
        )
    return value


def _first_line(error: ValidationError, table: type[Table]) -> str:
    """The first thing that is wrong: "optimiser.batch: must be a valid integer, not 2.5"."""
    first, *others = error.errors(include_url=False)
    key, kind = _key(first["loc"]), first["type"]
    text = first["msg"].replace("Input should be", "must be").replace("an object", "a table")
    if kind == "extra_forbidden":
        *place, wrong = first["loc"]
        text = f"unknown key; {_suggestion(str(wrong), _keys_of(table, place))}"
    elif kind == "missing":
        text = "missing"
    elif text.startswith("must be"):
        text += f", not {reprlib.repr(first['input'])}"
    more = f" ({len(others)} more)" if others else ""
    return f"{key}: {text}{more}" if key else text + more


def _key(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _keys_of(table: Any, location: Iterable[int | str]) -> Iterable[str]:
    """The keys that a table inside a table may have."""
    for part in location:
        if isinstance(part, str):
            hint = table.model_fields[part].annotation
            table = (typing.get_args(hint) or (hint,))[0]
    keys: Iterable[str] = table.model_fields
    return keys


def _suggestion(wrong: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _override(table: dict[str, Any], change: str) -> None:
    """Put "a.b=value" into nested tables; the value is TOML, or else plain text.

    A number in the key counts the tables of an array from 0: "data.train.0.fold=2".

    Raises:
        UsageError: the text has another form, or an array is shorter.
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
