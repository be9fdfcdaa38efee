"""Worker threads that may fall behind by a few pieces of work only."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, TypeVar

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

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Give work to a thread; waits while too much is pending."""
        self._slots.acquire()
        future = self._threads.submit(function, *args, **kwargs)
        future.add_done_callback(lambda _done: self._slots.release())
        return future

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
