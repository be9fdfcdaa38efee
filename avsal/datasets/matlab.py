"""Reads arrays of numbers and structs from MATLAB files of versions 4 to 7.

SciPy's reader trusts the types and sizes in a file, and a damaged file can crash the process (SciPy
1.17). This one checks each against the file. The layouts are described in "MAT-File Format" of the
MathWorks. Texts, cells and objects are not read; only their names are.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avsal.errors import DataError

MAX_BYTES = 1 << 29  # of a variable and of a file
_MAX_DEPTH = 8  # of structs inside structs
_MAX_NAME = 63  # letters, MATLAB's own limit
_HEADER = 128  # bytes before the first variable
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_STRUCT, _OBJECT, _SPARSE = 2, 3, 5  # classes of matrices
# Element types and matrix classes, as NumPy's types.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
_TYPES |= {13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8"}
_CLASSES |= {15: "u8"}
_OLD_TYPES = ("f8", "f4", "i4", "i2", "u2", "u1")  # of version 4, by its digit

# An array, the records of a struct array in column order, or None for other values.
Value = Any
Element = tuple[int, memoryview]  # type and content


class _DamagedError(Exception):
    """The types or sizes in a file do not fit its contents."""


def read_matlab(path: Path) -> dict[str, Value]:
    """Read the variables of a MATLAB file.

    Returns:
        By name: an array of numbers (real parts, bool for logical arrays), a list of dicts for a
        struct array, in column order, or None for other values.

    Raises:
        DataError: it is damaged, of version 7.3, or larger than `MAX_BYTES`.
        OSError: it cannot be opened.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MB; save the gaze alone")
    data = memoryview(path.read_bytes())
    try:
        if 0 in bytes(data[:4]):  # a later version begins with text
            return dict(_old_variables(data))
        order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
        if order is None:
            raise _DamagedError("no MATLAB file")
        if struct.unpack_from(order + "H", data, 124)[0] >> 8 == 2:
            raise DataError(f"{path}: MATLAB 7.3 files are not read; save it with -v7")
        return dict(_variables(data[_HEADER:], order))
    except (_DamagedError, struct.error, zlib.error, ValueError, OverflowError) as error:
        raise DataError(f"{path}: damaged ({error}); get the file again") from None


def _variables(data: memoryview, order: str) -> Iterator[tuple[str, Value]]:
    for element in _elements(data, order):
        kind, content = _unpacked(element, order)
        if kind == _MATRIX:
            name, value = _matrix(content, order)
            yield _checked(name), value


def _unpacked(element: Element, order: str) -> Element:
    kind, content = element
    if kind != _COMPRESSED:
        return element
    unpacking = zlib.decompressobj()
    whole = unpacking.decompress(content, MAX_BYTES)
    if not unpacking.eof:
        raise _DamagedError("a compressed variable is cut off or too large")
    return _next(_elements(memoryview(whole), order))


def _checked(name: str) -> str:
    """Refuse a name that cannot be shown in a message."""
    if len(name) > _MAX_NAME or not name.isprintable():
        raise _DamagedError("a variable's name is none")
    return name


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    offset = 0
    while offset < len(data):
        kind, size = struct.unpack_from(order + "II", data, offset)
        begin = offset + 8
        if kind >> 16:  # a small element: one word for size and type, the next for the content
            kind, size, begin = kind & 0xFFFF, kind >> 16, offset + 4
            offset = end = begin + 4
        else:
            end = begin + size
            # Elements are padded to 8 bytes, except compressed ones.
            offset = end if kind == _COMPRESSED else end + -size % 8
        if size > end - begin or end > len(data):
            raise _DamagedError("it ends inside a variable")
        yield kind, data[begin : begin + size]


def _next(elements: Iterator[Element]) -> Element:
    for element in elements:
        return element
    raise _DamagedError("a variable lacks a part")


def _matrix(data: memoryview, order: str, depth: int = 0) -> tuple[str, Value]:
    """Name and value of one variable, or of one field of a struct."""
    if not len(data):
        return "", np.zeros((0, 0))  # an empty field
    parts = _elements(data, order)
    flags = _numbers(_next(parts), order)
    shape = [int(side) for side in _numbers(_next(parts), order)]
    name = bytes(_next(parts)[1]).decode("latin-1")
    if not len(flags) or min(shape, default=-1) < 0:
        raise _DamagedError("a variable has no shape")
    kind, logical = int(flags[0]) & 0xFF, int(flags[0]) >> 9 & 1
    if kind in _CLASSES:
        values = _numbers(_next(parts), order)
        if len(values) != math.prod(shape):
            raise _DamagedError(f"{len(values)} values where {math.prod(shape)} belong")
        with np.errstate(invalid="ignore"):  # NaN where the class is one of integers
            values = values.astype(bool if logical else _CLASSES[kind])
        return name, values.reshape(shape, order="F")
    if kind in (_STRUCT, _OBJECT):
        if kind == _OBJECT:
            _next(parts)  # the class's name
        return name, _records(parts, math.prod(shape), len(data), order, depth)
    if kind == _SPARSE and len(shape) == 2:
        return name, _sparse(parts, (shape[0], shape[1]), order)
    return name, None


