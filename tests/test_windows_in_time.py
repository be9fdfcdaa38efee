"""The default network's windows: frames at fixed distances in time, at every frame rate."""

from __future__ import annotations

from fractions import Fraction

import pytest

from avsal.media.resample import SAMPLE_RATE
from avsal.prediction.windows import TimeRule

SPACING = Fraction("0.16")


def rule(stride: int = 1) -> TimeRule:
    return TimeRule(4, SPACING, stride)


def times(fps: float, first: int = 0, count: int = 200) -> dict[int, Fraction]:
    return {index: Fraction(index) / Fraction(fps) for index in range(first, count)}


@pytest.mark.parametrize("fps", [60, 50, 30, 25, 24, 12.5])
@pytest.mark.parametrize("stride", [1, 2, 6])
def test_frames_lie_at_fixed_distances_in_time(fps, stride):
    seconds = times(fps)
    window = rule(stride).window(120, seconds, None, False)
    ages = [float(seconds[120] - seconds[index]) for index in window.frames]
    for age, wanted in zip(ages, (0.48, 0.32, 0.16, 0.0), strict=True):
        assert abs(age - wanted) <= 0.045
    assert window.frames[-1] == 120


def test_at_25_frames_a_second_every_fourth_is_seen():
    assert rule(2).window(40, times(25), None, False).frames == (28, 32, 36, 40)


def test_windows_of_a_stride_share_their_frames():
    for fps in (60, 30, 25):
        seconds = times(fps)
        frames = {
            i for t in range(60, 120, 2) for i in rule(2).window(t, seconds, None, False).frames
        }
        assert all(index % 2 == 0 for index in frames)


def test_frames_before_the_first_are_as_the_first():
    assert rule().window(0, times(25), None, False).frames == (0, 0, 0, 0)
    assert rule().window(6, times(25), None, False).frames == (0, 0, 2, 6)


def test_past_frames_count_by_their_own_times():
    seconds = {0: Fraction(0), 1: Fraction("0.1"), 2: Fraction("0.84"), 3: Fraction(1)}
    assert rule().window(3, seconds, None, True).frames == (2, 2, 2, 3)


def test_what_is_forgotten_is_too_old_for_every_window_to_come():
    seconds = times(50)
    past = rule(2).oldest(120, seconds)
    assert seconds[120] - seconds[past] >= Fraction("1.11")
    assert past < min(rule(2).window(120, seconds, None, False).frames)
    remembered = {index: time for index, time in seconds.items() if index >= past}
    for target in (120, 121, 122):
        whole = rule(2).window(target, seconds, None, False)
        assert rule(2).window(target, remembered, None, False) == whole


def test_sound_is_what_was_heard_up_to_the_frame():
    seconds = times(25)
    window = rule().window(50, seconds, None, False)
    start, end = rule().sound(window, 32, seconds.__getitem__)
    assert end == 2 * SAMPLE_RATE
    assert end - start == round(1.11 * SAMPLE_RATE)
    early = rule().window(5, seconds, None, False)
    assert rule().sound(early, 32, seconds.__getitem__) == (0, 3200)
    assert rule().window(51, times(25, count=51), 32, False) is None
