"""Threads: a stage that runs ahead, a bounded pool, and how many cores layers share."""

from __future__ import annotations

import atexit
import math
import os
import queue
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from avsal.errors import UsageError

T = TypeVar("T")

# A container's share of the processor, "200000 100000" or "max 100000": microseconds of all cores
# together per period in microseconds (cgroup v2).
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_POLL_SECONDS = 0.1  # how soon a waiting producer notices that its consumer is gone
_EXIT_SECONDS = 5.0  # a source that gives nothing any more must not keep the interpreter from exit


FORKED = "the process was forked while a video was read; start its prediction in the child instead"

# What waits for a thread, and must be told in a forked child that there is none.
_waiting: weakref.WeakSet[Any] = weakref.WeakSet()
_producers: weakref.WeakSet[_Producer[Any]] = weakref.WeakSet()


class _Producer(threading.Thread, Generic[T]):
    """Fills a bounded queue from a generator; what ends it, an error too, is the last entry."""

    def __init__(self, make: Callable[[], Generator[T, None, None]], depth: int) -> None:
        super().__init__(name="avsal-producer", daemon=True)
        self.entries: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self.stopped = threading.Event()
        self._running = threading.Lock()
        self._make = make
        _producers.add(self)
        after_fork(self)

    def run(self) -> None:
        with self._running:
            if not self.stopped.is_set():
                self._produce()

    def stop(self, timeout: float = -1) -> None:
        """Wait until the generator is closed; afterwards it is not started any more.

        Nothing is asked of the thread itself: Ctrl-C may have come while it was being started.
        Nor is it waited for once the interpreter is being taken down: Python has stopped it then,
        whatever it was doing, and it never gives its lock back.

        Args:
            timeout: seconds to wait at most; -1 waits as long as it takes.
        """
        self.stopped.set()
        if not sys.is_finalizing() and self._running.acquire(timeout=timeout):
            self._running.release()

    def orphan(self) -> None:
        """Go on without the thread, in a child process that does not have it.

        The thread may have held any lock at the moment of the fork, so all of them are replaced.
        """
        self._running = threading.Lock()
        self.stopped = threading.Event()
        self.stopped.set()
        self.entries = queue.Queue()
        self.entries.put((None, UsageError(FORKED)))

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


@atexit.register
def _stop_producers() -> None:
    """Let the threads close their files while they still can."""
    for producer in list(_producers):
        producer.stopped.set()
    for producer in list(_producers):
        producer.stop(_EXIT_SECONDS)


class Orphan(Protocol):
    """Something that a thread works for."""

    def orphan(self) -> None:
        """Go on without the thread."""
        ...


def after_fork(waiting: Orphan) -> None:
    """Have something told in a forked child that its thread is not there."""
    _waiting.add(waiting)


_of_parents: list[object] = []


def leave_to_parent(thing: object) -> None:
    """Never destroy in a forked child what a thread of its parent may have locked."""
    _of_parents.append(thing)


def _orphan_all() -> None:
    for each in list(_waiting):
        each.orphan()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_orphan_all)


@cache
def survive_forks() -> None:
    """Give every forked child one thread for torch's layers.

    OpenMP's threads do not exist in a child, and GNU's waits for them for ever.
    """
    import torch

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def limit_threads() -> None:
    """Let torch use no more threads than its container's share of the processor is worth.

    torch counts the cores that it may run on, and where a container may use two of 64 its 64
    threads are stopped for most of every period. Whoever set OMP_NUM_THREADS keeps it.
    """
    import torch

    cores = quota_cores()
    if cores and "OMP_NUM_THREADS" not in os.environ and cores < torch.get_num_threads():
        torch.set_num_threads(cores)


def thread_count() -> int:
    """Threads that compute a network: what OMP_NUM_THREADS says, else `available_cores`."""
    asked_for = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # "4,2" is for nesting
    return max(1, int(asked_for)) if asked_for.isdigit() else available_cores()


def available_cores() -> int:
    """Cores that this process may use: those that it may run on, and its container's share."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, quota_cores() or cores)


def quota_cores() -> int | None:
    """Return how many cores the container's share is worth, rounded up; None without a limit."""
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return None


P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")


class BoundedPool:
    """Threads with a bounded queue: what waits to be worked on must not fill the memory.

    Leaving its `with` block waits for the work that was given to it, or, after an error, for that
    which has begun.
    """

    def __init__(self, workers: int, pending: int, name: str) -> None:
        """Start with no work.

        Args:
            workers: number of threads.
            pending: pieces of work that may run or wait before `submit` waits.
            name: of the threads.
        """
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._slots = threading.Semaphore(pending)
        self._pending = pending
        self._given: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        after_fork(self)

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Give work to a thread; waits while too much is pending."""
        self._slots.acquire()
        future = self._threads.submit(function, *args, **kwargs)
        future.add_done_callback(lambda _done: self._slots.release())
        self._given.add(future)
        return future

    def orphan(self) -> None:
        """Tell those who wait for results, in a child process that does not have the threads."""
        for future in list(self._given):
            if not future.done():
                future.set_exception(UsageError(FORKED))

    def map(self, function: Callable[[A], R], items: Iterable[A]) -> Iterator[R]:
        """Results in the items' order; takes few items ahead of the one that is asked for."""
        waiting: deque[Future[R]] = deque()
        for item in items:
            if len(waiting) == self._pending:
                yield waiting.popleft().result()
            waiting.append(self.submit(function, item))
        while waiting:
            yield waiting.popleft().result()

    def close(self, cancel: bool = False) -> None:
        """Wait for the work, or with `cancel` for that which has begun; may be called again."""
        self._threads.shutdown(wait=True, cancel_futures=cancel)

    def __enter__(self) -> BoundedPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(cancel=kind is not None)
