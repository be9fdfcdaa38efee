"""The bounded pool: order, the bound, and what becomes of work after an error."""

from __future__ import annotations

import threading

import pytest

from avsal.prediction.threads import BoundedPool


def test_results_come_in_order_and_few_items_are_taken_ahead():
    taken: list[int] = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    with BoundedPool(2, 3, "test") as pool:
        results = pool.map(lambda number: number * number, items())
        assert next(results) == 0
        assert len(taken) <= 4
        assert list(results) == [number * number for number in range(1, 20)]


def test_submit_waits_while_too_much_is_pending():
    free = threading.Event()
    with BoundedPool(1, 2, "test") as pool:
        for _ in range(2):
            pool.submit(free.wait)
        third = threading.Thread(target=pool.submit, args=(int,))
        third.start()
        third.join(0.1)
        assert third.is_alive()
        free.set()
        third.join(10)
        assert not third.is_alive()


def test_after_an_error_what_has_not_begun_is_left():
    begun, free, done = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        free.wait()

    with pytest.raises(KeyError), BoundedPool(1, 5, "test") as pool:
        pool.submit(first)
        begun.wait()
        waiting = pool.submit(done.append, 1)
        waiting.add_done_callback(lambda _future: free.set())
        raise KeyError
    assert done == [] and waiting.cancelled()


def test_a_failure_is_raised_where_the_result_is_asked_for():
    with BoundedPool(2, 2, "test") as pool, pytest.raises(ZeroDivisionError):
        list(pool.map(lambda number: 1 / number, [1, 0]))