def _sparse(parts: Iterator[Element], shape: tuple[int, int], order: str) -> np.ndarray:
    """A sparse array, stored column by column, as a dense one of float64."""
    rows, ends, values = (_numbers(_next(parts), order).astype(np.float64) for _ in range(3))
    counts = np.diff(ends)
    stored = int(ends[-1]) if len(ends) else 0
    if len(ends) != shape[1] + 1 or (counts < 0).any() or ends[0] != 0:
        raise _DamagedError("a sparse array has a wrong number of columns")
    if stored > min(len(rows), len(values)) or math.prod(shape) * values.itemsize > MAX_BYTES:
        raise _DamagedError("a sparse array has too few values, or is too large")
    columns = np.repeat(np.arange(shape[1]), counts.astype(np.intp))
    return _dense(rows[:stored], columns, values[:stored], shape)


def _dense(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """An array of zeros with values at rows and columns, which are numbered from 0."""
    for indices, side in ((rows, shape[0]), (columns, shape[1])):
        if not ((indices >= 0) & (indices < side)).all():
            raise _DamagedError("a sparse array has values outside")
    dense = np.zeros(shape)
    dense[rows.astype(np.intp), columns.astype(np.intp)] = values
    return dense


def _records(
    parts: Iterator[Element], count: int, room: int, order: str, depth: int
) -> list[dict[str, Value]]:
    """The records of a struct array; `room` is the number of bytes for them."""
    lengths = _numbers(_next(parts), order)
    names = bytes(_next(parts)[1])
    if depth == _MAX_DEPTH or len(lengths) != 1 or lengths[0] < 1:
        raise _DamagedError("a struct without names, or too deep")
    length = int(lengths[0])
    fields = [
        names[start : start + length].split(b"\0")[0].decode("latin-1")
        for start in range(0, len(names), length)
    ]
    if count * max(1, len(fields)) * 8 > room:  # every field has at least a header of 8 bytes
        raise _DamagedError("a struct has too few records")
    return [
        {field: _field(_next(parts), order, depth + 1) for field in fields} for _ in range(count)
    ]


def _field(element: Element, order: str, depth: int) -> Value:
    kind, content = element
    if kind != _MATRIX:
        raise _DamagedError("a field of a struct is not a matrix")
    return _matrix(content, order, depth)[1]


def _numbers(element: Element, order: str) -> np.ndarray:
    kind, content = element
    if kind not in _TYPES:
        raise _DamagedError(f"numbers of an unknown type {kind}")
    dtype = np.dtype(order + _TYPES[kind])
    if len(content) % dtype.itemsize:
        raise _DamagedError("a number is cut off")
    return np.frombuffer(content, dtype)


def _old_variables(data: memoryview) -> Iterator[tuple[str, Value]]:
    """Variables of version 4: five numbers, the name, the real and then the imaginary values."""
    offset = 0
    while offset < len(data):
        order = ">" if data[offset] == 0 and data[offset + 1 : offset + 3] != b"\0\0" else "<"
        code, rows, columns, complex_, length = struct.unpack_from(order + "5i", data, offset)
        digit = code // 10 % 10
        if not 0 <= code < 4000 or digit >= len(_OLD_TYPES) or min(rows, columns, length) < 0:
            raise _DamagedError("no MATLAB file")
        dtype = np.dtype(order + _OLD_TYPES[digit])
        begin = offset + 20 + length
        end = begin + rows * columns * dtype.itemsize
        if end > len(data):
            raise _DamagedError("it ends inside a variable")
        name = _checked(bytes(data[offset + 20 : begin]).split(b"\0")[0].decode("latin-1"))
        values = np.frombuffer(data[begin:end], dtype).reshape((rows, columns), order="F")
        yield name, _old_value(values, code % 10)
        offset = end + (end - begin if complex_ else 0)


def _old_value(values: np.ndarray, kind: int) -> Value:
    """Numbers as they are, a sparse array as a dense one, None for text."""
    if kind == 0:
        return values
    if kind != 2 or values.shape[1] != 3 or not len(values):
        return None
    rows, columns, stored = values.astype(np.float64).T  # numbered from 1; the shape comes last
    shape = (int(rows[-1]), int(columns[-1]))
    if min(shape) < 0 or math.prod(shape) * stored.itemsize > MAX_BYTES:
        raise _DamagedError("a sparse array has no shape, or is too large")
    return _dense(rows[:-1] - 1, columns[:-1] - 1, stored[:-1], shape)
