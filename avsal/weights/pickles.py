"""What a pickle asks for, found out from its opcodes before any of it is executed.

`torch.load` with `weights_only=True`, and `pickle` with a restricted `find_class`, refuse objects
that could run code. Even so, a file of a few bytes may ask them for 64 GiB of memory, or nest
values so deeply that comparing them ends the process. This module recognises such files.

A checkpoint may hold objects that are not tensors. `is_harmless` says which of them may be ignored,
and `stand_in` gives the classes that torch then uses in their place.
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
LARGEST_TUPLE = 10_000  # values in it, those of tuples in it included
DEEPEST_REFERENCE = 2  # what torch writes in place of a storage: six values,
LARGEST_REFERENCE = 16  # of which the last may be a tuple of three
LONGEST_NAME = 500  # characters

_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Opcodes that call a value on the stack: its position, counted from the top.
_CALLED = {"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3}
_CALLS = (*_CALLED, "OBJ", "INST")  # OBJ has it below its arguments, INST as its own argument
# Opcodes that put values into a list or dictionary; they leave it on the stack, as BUILD does.
_APPENDS, _SETS_ITEMS = ("APPEND", "APPENDS"), ("SETITEM", "SETITEMS")
_CHANGES = (*_APPENDS, *_SETS_ITEMS, "BUILD")
_NAMES = ("GLOBAL", "STACK_GLOBAL", "INST")

# Names that torch itself honours, and that copy their argument. A pickle may refer to one argument
# again and again, so what they copy is counted.
ENCODE = "_codecs.encode"  # how bytes are written in protocol 2
COPYING = ("builtins.set", "collections.Counter", "collections.OrderedDict", "torch.Size")
# Protocol 2 writes the names that Python 2 had.
PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
PYTHON_2_NAMES = {
    "__builtin__.xrange": "builtins.range",
    "UserDict.IterableUserDict": "collections.UserDict",
    "UserList.UserList": "collections.UserList",
}


class Global(NamedTuple):
    """An object that a pickle refers to by its dotted name, as Python 3 has it."""

    name: str


class Call(NamedTuple):
    """A call of such an object; the name is None for anything else that is called."""

    name: str | None


class Storage(NamedTuple):
    """A tensor's memory, which torch keeps outside the pickle: its class, key and length."""

    name: str
    key: str
    length: int


class Copy(NamedTuple):
    """A call that copies its argument: the number of characters or values in it."""

    size: int


class Filled(NamedTuple):
    """An object that a pickle appends values to, or else sets items of; the name is its class's."""

    name: str
    as_list: bool


class Made(NamedTuple):
    """The result of a call, by the name of what was called."""

    name: str


Request = Global | Call | Storage | Copy | Filled


class _Value(NamedTuple):
    """A value on the stack.

    Attributes:
        depth: of tuples in each other; 0 for anything that is no tuple.
        size: number of values in it, if it is a tuple; else 1.
        content: a text, a number, a Global, a Made, or the values in a short tuple; None for all
            others.
        copied: what a copy of it takes: the characters of a text, the values in a container.
        fetched: whether it is from the memo. Such a container may have grown since it was stored.
    """

    depth: int = 0
    size: int = 1
    content: Any = None
    copied: int = 1
    fetched: bool = False


@dataclass
class _Values:
    """The values that a pickle has on its stack and in its memo."""

    stack: list[_Value | None] = field(default_factory=list)  # None is a mark
    memo: dict[int, _Value] = field(default_factory=dict)

    def pop(self, count: int) -> list[_Value]:
        """Take values off the stack, the topmost first."""
        taken = [self.stack.pop() for _ in range(count)]
        if None in taken:
            raise ValueError("mark in the wrong place")
        return [value for value in taken if value is not None]

    def pop_to_mark(self) -> list[_Value]:
        """Take the values above the latest mark off the stack, and the mark."""
        taken = []
        while (value := self.stack.pop()) is not None:
            taken.append(value)
        return taken[::-1]

    def push_tuple(self, items: list[_Value]) -> None:
        """Put a tuple of values on the stack."""
        depth = 1 + max((item.depth for item in items), default=0)
        size = 1 + sum(item.size for item in items)
        if depth > DEEPEST_TUPLE or size > LARGEST_TUPLE:
            raise ValueError("tuples too deep or too large")
        content = items if size <= LARGEST_REFERENCE else None
        self.stack.append(_Value(depth, size, content, copied=size))

    def remember(self, index: int, count: int) -> None:
        """Put the top of the stack into the memo, whose size is that of the largest index."""
        if index > count:
            raise ValueError("memo larger than the pickle")
        (value,) = self.pop(1)
        self.stack.append(value)
        self.memo[index] = value

    def move(self, opcode: str, argument: Any, count: int) -> bool:
        """Follow an opcode that only moves values between the stack and the memo.

        Returns:
            Whether it is one.
        """
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
    """Read one pickle, up to its end, and give what it asks for.

    Args:
        source: open binary file; a mapped one or one in memory, as others believe any length.

    Raises:
        ValueError, LookupError: it is damaged, or asks for too much.
    """
    values = _Values()
    for count, (opcode, argument, _position) in enumerate(pickletools.genops(source)):
        yield from _requests(values, opcode.name, argument)
        if not values.move(opcode.name, argument, count):
            _carry_out(values, opcode, argument)


