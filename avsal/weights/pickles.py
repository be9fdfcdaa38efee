"""What a pickle asks for, found out before any of it is executed.

torch and `pickle` refuse objects that could run code, but a file of a few bytes may still ask them
for 64 GiB of memory, or nest values so deep that comparing them ends the process. Such files are
recognised here from the opcodes alone (`pickletools`).

Objects that are no tensors are read as stand-ins that do nothing; `torch.load` takes this module in
place of `pickle` then.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Checkpoints nest two or three tuples; the state of Python's random generator has 625 values.
DEEPEST_TUPLE = 16
LARGEST_TUPLE = 10_000  # values in it, those of tuples in it included
DEEPEST_REFERENCE = 2  # what torch writes in place of a storage: six values,
LARGEST_REFERENCE = 16  # of which the last may be a tuple of three
LONGEST_NAME = 500  # characters

_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
# Opcodes that call a value on the stack: its position, counted from the top.
_CALLS = {"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3}


class Global(NamedTuple):
    """An object that a pickle refers to by its dotted name."""

    name: str


class Call(NamedTuple):
    """A call of such an object; the name is None for anything else that is called."""

    name: str | None


class Storage(NamedTuple):
    """A tensor's memory, which torch keeps outside the pickle: its class, key and length."""

    name: str
    key: str
    length: int


Request = Global | Call | Storage


class _Value(NamedTuple):
    """A value on the stack.

    Attributes:
        depth: of tuples in each other; 0 for anything that is no tuple.
        size: number of values in it.
        content: a text, a number, a Global, or the values in a short tuple; None for all others.
    """

    depth: int = 0
    size: int = 1
    content: Any = None


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
        self.stack.append(_Value(depth, size, items if size <= LARGEST_REFERENCE else None))

    def remember(self, index: int, count: int) -> None:
        """Put the top of the stack into the memo, whose size is that of the largest index."""
        if index > count:
            raise ValueError("memo larger than the pickle")
        (value,) = self.pop(1)
        self.stack.append(value)
        self.memo[index] = value


def requests_of(source: Any) -> Iterator[Request]:
    """Read one pickle, up to its end, and give what it asks for.

    Args:
        source: open binary file; a mapped one or one in memory, as others believe any length.

    Raises:
        ValueError, LookupError: it is damaged, or asks for too much.
    """
    values = _Values()
    for count, (opcode, argument, _position) in enumerate(pickletools.genops(source)):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield _named(values, argument)
            if name == "INST":
                yield Call(_named(values, argument).name)
        elif name == "STACK_GLOBAL":
            yield _named(values, None)
        elif name in (*_CALLS, "OBJ"):
            yield Call(_called(values, name))
        elif name == "BINPERSID":
            yield _storage(values)
        elif name == "PERSID":
            raise ValueError("a reference to a storage as a text")
        _carry_out(values, opcode, argument, count)


def globals_of(source: Any) -> Iterator[str]:
    """The dotted names among `requests_of`."""
    return (item.name for item in requests_of(source) if isinstance(item, Global))


def _named(values: _Values, argument: str | None) -> Global:
    """What an opcode names by its argument, or by the two texts on top of the stack."""
    if argument is not None:
        return Global(argument.replace(" ", ".", 1))
    name, module = (value.content if value else None for value in values.stack[:-3:-1])
    return Global(f"{module}.{name}")


def _called(values: _Values, opcode: str) -> str | None:
    """The name of what an opcode calls, if it is an object that the pickle named."""
    if opcode == "OBJ":
        mark = len(values.stack) - 1 - values.stack[::-1].index(None)
        value = values.stack[mark + 1]
    else:
        value = values.stack[-_CALLS[opcode]]
    content = value.content if value else None
    return content.name if isinstance(content, Global) else None


def _storage(values: _Values) -> Storage:
    """The storage that the tuple on top of the stack refers to."""
    top = values.stack[-1]
    if top is None or not isinstance(top.content, list) or top.depth > DEEPEST_REFERENCE:
        raise ValueError("a reference to a storage that is none")
    _storage_word, kind, key, _device, count = (value.content for value in top.content[:5])
    if not isinstance(kind, Global) or not isinstance(count, int) or count < 0:
        raise ValueError("a reference to a storage that is none")
    return Storage(kind.name, str(key), count)


def _carry_out(values: _Values, opcode: Any, argument: Any, count: int) -> None:
    """Follow what an opcode does to the stack and the memo."""
    name = opcode.name
    if name in _TUPLES:
        values.push_tuple(values.pop(_TUPLES[name])[::-1])
    elif name == "TUPLE":
        values.push_tuple(values.pop_to_mark())
    elif name in _GETS:
        values.stack.append(values.memo[argument])
    elif name in _PUTS:
        values.remember(argument, count)
    elif name == "MEMOIZE":
        values.remember(len(values.memo), count)
    elif name == "MARK":
        values.stack.append(None)
    elif name == "DUP":
        values.stack += values.pop(1) * 2
    elif name == "POP":
        values.stack.pop()
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        named = _named(values, argument)
        values.pop(len(opcode.stack_before))
        values.stack.append(_Value(content=named))
    else:
        _other(values, opcode, argument)


def _other(values: _Values, opcode: Any, argument: Any) -> None:
    """Opcodes whose result is no tuple; what is hashed on the way must be plain."""
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
    values.stack += [_Value(content=content)] * len(opcode.stack_after)


def _hashed(name: str, taken: list[_Value]) -> list[_Value]:
    """The values that become keys or members of a set."""
    if name == "SETITEM":
        return taken[1:2]
    if name in ("SETITEMS", "DICT"):
        return taken[::2]
    return taken if name in ("ADDITEMS", "FROZENSET") else []


# --- stand-ins ----------------------------------------------------------------------------------

# All that state dicts are made of. torch's own list is longer: it has, for example, ways to ask for
# any amount of memory.
PLAIN_GLOBALS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.(cuda\.)?\w+Storage|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|serialization\._get_layout)"
    r"|torch\.(u?int\d+|float\d+\w*|bfloat16|complex\d+|bool)"
)
# Settings, numbers and containers of the standard library. Anything else of it can do harm, and no
# training program saves it.
PYTHON_2_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocol 2 writes them
HARMLESS = re.compile(
    r"(argparse|collections|copyreg|datetime|decimal|enum|fractions|pathlib|uuid)\.\w+"
    r"|types\.SimpleNamespace|_codecs\.encode"
    r"|builtins\.(object|set|frozenset|list|dict|tuple|int|float|complex|str|bool|slice|range)"
)


def is_harmless(name: str) -> bool:
    """Whether an object in a checkpoint may be ignored, rather than refused.

    The objects of other packages may, as they are never imported.
    """
    package, _, rest = name.partition(".")
    package = PYTHON_2_NAMES.get(package, package)
    name = f"{package}.{rest}"
    return package not in sys.stdlib_module_names or HARMLESS.fullmatch(name) is not None


class StandIn:
    """Takes whatever a pickle does to an object, and keeps nothing."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def append(self, _value: Any) -> None:
        """As a list's."""

    extend = add = append


class Unpickler(pickle.Unpickler):
    """Makes tensors and plain containers, and stand-ins for everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if PLAIN_GLOBALS.fullmatch(f"{module}.{name}"):
            return super().find_class(module, name)
        return StandIn
