"""Areas in files.

CSV has the columns name, time (may be empty), and x, y, w, h or points ("0,0;50%,0;25%,30%"); see
`avsal.text` for what separates them. Decimal commas are read, too.
JSON is {"areas": [{"name": "logo", "box": [20, 10, 200, 80]}, {"name": "car", "keyframes":
[{"time": 1.5, "box": [...]}, {"time": 4, "points": [["10%", 0], ...]}]}]}.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avsal.areas.areas import Area, Key, Shape, Size, collect, one_line, read_seconds, read_shape
from avsal.errors import DataError, cause_of, require_file
from avsal.results.records import JSON
from avsal.text import NO_THOUSANDS, THOUSANDS, Separators, delimiter_of, read_rows, read_text

logger = logging.getLogger("avsal")
COLUMNS = ("name", "time", "x", "y", "w", "h", "points")
KEYS = ("name", "time", "box", "points", "keyframes")
_MAX_BYTES = 1 << 26  # of a file: a key frame every 40 ms of ten hours


def read_areas(path: Path, size: Size, note: Callable[[str], None] = logger.warning) -> list[Area]:
    """Read areas from a .csv or .json file; see the module's text and `parse_areas`.

    Args:
        note: called with a line about columns or keys that have no meaning here, such as `start`.

    Raises:
        DataError: the file cannot be read or understood.
    """
    try:
        require_file(path, "table of areas")
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES >> 20} MB")
        known: tuple[str, ...]
        if path.suffix.lower() == ".json":
            keys, unread, known = *_json_keys(read_text(path), size), KEYS
        else:
            keys, unread, known = *_csv_keys(path, size), COLUMNS
        if not keys:
            raise ValueError("it holds no area")
        areas = collect(keys)
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        cause = one_line(cause_of(error))
        raise DataError(f"{path}: areas cannot be read: {cause}") from error
    if unread:
        names = one_line(", ".join(sorted(unread)))
        note(f"{path}: not read: {names}; known are {', '.join(known)}")
    return areas


def _csv_keys(path: Path, size: Size) -> tuple[list[Key], set[str]]:
    """Key frames, and the names of columns without a meaning."""
    keys, times, sides = [], Separators(), Separators()
    has_commas = delimiter_of(path) == ","  # so a comma in a number need not be a decimal one
    rows = read_rows(path)
    columns = [column.lower() for column in next(rows)[1]]
    required = ["name", *("xywh" if "points" not in columns else ())]
    if missing := [column for column in required if column not in columns]:
        raise ValueError(f"missing {', '.join(missing)}; columns are {', '.join(COLUMNS)}")
    for line, row in rows:
        if len(row) > len(columns):  # an unquoted comma would cut a list of points short
            raise ValueError(
                f'line {line}: more values than columns; put points in quotes: "0,0;..."'
            )
        values = {column: value.strip() for column, value in zip(columns, row, strict=False)}
        name = values.get("name", "")
        if not name:
            raise ValueError(f"line {line}: no name; give every row one")
        if any("\udc80" <= character <= "\udcff" for character in name):
            raise ValueError(f"line {line}: is not text in UTF-8; save the table in UTF-8")
        numbers = {key: values.get(key, "") for key in ("time", *"xywh")}
        for key, number in numbers.items():
            (times if key == "time" else sides).look(number)
        if has_commas and (large := [n for n in numbers.values() if THOUSANDS.fullmatch(n)]):
            raise ValueError(f"{name}: {large[0]}: {NO_THOUSANDS}")
        numbers = {key: number.replace(",", ".") for key, number in numbers.items()}
        corners = values.get("points") or ",".join(numbers[side] for side in "xywh")
        time = read_seconds(name, numbers["time"]) if numbers["time"] else None
        keys.append((name, time, read_shape(name, corners, size)))
    if problem := times.problem or sides.problem:
        raise ValueError(problem)
    return keys, set(columns) - {"", *COLUMNS}


def _json_keys(text: str, size: Size) -> tuple[list[Key], set[str]]:
    """Key frames, and the keys of objects without a meaning there."""
    keys, unread = [], set[str]()
    seen, whole = set(), set()  # names of all entries, and of those with "keyframes"
    try:
        for entry in JSON.decode(text)["areas"]:
            name, is_moving = _json_name(entry), "keyframes" in entry
            frames = entry["keyframes"] if is_moving else [entry]
            if name in whole or (is_moving and name in seen):
                raise ValueError(f"{name}: is there twice; give another name")
            if is_moving:
                whole.add(name)
                unread |= entry.keys() - {"name", "keyframes"}
            seen.add(name)
            if not frames:
                raise ValueError(f"{name}: has no key frames")
            for frame in frames:
                keys.append((name, _json_time(name, frame), _json_shape(name, frame, size)))
                shape = "points" if "points" in frame else "box"
                unread |= frame.keys() - {"name", "time", shape}
    except (KeyError, TypeError, AttributeError) as error:
        missing = f" ({error} is missing)" if isinstance(error, KeyError) else ""
        raise ValueError(f'not of the form {{"areas": [{{"name", "box"}}]}}{missing}') from None
    return keys, unread


def _json_name(entry: dict[str, Any]) -> str:
    name = entry["name"]
    if not isinstance(name, str):
        raise ValueError(f"name {name!r} is not text")
    return name


def _json_time(name: str, frame: dict[str, Any]) -> float | None:
    return None if frame.get("time") is None else read_seconds(name, str(frame["time"]))


def _json_shape(name: str, frame: dict[str, Any], size: Size) -> Shape:
    if "points" in frame:
        text = ";".join(",".join(map(str, point)) for point in frame["points"])
    else:
        box = frame["box"]
        text = box if isinstance(box, str) else ",".join(map(str, [*box]))
    return read_shape(name, text, size)
