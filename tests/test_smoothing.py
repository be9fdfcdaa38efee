"""Maps over time: the mean of those around, by distance in time and not across cuts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from avsal.prediction.maps import Smoothing, renormalised


def log_densities(count: int) -> np.ndarray:
    maps = np.random.default_rng(0).normal(size=(count, 6, 8)).astype(np.float32)
    return np.stack([renormalised(each) for each in maps])


TIMES = [Fraction(i * i, 400) for i in range(12)]  # of a rate that varies


def smoothed(smoothing, times, maps, cuts=()):
    """All smoothed maps, and how many were known after each map."""
    found, known = [], []
    for number, (time, each) in enumerate(zip(times, maps, strict=True)):
        found += smoothing.add(time, each, cut=number in cuts)
        known.append(len(found))
    return found + smoothing.end(), known


@pytest.mark.parametrize("future", ["0", "0.02", "0.1", "0.15"])
def test_weights_fall_with_distance_and_end(future):
    """Against the same mean by fine steps over the maps as they change from one to the next."""
    maps = log_densities(12).astype(np.float64)
    seconds = np.array([float(time) for time in TIMES])
    course = maps.reshape(12, -1)
    found, _known = smoothed(Smoothing(Fraction(1, 10), Fraction(future)), TIMES, maps)
    assert len(found) == 12
    for time, map_ in zip(seconds, found, strict=True):
        ahead = 3 * float(future)
        near = seconds[(seconds >= time - 0.3 - 1e-9) & (seconds <= time + ahead + 1e-9)]
        mean, total = np.zeros(48), 0.0
        for first, last, constant in ((near[0], time, 0.1), (time, near[-1], float(future))):
            if first == last:
                continue
            steps = first + (last - first) * (np.arange(20_000) + 0.5) / 20_000
            weights = np.exp(-np.abs(steps - time) / constant) * (last - first)
            inside = np.stack([np.interp(steps, seconds, course[:, cell]) for cell in range(48)])
            mean, total = mean + inside @ weights, total + weights.sum()
        mean = mean / total if total else course[seconds == time][0]
        expected = mean - np.log(np.exp(mean).sum())
        np.testing.assert_allclose(map_.ravel(), expected, atol=2e-4)


def test_a_map_waits_for_later_ones_only_as_long_as_they_have_weight():
    times, maps = [Fraction(number, 10) for number in range(6)], log_densities(6)
    found, known = smoothed(Smoothing(Fraction(1, 10), Fraction(1, 15)), times, maps)
    assert (known, len(found)) == ([0, 0, 1, 2, 3, 4], 6)
    _found, known = smoothed(Smoothing(Fraction(1, 10)), times, maps)
    assert known == [1, 2, 3, 4, 5, 6]
    _found, known = smoothed(Smoothing(Fraction(1, 10), Fraction(1, 15)), times, maps, cuts=[3])
    assert known == [0, 0, 1, 3, 3, 4]


def test_nothing_reaches_across_a_cut():
    times, maps = [Fraction(index, 25) for index in range(6)], log_densities(6)
    constants = Fraction(1, 10), Fraction(1, 10)
    whole, _known = smoothed(Smoothing(*constants), times, maps, cuts=[3])
    for part in (slice(0, 3), slice(3, 6)):
        alone, _known = smoothed(Smoothing(*constants), times[part], maps[part])
        assert np.array_equal(whole[part], alone)


def test_a_map_alone_stays_as_it_is():
    (only,) = log_densities(1)
    (found,), _known = smoothed(Smoothing(Fraction(1, 10), Fraction(1, 10)), [Fraction(0)], [only])
    assert found is only


def test_without_it_maps_stay_as_they_are():
    times, maps = [Fraction(index, 25) for index in range(3)], log_densities(3)
    found, known = smoothed(Smoothing(Fraction(0)), times, maps)
    assert known == [1, 2, 3]
    assert np.array_equal(found, maps)


def lateness(rate, *constants):
    """Seconds by which a steady change comes late, one second after it began."""
    before, after = log_densities(2)
    change = after - before
    times = [Fraction(index, rate) for index in range(2 * rate + 1)]
    maps = [before + change * np.float32(time) for time in times]
    found, _known = smoothed(Smoothing(*map(Fraction, constants)), times, maps)
    change -= change.mean()
    return 1 - float(((found[rate] - before) * change).sum() / (change**2).sum())


@pytest.mark.parametrize("rate", [12, 25, 50])
def test_a_steady_change_comes_as_late_at_every_frame_rate(rate):
    """By the time constant, but for what is older than the memory of three."""
    assert lateness(rate, "1/12") == pytest.approx(0.07, abs=0.002)


@pytest.mark.parametrize("rate", [12, 25, 50])
def test_a_steady_change_is_not_late_where_later_maps_count_as_much(rate):
    assert lateness(rate, "1/12", "1/12") == pytest.approx(0, abs=0.002)
    assert lateness(rate, "1/6", "1/12") == pytest.approx(0.07, abs=0.004)
