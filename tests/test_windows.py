from fractions import Fraction

import pytest

from avsal.prediction.windows import FrameRule, target_from, target_until, window_for


def test_a_frame_with_full_past_is_the_last_of_its_window():
    window = window_for(40)
    assert window.frames == tuple(range(25, 41))
    assert (window.first, window.reverse) == (25, False)


@pytest.mark.parametrize("target", [0, 7, 14])
def test_the_first_frames_come_from_the_future_played_backwards(target):
    window = window_for(target, last=100)
    assert window.frames == tuple(range(target + 15, target - 1, -1))
    assert window.frames[-1] == target
    assert (window.first, window.reverse) == (target, True)


def test_frame_15_is_the_first_forward_window():
    assert not window_for(15).reverse
    assert window_for(15).frames[0] == 0


@pytest.mark.parametrize("count", range(1, 40))
def test_every_frame_of_a_video_of_any_length_has_a_window_inside_it(count):
    for target in range(count):
        window = window_for(target, last=count - 1)
        assert len(window.frames) == 16
        assert min(window.frames) >= 0
        assert max(window.frames) <= count - 1
        assert window.frames[-1] == target


def test_short_clips_repeat_their_last_frame():
    assert window_for(0, last=0).frames == (0,) * 16
    assert window_for(1, last=3).frames == (3,) * 13 + (3, 2, 1)


@pytest.mark.parametrize(("target", "last"), [(-1, None), (5, 4)])
def test_frames_outside_the_video_have_no_window(target, last):
    with pytest.raises(ValueError, match="outside"):
        window_for(target, last)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(10), Fraction(60)])
@pytest.mark.parametrize("context", [16, 32])
def test_audio_span_is_the_published_rule_at_a_constant_rate(fps, context):
    for target in (0, 14, 15, 99):
        window = window_for(target)
        start = target if target < 15 else target - 15
        expected = (
            round(start / fps * 16000),
            round((start + context + 1) / fps * 16000),
        )
        assert FrameRule(1).sound(window, context, lambda index: index / fps) == expected


def test_audio_span_follows_the_frames_own_times():
    times = [Fraction(index * index, 100) for index in range(100)]
    window = window_for(30)
    assert FrameRule(1).sound(window, 16, times.__getitem__) == (
        round(times[15] * 16000),
        round(times[32] * 16000),
    )


def times(count, first=0):
    return {index: Fraction(index, 25) for index in range(first, count)}


@pytest.mark.parametrize(
    ("target", "context", "latest"),
    [
        (0, None, 15),
        (14, None, 29),
        (15, None, 15),
        (16, None, 16),
        (0, 32, 33),
        (14, 32, 47),
        (15, 32, 33),
        (16, 32, 34),
        (16, 16, 18),
    ],
)
def test_what_must_be_known_before_a_window_can_be_made(target, context, latest):
    rule = FrameRule(1)
    assert rule.window(target, times(latest), context, ended=False) is None
    assert rule.window(target, times(latest + 1), context, ended=False) == window_for(target)


def test_at_the_end_nothing_more_need_be_known():
    for target in (0, 3, 19):
        found = FrameRule(1).window(target, times(20), 32, ended=True)
        assert found == window_for(target, last=19)


@pytest.mark.parametrize("last", [3, 20, 47, 61])
@pytest.mark.parametrize("stride", [1, 2, 7, 30])
def test_no_window_to_come_sees_what_may_be_forgotten(last, stride):
    """Whatever frame is next to be predicted, and wherever the video ends."""
    for read in range(last + 1):
        for target in range(0, last + 1, stride):
            oldest = FrameRule(stride).oldest(target, times(read + 1))
            for coming in {*range(target, last + 1), last}:
                if coming >= target or coming >= read:
                    assert min(window_for(coming, last).frames) >= oldest


def test_the_network_runs_on_multiples_of_the_stride_and_on_the_last_frame():
    assert [target_from(index, 4) for index in (0, 1, 4, 5)] == [0, 4, 4, 8]
    assert [target_until(index, 4) for index in (0, 3, 4, 5)] == [0, 0, 4, 4]
    assert [target_from(index, 4, last=6) for index in (4, 5, 6)] == [4, 6, 6]


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_frames_before_the_first_wanted_one_suffice_for_its_map(stride):
    for first in range(60):
        target = target_until(first, stride)
        assert min(window_for(target).frames) >= first - FrameRule(stride).before[1]
