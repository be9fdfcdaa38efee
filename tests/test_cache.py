"""Which windows a stream of frames gives, and what is kept meanwhile."""

from fractions import Fraction

import numpy as np
import pytest

from avsal.media.frames import FrameInfo
from avsal.prediction.frames import FrameCache
from avsal.prediction.settings import PredictSettings
from avsal.prediction.windows import FrameRule, TimeRule


class FakeSound:
    """Remembers what it was asked for."""

    def __init__(self):
        self.spans, self.released = [], []

    def read(self, start, end):
        assert not self.released or start >= self.released[-1]
        self.spans.append((start, end))
        return np.zeros(end - start, np.float32)

    def release(self, before):
        self.released.append(before)


def video(count, fps=25, first=0):
    for index in range(first, count):
        yield small_frame(index, index % 256, fps)


def small_frame(index, level, fps=25):
    tag = FrameInfo(index, Fraction(index, fps), Fraction(index, fps), Fraction(1, fps), 20, 10)
    return tag, np.full((32, 64, 3), level, np.uint8)


def feed(frames, sound=None, **settings):
    rule = FrameRule(settings.get("stride") or 1)
    return list(FrameCache(PredictSettings(**settings), rule, sound).windows(frames))


def outputs(inputs):
    """All frames that get a map, skipped ones before the predicted one."""
    return [
        tag.index
        for each in inputs
        for tag in (*(frame.info for frame in each.skipped), *([each.info] if each.wanted else []))
    ]


@pytest.mark.parametrize("count", [1, 2, 16, 17, 31, 40])
@pytest.mark.parametrize("stride", [1, 3, 20])
@pytest.mark.parametrize("with_sound", [False, True])
def test_every_frame_gets_a_map_once_and_in_order(count, stride, with_sound):
    inputs = feed(video(count), FakeSound() if with_sound else None, stride=stride)
    assert outputs(inputs) == list(range(count))
    targets = [each.window.target for each in inputs]
    assert targets == sorted({*range(0, count, stride), count - 1})


@pytest.mark.parametrize("stride", [1, 7, 25, 100])
@pytest.mark.parametrize("count", [1, 5, 20, 40, 90])
@pytest.mark.parametrize("end", [None, 1.3])
@pytest.mark.parametrize("with_sound", [False, True])
def test_each_window_holds_its_frames(count, stride, end, with_sound):
    sound = FakeSound() if with_sound else None
    for inputs in feed(video(count), sound, stride=stride, end=end):
        assert tuple(frame.info.index for frame in inputs.frames) == inputs.window.frames
        for frame in inputs.frames:
            assert np.all(frame.pixels == frame.info.index)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (0, 99)),
        (0.0, 1.0, (0, 24)),
        (1.0, 2.0, (25, 49)),
        (3.9, None, (98, 99)),
        (None, 0.04, (0, 0)),
        (1.01, 1.05, (26, 26)),
    ],
)
@pytest.mark.parametrize("stride", [1, 3])
def test_start_and_end_choose_frames_by_time(start, end, expected, stride):
    inputs = feed(video(100), start=start, end=end, stride=stride)
    assert outputs(inputs) == list(range(expected[0], expected[1] + 1))


@pytest.mark.parametrize("stride", [1, 2, 7])
@pytest.mark.parametrize(("start", "end"), [(0.2, 2.0), (1.0, 2.0), (3.0, None), (2.52, 2.53)])
def test_a_part_gets_the_windows_of_the_whole(stride, start, end):
    whole = feed(video(100), FakeSound(), stride=stride)
    part = feed(video(100), FakeSound(), stride=stride, start=start, end=end)
    windows = {inputs.window.target: inputs for inputs in whole}
    for inputs in part:
        assert inputs.window == windows[inputs.window.target].window
    first = round(start * 25)
    assert part[0].window.target <= first
    assert first in (part[0].window.target, *outputs(part))


def test_targets_are_counted_from_the_first_frame():
    """`--start 1.0` with a stride of 2 runs on the even frames, not on 25, 27, 29, ..."""
    inputs = feed(video(100), start=1.0, end=1.2, stride=2)
    assert [each.window.target for each in inputs] == [24, 26, 28, 30]
    assert outputs(inputs) == [25, 26, 27, 28, 29]


def test_a_reader_may_begin_shortly_before_the_start():
    for stride in (1, 4):
        whole = feed(video(100), FakeSound(), start=2.6, stride=stride)
        part = feed(
            video(100, first=65 - FrameRule(stride).before[1]),
            FakeSound(),
            start=2.6,
            stride=stride,
        )
        assert [each.window for each in part] == [each.window for each in whole]


