import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from avsal.prediction import threads
from avsal.prediction.threads import limit_threads, quota_cores, run_ahead


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


def test_an_interruption_while_the_thread_starts_waits_for_what_it_reads(monkeypatch):
    reading, events = threading.Event(), []

    def numbers():
        reading.set()
        time.sleep(0.05)  # a frame is being decoded
        events.append("read")
        yield 0

    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        assert reading.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(run_ahead(numbers, 2))
    assert events == ["read"]


def test_a_thread_that_starts_after_the_interruption_reads_nothing():
    events = []

    def numbers():
        events.append("read")
        yield 0

    producer = threads._Producer(numbers, 2)
    producer.stop()
    producer.start()
    producer.join(timeout=10)
    assert not events


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


@pytest.mark.parametrize(
    ("text", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", None)],
)
def test_a_container_s_share_in_cores(tmp_path, monkeypatch, text, cores):
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    monkeypatch.setattr(threads, "CPU_QUOTA", tmp_path / "cpu.max")
    assert quota_cores() == cores


def test_without_containers_there_is_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "CPU_QUOTA", tmp_path / "missing")
    assert quota_cores() is None


@pytest.mark.parametrize(("environment", "expected"), [({}, 2), ({"OMP_NUM_THREADS": "5"}, 5)])
def test_torch_gets_no_more_threads_than_cores(monkeypatch, environment, expected):
    used = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "quota_cores", lambda: 2)
    try:
        torch.set_num_threads(5)
        limit_threads()
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(used)
