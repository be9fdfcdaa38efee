"""Text that people write, and CSV as programs and spreadsheets save it: rows under a header.

The text is UTF-8 or UTF-16, with or without a byte order mark. Commas, semicolons or tabs separate
the columns; a first line `sep=;` says which. Lines above the header that are blank or begin with #
and rows without content are skipped. A quotation mark that is never closed is an error.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TextIO

_DELIMITERS = ",;\t"  # the most frequent one in the header counts
_SEPARATOR = re.compile(r'sep=([^"\r\n\0])', re.I)  # written by Excel
_NO_TEXT = "it is not text in UTF-8 or UTF-16; save it as text in UTF-8"
_HEAD = 4096  # bytes from which the encoding is recognised
# A number that has commas between thousands, or a decimal comma before three digits.
THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+(\.\d*)?", re.ASCII)
NO_THOUSANDS = "write numbers without thousands separators"
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)
_DECIMALS = re.compile(r"[.,]\d", re.ASCII)
_THIRDS = ("333", "666", "667")  # of milliseconds, as 33.333 of 30 frames per second
_END = "\3"  # a line after the last one: only a quotation mark that is not closed takes it in


@dataclass
class Separators:
    """Tells whether points or commas in numbers of one kind separate thousands.

    They do if each has three digits behind it, not only those of thirds, and numbers of three
    digits have none.
    """

    _plain: str = ""
    _grouped: str = ""
    _are_decimal: bool = False

    def look(self, text: str) -> None:
        """Look at the next number."""
        if self._are_decimal:
            return
        text = text.strip()
        if text.isdecimal():
            self._plain = text if len(text) == 3 and text[0] != "0" else self._plain
        elif _GROUPED.fullmatch(text):
            if not text.endswith(_THIRDS):
                self._grouped = self._grouped or text
        else:
            self._are_decimal = _DECIMALS.search(text) is not None

    @property
    def problem(self) -> str:
        """What is wrong with the numbers; empty if nothing is."""
        if self._are_decimal or not (self._plain and self._grouped):
            return ""
        decimal = f"{self._plain}{self._grouped[-4]}0"
        return (
            f"has {self._grouped} and {self._plain}: {NO_THOUSANDS}, or {decimal} if they are "
            "decimal"
        )


def encoding_of(path: Path) -> str:
    """The encoding of a file of text.

    Raises:
        OSError: the file cannot be read.
        UnicodeError: it is not text in UTF-8 or UTF-16.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    odd, even = head[1::2], head[::2]
    if 0 not in head:
        return "utf-8-sig"
    if 2 * odd.count(0) > len(odd) and 0 not in even:
        return "utf-16-le"
    if 2 * even.count(0) > len(even) and 0 not in odd:
        return "utf-16-be"
    raise UnicodeError(_NO_TEXT)


@contextmanager
def _opened(path: Path, newline: str | None, errors: str) -> Iterator[TextIO]:
    try:
        with path.open(newline=newline, encoding=encoding_of(path), errors=errors) as file:
            yield file
    except UnicodeDecodeError:  # its own message names a byte
        raise UnicodeError(_NO_TEXT) from None


def read_text(path: Path) -> str:
    """The whole text of a file.

    Raises:
        OSError, UnicodeError: it cannot be read, or is not text in UTF-8 or UTF-16.
    """
    with _opened(path, newline=None, errors="strict") as file:
        return file.read()


def _header(file: TextIO) -> tuple[int, str, str]:
    """Read up to the header; return the number of its line, the line and the delimiter."""
    delimiter, number, header = "", 0, ""
    for number, line in enumerate(file, start=1):  # noqa: B007
        if separator := _SEPARATOR.match(line):
            delimiter = separator[1]
        elif line.strip() and not line.startswith("#"):
            header = line
            break
    return number, header, delimiter or max(_DELIMITERS, key=header.count)


def delimiter_of(path: Path) -> str:
    """What separates the columns of a table.

    Raises:
        OSError, UnicodeError: see `read_rows`.
    """
    with _opened(path, newline="", errors="surrogateescape") as file:
        return _header(file)[2]


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line and its fields: first the header's, which may be empty, then rows.

    Bytes of other encodings occur only in names, where they are kept as Python's surrogate escapes.
    Empty fields after the last column are dropped.

    Raises:
        OSError, UnicodeError, csv.Error: the file cannot be read as CSV.
    """
    with _opened(path, newline="", errors="surrogateescape") as file:
        number, header, delimiter = _header(file)
        reader = partial(csv.reader, delimiter=delimiter, skipinitialspace=delimiter != " ")
        names = [name.strip() for name in next(reader([header]), [])]
        yield number, names
        rows, line = reader(chain(file, [_END])), number + 1
        try:
            for row in rows:
                if row == [_END]:
                    return
                if row and row[-1].endswith(_END):
                    raise csv.Error("the text goes on to the end of the file")
                if row and (row[0] or any(field.strip() for field in row)):
                    while len(row) > len(names) and not row[-1].strip():
                        row.pop()
                    yield number + rows.line_num, row
                line = number + rows.line_num + 1
        except csv.Error as error:
            raise csv.Error(f"line {line}: {error}; is a quotation mark not closed?") from None
