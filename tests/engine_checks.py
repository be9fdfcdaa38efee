"""What tests of all engines share: maps, and a process that was forked from the one that loaded."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest


def maps(model, source, **settings) -> list[np.ndarray]:
    """Log-densities of a file's frames at the network's size."""
    return [frame.log_density for frame in model.predict(source, size="model", **settings)]


def needs_forks(test):
    """Mark a test that forks."""
    for mark in (
        pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork"),
        pytest.mark.timeout(300),
        pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    ):
        test = mark(test)
    return test


def assert_a_forked_child_predicts(model, clip: Path) -> None:
    """The child's maps are the parent's, before and after."""
    here = np.stack(maps(model, clip, end=0.2))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(np.stack(maps(model, clip, end=0.2))))
    child.start()
    there = queue.get(timeout=240)
    child.join(30)
    assert child.exitcode == 0
    assert np.array_equal(there, here)
    assert np.array_equal(np.stack(maps(model, clip, end=0.2)), here)
