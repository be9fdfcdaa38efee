import os
import subprocess
import sys
import threading
import time

import pytest

from avsal.prediction.threads import run_ahead


def test_items_arrive_in_order():
    def numbers():
        yield from range(100)

    assert list(run_ahead(numbers, 3)) == list(range(100))


def test_the_producer_stays_within_its_depth():
    made = []

    def numbers():
        for number in range(50):
            made.append(number)
            yield number

    ahead = run_ahead(numbers, 4)
    assert next(ahead) == 0
    time.sleep(0.1)
    assert len(made) <= 6  # one taken, four waiting, one in the producer's hand
    ahead.close()


def test_an_error_in_the_producer_reaches_the_consumer():
    def numbers():
        yield 1
        raise OSError("disk on fire")

    ahead = run_ahead(numbers, 2)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk on fire"):
        next(ahead)


def test_closing_early_closes_the_producer_in_its_own_thread():
    closed = []

    def numbers():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    ahead = run_ahead(numbers, 2)
    next(ahead)
    ahead.close()
    assert closed == ["avsal-producer"]


@pytest.mark.parametrize(
    ("given", "first", "expected"),
    [
        ({}, "avsal", "passive"),
        ({"OMP_WAIT_POLICY": "active"}, "avsal", "active"),
        ({"GOMP_SPINCOUNT": "500"}, "avsal", "None"),
        ({}, "torch, avsal", "None"),  # too late to have any effect
    ],
)
def test_threads_sleep_while_they_wait_unless_told_otherwise(given, first, expected):
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {key: value for key, value in os.environ.items() if key not in ours} | given
    script = f"import os, {first}; print(os.environ.get('OMP_WAIT_POLICY'))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == expected
