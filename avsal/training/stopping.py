"""Ctrl-C and a scheduler's SIGTERM: asked to stop, a run saves first."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signal(wanted: bool) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and a scheduler's SIGTERM stop a run between two steps; a second one at once."""
    asked: list[int] = []
    before: dict[int, Any] = {}

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if wanted:
        try:
            before = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # only the main thread may; elsewhere signals do what they did
            before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
