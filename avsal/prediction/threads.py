"""Threads: stages of the pipeline that overlap, and how many cores torch's layers share."""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")

# A container's share of the processor, "200000 100000" or "max 100000": microseconds of all cores
# together per period in microseconds (cgroup v2).
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_POLL_SECONDS = 0.1  # how soon a waiting producer notices that its consumer is gone


class _Producer(threading.Thread, Generic[T]):
    """Fills a bounded queue from a generator; what ends it, an error too, is the last entry."""

    def __init__(self, make: Callable[[], Generator[T, None, None]], depth: int) -> None:
        super().__init__(name="avsal-producer", daemon=True)
        self.entries: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self.stopped = threading.Event()
        self._running = threading.Lock()
        self._make = make

    def run(self) -> None:
        with self._running:
            if not self.stopped.is_set():
                self._produce()

    def stop(self) -> None:
        """Wait until the generator is closed; afterwards it is not started any more.

        Nothing is asked of the thread itself: Ctrl-C may have come while it was being started.
        """
        self.stopped.set()
        with self._running:
            pass

    def _produce(self) -> None:
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
    try:
        producer.start()
        while True:
            item, end = producer.entries.get()
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end
            yield item  # type: ignore[misc]
    finally:
        producer.stop()


def limit_threads() -> None:
    """Let torch use no more threads than its container's share of the processor is worth.

    torch counts the cores that it may run on, and where a container may use two of 64 its 64
    threads are stopped for most of every period. Whoever set OMP_NUM_THREADS keeps it.
    """
    cores = quota_cores()
    if cores and "OMP_NUM_THREADS" not in os.environ and cores < torch.get_num_threads():
        torch.set_num_threads(cores)


def quota_cores() -> int | None:
    """Return how many cores the container's share is worth, rounded up; None without a limit."""
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return None
