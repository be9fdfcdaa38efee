"""Maps over time: the mean of the latest ones, by age and not across cuts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from avsal.prediction.smoothing import Smoothing


def log_densities(count: int) -> torch.Tensor:
    maps = torch.randn(count, 6, 8, generator=torch.Generator().manual_seed(0))
    return maps - maps.logsumexp(dim=(1, 2), keepdim=True)


def test_weights_fall_with_age_and_end():
    maps = log_densities(12)
    times = [Fraction(i * i, 400) for i in range(12)]  # of a rate that varies
    smoothing = Smoothing(Fraction(1, 10))
    for last, time in enumerate(times):
        found = smoothing.add(time, maps[last], cut=False)
        ages = np.array([float(time - each) for each in times[: last + 1]])
        weights = np.exp(-ages / 0.1) * (ages <= 0.3)
        mean = np.tensordot(weights / weights.sum(), maps[: last + 1].numpy(), axes=1)
        expected = np.exp(mean) / np.exp(mean).sum()
        np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-4)


def test_nothing_reaches_across_a_cut():
    maps = log_densities(6)
    whole, part = Smoothing(Fraction(1, 10)), Smoothing(Fraction(1, 10))
    for index in range(6):
        found = whole.add(Fraction(index, 25), maps[index], cut=index == 3)
        if index >= 3:
            assert torch.equal(found, part.add(Fraction(index, 25), maps[index], cut=False))


def test_without_it_maps_stay_as_they_are():
    maps = log_densities(3)
    smoothing = Smoothing(Fraction(0))
    for index in range(3):
        assert smoothing.add(Fraction(index, 25), maps[index], cut=False) is not None
        assert torch.equal(smoothing.add(Fraction(index, 25), maps[index], cut=False), maps[index])


@pytest.mark.parametrize("rate", [12, 25, 50])
def test_a_jump_takes_as_long_at_every_frame_rate(rate):
    """After 0.2 seconds, two time constants, at least .8 of it are done, at any rate."""
    before, after = log_densities(2)
    smoothing = Smoothing(Fraction(1, 10))
    for index in range(rate):
        smoothing.add(Fraction(index, rate), before, cut=False)
    for index in range(rate, rate + rate // 5 + 1):
        found = smoothing.add(Fraction(index, rate), after, cut=False)
    done = ((found - before) * (after - before)).sum() / ((after - before) ** 2).sum()
    assert 0.8 < done < 1
