from fractions import Fraction

import pytest

from avsal.preprocess.windows import audio_span, latest_frame, latest_time, window_for


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
        assert audio_span(window, context, lambda index: index / fps) == expected


def test_audio_span_follows_the_frames_own_times():
    times = [Fraction(index * index, 100) for index in range(100)]
    window = window_for(30)
    assert audio_span(window, 16, times.__getitem__) == (
        round(times[15] * 16000),
        round(times[32] * 16000),
    )


def test_what_must_be_known_before_a_window_can_be_made():
    assert [latest_frame(target) for target in (0, 14, 15, 16)] == [15, 29, 15, 16]
    assert [latest_time(target, 32) for target in (0, 14, 15, 16)] == [33, 47, 33, 34]
