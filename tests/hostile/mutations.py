"""Damage of every kind, the same for the same seed."""

from __future__ import annotations

import random
import re

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (  # in place of a number or a word of a text
    *("NaN", "Infinity", "-1", "0", "1e999", "99999999999999999999", "1/0", "null", "true", "[]"),
    *(
        "{}",
        '""',
        "[[1]]",
        '"\\u0000"',
        "\x1b[31m",
        "ä",
        "\ud7ff",
        ",",
        "\n",
        "[" * 3000,
        "a." * 500,
    ),
)


def mutated(content: bytes, seed: int, text: bool = False) -> bytes:
    """Change one to four places of a file.

    Args:
        text: numbers and words are exchanged as well, as in JSON, TOML and CSV.
    """
    choose = random.Random(seed)
    data = bytearray(content)
    kinds = (_words, _words, _words, *_KINDS) if text else _KINDS
    for _ in range(choose.choice((1, 1, 2, 4))):
        if data:
            data = choose.choice(kinds)(data, choose)
    return bytes(data)


def _place(data: bytearray, choose: random.Random) -> int:
    """Headers decide more than what follows, so half of the places lie near the beginning."""
    end = len(data) if choose.random() < 0.5 else min(len(data), 600)
    return choose.randrange(end)


def _bits(data: bytearray, choose: random.Random) -> bytearray:
    for _ in range(choose.choice((1, 3, 30))):
        data[_place(data, choose)] ^= 1 << choose.randrange(8)
    return data


def _number(data: bytearray, choose: random.Random) -> bytearray:
    size, start = choose.choice((1, 2, 4, 8)), _place(data, choose)
    value = choose.choice(_EXTREMES) & (1 << 8 * size) - 1
    data[start : start + size] = value.to_bytes(size, choose.choice(("big", "little")))
    return data


def _noise(data: bytearray, choose: random.Random) -> bytearray:
    start, size = _place(data, choose), choose.choice((4, 64, 1024))
    data[start : start + size] = choose.randbytes(len(data[start : start + size]))
    return data


def _cut(data: bytearray, choose: random.Random) -> bytearray:
    return data[: choose.randrange(len(data))]


def _remove(data: bytearray, choose: random.Random) -> bytearray:
    start = _place(data, choose)
    del data[start : start + choose.choice((1, 8, 200, 4096))]
    return data


def _repeat(data: bytearray, choose: random.Random) -> bytearray:
    start = _place(data, choose)
    piece = data[start : start + choose.choice((4, 64, 2048))]
    return data[:start] + piece * choose.choice((2, 20)) + data[start:]


def _zeros(data: bytearray, choose: random.Random) -> bytearray:
    start = _place(data, choose)
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    return data


def _move(data: bytearray, choose: random.Random) -> bytearray:
    start, size, to = _place(data, choose), choose.choice((4, 16, 512)), _place(data, choose)
    piece = data[start : start + size]
    data[to : to + len(piece)] = piece
    return data


def _words(data: bytearray, choose: random.Random) -> bytearray:
    found = list(re.finditer(rb"[\w.+-]+", data))
    if not found:
        return data
    word = choose.choice(found)
    new = choose.choice(_WORDS).encode("utf-8", "surrogatepass")
    return data[: word.start()] + new + data[word.end() :]


_KINDS = (_bits, _bits, _number, _number, _number, _noise, _cut, _remove, _repeat, _zeros, _move)