@pytest.mark.parametrize("stride", [2, 7, 8, 12])
@pytest.mark.parametrize("late", range(4))
def test_frames_chosen_by_time_may_begin_between_two_targets(stride, late):
    rule = TimeRule(5, Fraction(16, 100), stride)
    settings = PredictSettings(start=2.6, end=3, stride=stride)
    whole = list(FrameCache(settings, rule).windows(video(100)))
    first = 65 - int(rule.before[0] * 25) - rule.before[1] - late
    part = list(FrameCache(settings, rule).windows(video(100, first=first)))
    assert [each.window for each in part] == [each.window for each in whole]
    assert outputs(part) == list(range(65, 75))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("stride", [1, 2, 7])
@pytest.mark.parametrize("start", [0.2, 2.6])
def test_what_maps_are_smoothed_with_is_predicted_before_them(stride, batch, start):
    """In the batches of the whole video."""
    rule = TimeRule(5, Fraction(16, 100), stride, Fraction(1, 10), batch)
    settings = PredictSettings(start=start, end=3, stride=stride)
    first = round(start * 25)
    frames = video(100, first=max(0, first - int(rule.before[0] * 25) - rule.before[1]))
    part = list(FrameCache(settings, rule).windows(frames))
    whole = FrameCache(PredictSettings(stride=stride), rule).windows(video(100))
    windows = {each.window.target: each.window for each in whole}
    assert all(each.window == windows[each.window.target] for each in part)
    assert outputs(part) == list(range(first, 75))
    own = first - first % stride
    needed = [target for target in range(0, own + 1, stride) if own - target <= 0.3 * 25]
    targets = [each.window.target for each in part]
    assert targets[0] == needed[0] // (stride * batch) * stride * batch
    assert len(targets) % batch == 0 or targets[-1] == 99


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("stride", [1, 2, 7])
@pytest.mark.parametrize("ahead", [0, 5])
def test_what_maps_are_smoothed_with_is_predicted_after_them(stride, batch, ahead):
    """In the batches of the whole video, and nothing is read that tells no more."""
    constants = Fraction(1, 10), batch, Fraction(ahead, 75)
    rule, read = TimeRule(5, Fraction(16, 100), stride, *constants), []
    frames = (read.append(frame[0].index) or frame for frame in video(100))
    part = list(FrameCache(PredictSettings(stride=stride, end=1), rule).windows(frames))
    assert outputs(part) == list(range(25))
    own = -(-24 // stride) * stride
    needed = (own + ahead) // stride + 1
    count = -(-needed // batch) * batch
    assert [each.window.target for each in part] == list(range(0, count * stride, stride))
    assert read[-1] == max(25, (count - 1) * stride, own + ahead + 1 if ahead else 0)


def test_a_start_behind_the_end_gives_nothing():
    assert feed(video(10), start=5.0) == []


def test_sound_is_cut_by_the_frames_times_from_the_first_frame_on():
    sound = FakeSound()
    feed(video(60), sound)
    assert sound.spans[0] == (0, round(33 / 25 * 16000))
    assert sound.spans[14] == (round(14 / 25 * 16000), round(47 / 25 * 16000))
    assert sound.spans[15] == (0, round(33 / 25 * 16000))
    assert sound.spans[59] == (round(44 / 25 * 16000), round(77 / 25 * 16000))


def test_training_s_sound_is_shorter():
    sound = FakeSound()
    feed(video(40), sound, audio_context=16)
    assert sound.spans[20] == (round(5 / 25 * 16000), round(22 / 25 * 16000))


@pytest.mark.parametrize("stride", [1, 300])
@pytest.mark.parametrize("start", [None, 12.0])
def test_memory_does_not_grow_with_the_video(stride, start):
    """Not with its length, nor with what lies before the start, but for one stride before it."""
    cache = FrameCache(PredictSettings(stride=stride, start=start), FrameRule(stride), FakeSound())
    most = 0

    def watched():
        nonlocal most
        for tag, pixels in video(700):
            yield tag, pixels
            most = max(most, len(cache._frames))
            assert len(cache._passed) <= 64 + stride

    for _ in cache.windows(watched()):
        pass
    assert most <= (64 if start is None else 64 + stride)


def scenes(*levels):
    for index, level in enumerate(levels):
        yield small_frame(index, level)


@pytest.mark.parametrize("stride", [2, 4, 30])
@pytest.mark.parametrize("first", [1, 18, 21, 40])
def test_a_cut_is_found_by_the_window_after_it(stride, first):
    inputs = feed(scenes(*[50] * first, *[90] * (41 - first)), stride=stride)
    after = next(each for each in inputs if each.window.target >= first)
    assert after.cut == first
    assert [each.cut for each in inputs if each is not after] == [None] * (len(inputs) - 1)


def test_a_change_that_is_slow_or_between_no_frames_is_no_cut():
    assert not any(each.cut for each in feed(scenes(*range(0, 160, 4)), stride=4))
    assert not any(each.cut for each in feed(scenes(*[50] * 20, *[90] * 20), stride=1))
