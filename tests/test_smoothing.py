"""Maps over time: the mean of the latest ones, by age and not across cuts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from avsal.prediction.maps import Smoothing, renormalised


def log_densities(count: int) -> np.ndarray:
    maps = np.random.default_rng(0).normal(size=(count, 6, 8)).astype(np.float32)
    return np.stack([renormalised(each) for each in maps])


def test_weights_fall_with_age_and_end():
    """Against the same mean by fine steps over the maps as they change from one to the next."""
    maps = log_densities(12).astype(np.float64)
    times = [Fraction(i * i, 400) for i in range(12)]  # of a rate that varies
    seconds = np.array([float(time) for time in times])
    smoothing = Smoothing(Fraction(1, 10))
    for last, time in enumerate(times):
        found = smoothing.add(time, maps[last], cut=False)
        oldest = min(each for each in seconds[: last + 1] if seconds[last] - each <= 0.3 + 1e-9)
        steps = np.linspace(oldest, seconds[last], 20_001)
        flat = maps.reshape(12, -1)
        course = np.stack([np.interp(steps, seconds, flat[:, cell]) for cell in range(48)])
        mean = np.average(course, axis=1, weights=np.exp((steps - seconds[last]) / 0.1))
        expected = mean - np.log(np.exp(mean).sum())
        np.testing.assert_allclose(found.ravel(), expected, atol=2e-4)


def test_nothing_reaches_across_a_cut():
    maps = log_densities(6)
    whole, part = Smoothing(Fraction(1, 10)), Smoothing(Fraction(1, 10))
    for index in range(6):
        found = whole.add(Fraction(index, 25), maps[index], cut=index == 3)
        if index >= 3:
            assert np.array_equal(found, part.add(Fraction(index, 25), maps[index], cut=False))


def test_without_it_maps_stay_as_they_are():
    maps = log_densities(3)
    smoothing = Smoothing(Fraction(0))
    for index in range(3):
        assert smoothing.add(Fraction(index, 25), maps[index], cut=False) is not None
        assert np.array_equal(
            smoothing.add(Fraction(index, 25), maps[index], cut=False), maps[index]
        )


@pytest.mark.parametrize("rate", [12, 25, 50])
def test_a_steady_change_comes_as_late_at_every_frame_rate(rate):
    """By the time constant, but for what is older than the memory of three."""
    before, after = log_densities(2)
    smoothing = Smoothing(Fraction(1, 12))
    for index in range(rate + 1):
        found = smoothing.add(
            Fraction(index, rate), before + (after - before) * np.float32(index / rate), cut=False
        )
    change = after - before
    change -= change.mean()
    late = 1 - float(((found - before) * change).sum() / (change**2).sum())
    assert late == pytest.approx(0.07, abs=0.002)
