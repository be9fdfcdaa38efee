"""What a pickle asks for, looked at before any of it is carried out.

torch and `pickle` refuse objects that could run code, but a file of a few bytes may still ask them
for 64 GiB of memory, or nest values so deep that comparing them ends the process. Such files are
told here from the opcodes alone (`pickletools`).
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Checkpoints nest two or three tuples; the state of Python's random generator has 625 values.
DEEPEST_TUPLE = 16
LARGEST_TUPLE = 10_000  # values in it, those of tuples in it included
DEEPEST_REFERENCE = 2  # what torch writes in place of a storage: six values,
LARGEST_REFERENCE = 16  # of which the last may be a tuple of three
ATOM = (0, 1)  # depth and size of anything that is no tuple

_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")

_Shape = tuple[int, int]  # depth and size of a value


@dataclass
class _Values:
    """Depths and sizes of the values that a pickle has on its stack and in its memo."""

    stack: list[_Shape | None] = field(default_factory=list)  # None is a mark
    memo: dict[int, _Shape] = field(default_factory=dict)

    def pop(self, count: int) -> list[_Shape]:
        """Take values off the stack."""
        taken = [self.stack.pop() for _ in range(count)]
        if None in taken:
            raise ValueError("mark in the wrong place")
        return [value for value in taken if value is not None]

    def pop_to_mark(self) -> list[_Shape]:
        """Take the values above the latest mark off the stack, and the mark."""
        taken = []
        while (value := self.stack.pop()) is not None:
            taken.append(value)
        return taken[::-1]

    def push_tuple(self, items: list[_Shape]) -> None:
        """Put a tuple of values on the stack."""
        depth = 1 + max((item[0] for item in items), default=0)
        size = 1 + sum(item[1] for item in items)
        if depth > DEEPEST_TUPLE or size > LARGEST_TUPLE:
            raise ValueError("tuples too deep or too large")
        self.stack.append((depth, size))

    def remember(self, index: int, count: int) -> None:
        """Put the top of the stack into the memo, whose size is that of the largest index."""
        if index > count:
            raise ValueError("memo larger than the pickle")
        (value,) = self.pop(1)
        self.stack.append(value)
        self.memo[index] = value


def globals_of(pickle: Any) -> Iterator[str]:
    """Read one pickle, up to its end, and give the dotted names of the objects that it refers to.

    Args:
        pickle: open binary file; a mapped one or one in memory, as others believe any length.

    Raises:
        ValueError, LookupError: it is damaged, or asks for too much.
    """
    values = _Values()
    texts: list[str] = []
    for count, (opcode, argument, _place) in enumerate(pickletools.genops(pickle)):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
        elif name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts = [*texts[-1:], argument]
        _carry_out(values, opcode, argument, count)


def _carry_out(values: _Values, opcode: Any, argument: Any, count: int) -> None:
    """Follow what an opcode does to the stack and the memo."""
    name = opcode.name
    if name in _TUPLES:
        values.push_tuple(values.pop(_TUPLES[name]))
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
    else:
        _other(values, opcode)


def _other(values: _Values, opcode: Any) -> None:
    """Opcodes whose result is no tuple; what is hashed on the way must be plain."""
    marked = pickletools.markobject in opcode.stack_before
    if marked:
        taken = values.pop_to_mark()
        values.pop(opcode.stack_before.index(pickletools.markobject))
    else:
        taken = values.pop(len(opcode.stack_before))[::-1]
    if any(value != ATOM for value in _hashed(opcode.name, taken)):
        raise ValueError("tuples as keys")
    if opcode.name == "BINPERSID" and (
        taken[0][0] > DEEPEST_REFERENCE or taken[0][1] > LARGEST_REFERENCE
    ):
        raise ValueError("a reference to a storage that is none")
    values.stack += [ATOM] * len(opcode.stack_after)


def _hashed(name: str, taken: list[_Shape]) -> list[_Shape]:
    """The values that become keys or members of a set."""
    if name == "SETITEM":
        return taken[1:2]
    if name in ("SETITEMS", "DICT"):
        return taken[::2]
    return taken if name in ("ADDITEMS", "FROZENSET") else []