def _requests(values: _Values, opcode: str, argument: Any) -> Iterator[Request]:
    """What one opcode asks for."""
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
        raise ValueError("a reference to a storage as a text")


def globals_of(source: Any) -> Iterator[str]:
    """The dotted names among `requests_of`."""
    return (item.name for item in requests_of(source) if isinstance(item, Global))


def _named(values: _Values, argument: str | None) -> Global:
    """What an opcode names by its argument, or by the two texts on top of the stack."""
    if argument is not None:
        full = argument.replace(" ", ".", 1)
    else:
        name, module = (value.content if value else None for value in values.stack[:-3:-1])
        full = f"{module}.{name}"
    module, _, rest = full.partition(".")
    return Global(PYTHON_2_NAMES.get(full, f"{PYTHON_2_MODULES.get(module, module)}.{rest}"))


def _called(values: _Values, opcode: str, argument: Any) -> str | None:
    """The name of what an opcode calls, if it is an object that the pickle named."""
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
    """How much a call of one of the copying objects copies."""
    arguments = values.stack[-1]
    if opcode != "REDUCE" or arguments is None or arguments.fetched:
        raise ValueError(f"an unusual call of {called}")
    items = arguments.content if isinstance(arguments.content, list) else [arguments]
    if called == ENCODE:  # its text may be from the memo, as a text does not grow
        if len(items) != 2 or items[1].content != "latin1":
            raise ValueError("bytes in an unusual encoding")
        return Copy(items[0].copied)
    if any(item.fetched for item in items):
        raise ValueError(f"an unusual call of {called}")
    return Copy(sum(item.copied for item in items))


def _changed(values: _Values, opcode: str) -> _Value:
    """The value on the stack that an opcode puts other values into."""
    if opcode in ("APPENDS", "SETITEMS"):
        index = len(values.stack) - 2 - values.stack[::-1].index(None)
    else:
        index = len(values.stack) - (3 if opcode == "SETITEM" else 2)
    value = values.stack[index] if index >= 0 else None
    if value is None:
        raise ValueError("nothing to put values into")
    return value


def _storage(values: _Values) -> Storage:
    """The storage that the tuple on top of the stack refers to."""
    top = values.stack[-1]
    if top is None or not isinstance(top.content, list) or top.depth > DEEPEST_REFERENCE:
        raise ValueError("a reference to a storage that is none")
    _storage_word, kind, key, _device, count = (value.content for value in top.content[:5])
    if not isinstance(kind, Global) or not isinstance(count, int) or count < 0:
        raise ValueError("a reference to a storage that is none")
    return Storage(kind.name, str(key), count)


def _carry_out(values: _Values, opcode: Any, argument: Any) -> None:
    """Follow what an opcode takes off the stack and puts on it."""
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
        taken = _other(values, opcode, argument)
        copied = changed.copied + sum(value.copied if value.depth else 1 for value in taken)
        values.stack[-1] = changed._replace(copied=copied)
    else:
        _other(values, opcode, argument)


def _other(values: _Values, opcode: Any, argument: Any) -> list[_Value]:
    """Follow an opcode whose result is not a tuple, and return what it takes off the stack.

    Values that are hashed on the way must not be tuples.
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
    """The values that become keys or members of a set."""
    if name == "SETITEM":
        return taken[1:2]
    if name in ("SETITEMS", "DICT"):
        return taken[::2]
    return taken if name in ("ADDITEMS", "FROZENSET") else []


# --- objects that are not tensors ---------------------------------------------------------------

# All that state dicts are made of. torch's own list is longer: it has, for example, ways to ask for
# any amount of memory.
PLAIN_GLOBALS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.(cuda\.)?\w+Storage|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|serialization\._get_layout)"
    r"|torch\.(u?int\d+|float\d+\w*|bfloat16|complex\d+|bool)"
)
# What else of torch's list is let through: plain values, whose size is checked.
PLAIN_VALUES = ("builtins.set", "builtins.complex", "collections.Counter", ENCODE)
# Settings, numbers and containers of the standard library. Anything else of it can do harm, and no
# training program saves it.
HARMLESS = re.compile(
    r"(argparse|collections|copyreg|datetime|decimal|enum|fractions|pathlib|uuid)\.\w+"
    r"|types\.SimpleNamespace|_codecs\.encode"
    r"|builtins\.(object|set|frozenset|list|dict|tuple|int|float|complex|str|bytes|bool|slice|range)"
)


def is_harmless(name: str) -> bool:
    """Whether an object in a checkpoint may be ignored, rather than refused.

    The objects of other packages may, as they are never imported.
    """
    package = name.partition(".")[0]
    return package not in sys.stdlib_module_names or HARMLESS.fullmatch(name) is not None


class _StandIn:
    """Takes whatever a pickle does to an object, and keeps nothing."""

    def __new__(cls, *_arguments: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *_arguments: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


class _ListStandIn:
    """A plain list, as torch appends to nothing else."""

    def __new__(cls, *_arguments: Any) -> Any:
        return []


class _DictStandIn:
    """An OrderedDict: torch sets items and attributes of it, and of no other dictionary."""

    def __new__(cls, *_arguments: Any) -> Any:
        return OrderedDict()


def stand_in(filled: Filled | None) -> type:
    """A class for torch to use in place of one in the file, which runs and imports nothing.

    Args:
        filled: what the pickle puts into its objects; None for nothing.
    """
    if filled is None:
        return _StandIn
    return _ListStandIn if filled.as_list else _DictStandIn
