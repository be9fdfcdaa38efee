"""What a pickle would do, read from its opcodes before any of them is executed.

`torch.load` with `weights_only=True`, and `pickle` with a restricted `find_class`, refuse objects
that could run code. But even for them, a file of a few bytes can allocate 64 GiB of memory, or nest
values so deeply that comparing them ends the process. This module recognises such files.

A checkpoint may contain objects that are not tensors. `is_harmless` tells which of them may be
ignored, and `stand_in` returns the classes that torch then uses instead.
"""

from __future__ import annotations

import pickletools
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Checkpoints nest two or three tuples; the state of Python's random generator has 625 values.
DEEPEST_TUPLE = 16
LARGEST_TUPLE = 10_000  # values, including those in nested tuples
# torch writes a storage as a tuple of six values, of which the last may be a tuple of three.
DEEPEST_REFERENCE = 2
LARGEST_REFERENCE = 16
LONGEST_NAME = 500  # characters

_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Opcodes that call a value on the stack, and its position from the top.
_CALLED = {"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3}
_CALLS = (*_CALLED, "OBJ", "INST")  # OBJ calls the value below its arguments, INST its argument
# Opcodes that add values to a list or dictionary and, like BUILD, leave it on the stack.
_APPENDS, _SETS_ITEMS = ("APPEND", "APPENDS"), ("SETITEM", "SETITEMS")
_CHANGES = (*_APPENDS, *_SETS_ITEMS, "BUILD")
_NAMES = ("GLOBAL", "STACK_GLOBAL", "INST")

# Objects that torch permits and that copy their argument. A pickle may use one argument many times,
# so the copied values are counted.
ENCODE = "_codecs.encode"  # how bytes are written in protocol 2
COPYING = ("builtins.set", "collections.Counter", "collections.OrderedDict", "torch.Size")
# Protocol 2 writes the names of Python 2.
PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
PYTHON_2_NAMES = {
    "__builtin__.xrange": "builtins.range",
    "UserDict.IterableUserDict": "collections.UserDict",
    "UserList.UserList": "collections.UserList",
}


class Global(NamedTuple):
    """An object that a pickle refers to, by its dotted name in Python 3."""

    name: str


class Call(NamedTuple):
    """A call of a global; the name is None if something else is called."""

    name: str | None


class Storage(NamedTuple):
    """A tensor's memory, which is outside the pickle: its class, key and number of values."""

    name: str
    key: str
    length: int


class Copy(NamedTuple):
    """A call that copies its argument, which has `size` characters or values."""

    size: int


class Filled(NamedTuple):
    """An object, by the name of its class, whose values are appended, or else set as items."""

    name: str
    as_list: bool


class Made(NamedTuple):
    """The result of calling the global with this name."""

    name: str


Request = Global | Call | Storage | Copy | Filled


class _Value(NamedTuple):
    """A value on the stack.

    Attributes:
        depth: nesting depth of a tuple; 0 for anything else.
        size: number of values in a tuple; 1 for anything else.
        content: a string, a number, a Global, a Made, or the values of a short tuple; else None.
        copied: what a copy of it counts: the characters of a string, the values of a container.
        fetched: whether it is from the memo. Such a container may have grown since it was stored.
    """

    depth: int = 0
    size: int = 1
    content: Any = None
    copied: int = 1
    fetched: bool = False


@dataclass
class _Values:
    """The stack and the memo of a pickle."""

    stack: list[_Value | None] = field(default_factory=list)  # None is a mark
    memo: dict[int, _Value] = field(default_factory=dict)

    def pop(self, count: int) -> list[_Value]:
        """Remove values from the stack; the topmost comes first."""
        values = [self.stack.pop() for _ in range(count)]
        if None in values:
            raise ValueError("mark in the wrong place")
        return [value for value in values if value is not None]

    def pop_to_mark(self) -> list[_Value]:
        """Remove the latest mark and the values above it from the stack; the topmost comes last."""
        values = []
        while (value := self.stack.pop()) is not None:
            values.append(value)
        return values[::-1]

    def push_tuple(self, items: list[_Value]) -> None:
        """Push a tuple of values."""
        depth = 1 + max((item.depth for item in items), default=0)
        size = 1 + sum(item.size for item in items)
        if depth > DEEPEST_TUPLE or size > LARGEST_TUPLE:
            raise ValueError("tuples too deep or too large")
        content = items if size <= LARGEST_REFERENCE else None
        self.stack.append(_Value(depth, size, content, copied=size))

    def remember(self, index: int, count: int) -> None:
        """Store the top of the stack in the memo, which is as long as its largest index."""
        if index > count:
            raise ValueError("memo larger than the pickle")
        (value,) = self.pop(1)
        self.stack.append(value)
        self.memo[index] = value

    def move(self, opcode: str, argument: Any, count: int) -> bool:
        """Apply an opcode that only moves values between stack and memo; False for others."""
        if opcode in _GETS:
            self.stack.append(self.memo[argument]._replace(fetched=True))
        elif opcode in _PUTS:
            self.remember(argument, count)
        elif opcode == "MEMOIZE":
            self.remember(len(self.memo), count)
        elif opcode == "MARK":
            self.stack.append(None)
        elif opcode == "DUP":
            self.stack += [self.pop(1)[0]._replace(fetched=True)] * 2
        elif opcode == "POP":
            self.stack.pop()
        else:
            return False
        return True


def requests_of(source: Any) -> Iterator[Request]:
    """Read one pickle to its end, and yield what it would do.

    Args:
        source: a mapped binary file, or one in memory; others would allocate any declared length.

    Raises:
        ValueError, LookupError: it is damaged, or its values are too large.
    """
    values = _Values()
    for count, (opcode, argument, _position) in enumerate(pickletools.genops(source)):
        yield from _requests(values, opcode.name, argument)
        if not values.move(opcode.name, argument, count):
            _carry_out(values, opcode, argument)


def _requests(values: _Values, opcode: str, argument: Any) -> Iterator[Request]:
    """Yield what one opcode would do."""
    if opcode in _NAMES:
        yield _named(values, argument)
    if opcode in _CALLS:
        called = _called(values, opcode, argument)
        yield Call(called)
        if called == ENCODE or called in COPYING:
            yield _copy(values, opcode, called)
    elif opcode in (*_APPENDS, *_SETS_ITEMS):
        made = _changed(values, opcode).content
        if isinstance(made, Made):
            yield Filled(made.name, opcode in _APPENDS)
    elif opcode == "BINPERSID":
        yield _storage(values)
    elif opcode == "PERSID":
        raise ValueError("a storage reference as a string")


def _named(values: _Values, argument: str | None) -> Global:
    """Return the global that an opcode names by its argument or by two strings on the stack."""
    if argument is not None:
        full = argument.replace(" ", ".", 1)
    else:
        name, module = (value.content if value else None for value in values.stack[:-3:-1])
        full = f"{module}.{name}"
    module, _, rest = full.partition(".")
    return Global(PYTHON_2_NAMES.get(full, f"{PYTHON_2_MODULES.get(module, module)}.{rest}"))


def _called(values: _Values, opcode: str, argument: Any) -> str | None:
    """Return the name of what an opcode calls, if it is a global."""
    if opcode == "INST":
        return _named(values, argument).name
    if opcode == "OBJ":
        mark = len(values.stack) - 1 - values.stack[::-1].index(None)
        value = values.stack[mark + 1]
    else:
        value = values.stack[-_CALLED[opcode]]
    content = value.content if value else None
    return content.name if isinstance(content, Global) else None


def _copy(values: _Values, opcode: str, called: str) -> Copy:
    """Return how much a call of one of the copying objects copies."""
    arguments = values.stack[-1]
    if opcode != "REDUCE" or arguments is None or arguments.fetched:
        raise ValueError(f"an unusual call of {called}")
    items = arguments.content if isinstance(arguments.content, list) else [arguments]
    if called == ENCODE:  # its string may be from the memo, because strings do not grow
        if len(items) != 2 or items[1].content != "latin1":
            raise ValueError("bytes in an unusual encoding")
        return Copy(items[0].copied)
    if any(item.fetched for item in items):
        raise ValueError(f"an unusual call of {called}")
    return Copy(sum(item.copied for item in items))


def _changed(values: _Values, opcode: str) -> _Value:
    """Return the value on the stack that an opcode adds values to."""
    if opcode in ("APPENDS", "SETITEMS"):
        index = len(values.stack) - 2 - values.stack[::-1].index(None)
    else:
        index = len(values.stack) - (3 if opcode == "SETITEM" else 2)
    value = values.stack[index] if index >= 0 else None
    if value is None:
        raise ValueError("nothing to add values to")
    return value


def _storage(values: _Values) -> Storage:
    """Return the storage that the tuple on top of the stack refers to."""
    top = values.stack[-1]
    if top is None or not isinstance(top.content, list) or top.depth > DEEPEST_REFERENCE:
        raise ValueError("not a storage reference")
    _tag, storage_class, key, _device, count = (value.content for value in top.content[:5])
    if not isinstance(storage_class, Global) or not isinstance(count, int) or count < 0:
        raise ValueError("not a storage reference")
    return Storage(storage_class.name, str(key), count)


def _carry_out(values: _Values, opcode: Any, argument: Any) -> None:
    """Apply an opcode to the stack."""
    name = opcode.name
    if name in _TUPLES:
        values.push_tuple(values.pop(_TUPLES[name])[::-1])
    elif name == "TUPLE":
        values.push_tuple(values.pop_to_mark())
    elif name in _CALLS:
        called = _called(values, name, argument)
        _other(values, opcode, argument)
        values.stack[-1] = _Value(content=Made(called) if called else None)
    elif name in _NAMES:
        named = _named(values, argument)
        values.pop(len(opcode.stack_before))
        values.stack.append(_Value(content=named))
    elif name in _CHANGES:
        changed = _changed(values, name)
        added = _other(values, opcode, argument)
        copied = changed.copied + sum(value.copied if value.depth else 1 for value in added)
        values.stack[-1] = changed._replace(copied=copied)
    else:
        _other(values, opcode, argument)


def _other(values: _Values, opcode: Any, argument: Any) -> list[_Value]:
    """Apply an opcode whose result is not a tuple, and return the values that it removes.

    Values that it would hash must not be tuples.
    """
    marked = pickletools.markobject in opcode.stack_before
    if marked:
        taken = values.pop_to_mark()
        values.pop(opcode.stack_before.index(pickletools.markobject))
    else:
        taken = values.pop(len(opcode.stack_before))[::-1]
    if any((value.depth, value.size) != (0, 1) for value in _hashed(opcode.name, taken)):
        raise ValueError("tuples as keys")
    named = isinstance(argument, str) and len(argument) <= LONGEST_NAME
    content = argument if not taken and (named or isinstance(argument, int)) else None
    copied = len(argument) if isinstance(argument, str | bytes) else 1
    values.stack += [_Value(content=content, copied=copied)] * len(opcode.stack_after)
    return taken


def _hashed(name: str, taken: list[_Value]) -> list[_Value]:
    """Return the values that become keys or members of a set."""
    if name == "SETITEM":
        return taken[1:2]
    if name in ("SETITEMS", "DICT"):
        return taken[::2]
    return taken if name in ("ADDITEMS", "FROZENSET") else []


# --- objects that are not tensors ---------------------------------------------------------------

# All that a state dict needs: what its pickle calls, and what it only names. torch's own list is
# longer and allows, for example, to allocate any amount of memory.
PLAIN_CALLS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|serialization\._get_layout)"
)
PLAIN_TYPES = re.compile(
    r"torch\.(cuda\.)?\w+Storage|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(u?int\d+|float\d+\w*|bfloat16|complex\d+|bool)"
)
# Further objects on torch's list that are allowed: plain values, whose size is checked.
PLAIN_VALUES = ("builtins.set", "builtins.complex", "collections.Counter", ENCODE)
# Settings, numbers and containers of the standard library. Its other objects can do harm, and no
# training program saves them.
HARMLESS = re.compile(
    r"(argparse|collections|copyreg|datetime|decimal|enum|fractions|pathlib|uuid)\.\w+"
    r"|types\.SimpleNamespace|_codecs\.encode"
    r"|builtins\.(object|set|frozenset|list|dict|tuple|int|float|complex|str|bytes|bool|slice|range)"
)


def is_harmless(name: str) -> bool:
    """Tell whether an object in a checkpoint may be ignored rather than refused.

    Objects of other packages may, because they are never imported.
    """
    package = name.partition(".")[0]
    return package not in sys.stdlib_module_names or HARMLESS.fullmatch(name) is not None


class _StandIn:
    """Accepts whatever a pickle does to an object, and stores nothing."""

    def __new__(cls, *_arguments: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *_arguments: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


class _ListStandIn:
    """A plain list, the only type that torch appends to."""

    def __new__(cls, *_arguments: Any) -> Any:
        return []


class _DictStandIn:
    """An OrderedDict, the only dictionary on which torch sets both items and attributes."""

    def __new__(cls, *_arguments: Any) -> Any:
        return OrderedDict()


def stand_in(filled: Filled | None) -> type:
    """Return the class that replaces one in the file and that neither runs nor imports anything.

    Args:
        filled: how the pickle adds values to its objects; None if it does not.
    """
    if filled is None:
        return _StandIn
    return _ListStandIn if filled.as_list else _DictStandIn
