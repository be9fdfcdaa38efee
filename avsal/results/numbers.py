"""Numbers out of files that anyone may have written: type, length and range are checked first.

Text becomes a number only if it is short, as `Fraction("1e1000000000")` would compute for ever.
The functions raise ValueError, LookupError or TypeError with a short reason; the readers of files
add the file's name.
"""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from typing import Any, NoReturn

from avsal.prediction.settings import MAX_PIXELS, MAX_SIDE

LARGEST = 10**15  # of any number
_EXACT = re.compile(r"-?\d{1,24}(/[1-9]\d{0,24}|\.\d{1,24})?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d{1,24}\.?\d{0,24}|\.\d{1,24})(e[+-]?\d{1,2})?", re.ASCII | re.I)


def number(values: Any, name: Any, least: float = -LARGEST, most: float = LARGEST) -> float:
    """A finite number out of JSON values, from `least` to `most`."""
    value = values[name]
    if type(value) not in (int, float) or not abs(value) < LARGEST:
        raise ValueError(f"{name} is no number")
    if not least <= value <= most:
        raise ValueError(f"{name} {value:g} is not from {least:g} to {most:g}")
    return float(value)


def whole(values: Any, name: str, kind: str = "whole number") -> int:
    """A whole number from 0 out of JSON values."""
    value = values[name]
    if type(value) is not int or not 0 <= value < LARGEST:
        raise ValueError(f"{name} is no {kind}")
    return value


def exact(values: Any, name: str) -> Fraction:
    """An exact number out of JSON values, written as text: "1001/30000", "3" or "0.04"."""
    value = values[name]
    if not isinstance(value, str) or not _EXACT.fullmatch(value):
        raise ValueError(f"{name} is no fraction")
    fraction = Fraction(value)
    if abs(fraction) >= LARGEST:
        raise ValueError(f"{name} is too large")
    return fraction


def ratio(values: Any, name: str) -> Fraction:
    """An exact number as text, or any other number."""
    if isinstance(values[name], str):
        return exact(values, name)
    return Fraction(number(values, name))


def decimal(text: str) -> float | None:
    """The number that a short text stands for; None where it is something else."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def picture_size(values: Any, names: tuple[Any, Any] = ("width", "height")) -> tuple[int, int]:
    """Width and height of a picture in pixels; whole floats count as whole numbers.

    Args:
        names: keys of the two in `values`.
    """
    sides = [number(values, name) for name in names]
    width, height = map(int, sides)
    text = f"{width}x{height} pixels"
    if [width, height] != sides or min(sides) < 1:
        raise ValueError(f"{text}: no size of a picture")
    if max(sides) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ValueError(f"{text}: too many")
    return width, height


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


# Reads JSON in which every number is finite. Digits of whole numbers are limited by Python itself.
JSON = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
