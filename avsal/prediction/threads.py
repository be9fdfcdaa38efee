"""Let stages of the pipeline overlap: a generator that runs ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1  # how soon a waiting producer notices that its consumer is gone


class _Producer(threading.Thread, Generic[T]):
    """Fills a bounded queue from a generator; what ends it, an error too, is the last entry."""

    def __init__(self, make: Callable[[], Generator[T, None, None]], depth: int) -> None:
        super().__init__(name="avsal-producer", daemon=True)
        self.entries: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self.stopped = threading.Event()
        self._make = make

    def run(self) -> None:
        end: BaseException = StopIteration()
        try:
            with closing(self._make()) as items:
                for item in items:
                    if not self._put((item, None)):
                        return
        except BaseException as error:  # raised again where the items are consumed
            end = error
        self._put((None, end))

    def _put(self, entry: Any) -> bool:
        while not self.stopped.is_set():
            try:
                self.entries.put(entry, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False


def run_ahead(make: Callable[[], Generator[T, None, None]], depth: int) -> Generator[T, None, None]:
    """Yield what `make()` yields, produced in a thread that is at most `depth` items ahead.

    An exception in the producer is raised here. Closing this generator stops the producer and
    waits for it, so that its files are closed.
    """
    producer = _Producer(make, depth)
    producer.start()
    try:
        while True:
            item, end = producer.entries.get()
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end
            yield item  # type: ignore[misc]
    finally:
        producer.stopped.set()
        producer.join()
