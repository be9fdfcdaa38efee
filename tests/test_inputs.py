from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch

from avsal.prediction.feed import WindowFeed
from avsal.prediction.settings import PredictSettings
from avsal.preprocess.frames import normalise, resize_frame

SIZE = (32, 64)


@dataclass(frozen=True)
class FakeFrame:
    index: int
    pts: Fraction
    duration: Fraction
    image: np.ndarray


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


def video(count, fps=25, start=Fraction(0)):
    for index in range(count):
        image = np.full((10, 20, 3), index % 256, np.uint8)
        yield FakeFrame(index, start + Fraction(index, fps), Fraction(1, fps), image)


def feed(frames, sound=None, origin=Fraction(0), **settings):
    return list(WindowFeed(PredictSettings(**settings), SIZE, sound, origin).windows(frames))


def outputs(inputs):
    """All frames that get a map, skipped ones before the predicted one."""
    return [tag.index for each in inputs for tag in (*each.skipped, each.tag)]


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
def test_each_window_s_frames_came_with_it_or_before(count, stride, end, with_sound):
    seen = {}
    sound = FakeSound() if with_sound else None
    for each in feed(video(count), sound, stride=stride, end=end):
        assert not seen.keys() & each.new_frames.keys()
        seen.update(each.new_frames)
        for index in each.window.frames:
            assert torch.all(seen[index] == index)


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


def test_a_part_gets_the_windows_of_the_whole():
    whole = {each.window.target: each for each in feed(video(100), FakeSound())}
    for each in feed(video(100), FakeSound(), start=0.2, end=2.0):
        assert each.window == whole[each.window.target].window


def test_a_start_behind_the_end_gives_nothing():
    assert feed(video(10), start=5.0) == []


def test_sound_is_cut_by_the_frames_times_from_the_first_frame_on():
    sound = FakeSound()
    feed(video(60, start=Fraction(7, 3)), sound, origin=Fraction(7, 3))
    assert sound.spans[0] == (0, round(33 / 25 * 16000))
    assert sound.spans[14] == (round(14 / 25 * 16000), round(47 / 25 * 16000))
    assert sound.spans[15] == (0, round(33 / 25 * 16000))
    assert sound.spans[59] == (round(44 / 25 * 16000), round(77 / 25 * 16000))


def test_training_s_sound_is_shorter():
    sound = FakeSound()
    feed(video(40), sound, audio_context=16)
    assert sound.spans[20] == (round(5 / 25 * 16000), round(22 / 25 * 16000))


@pytest.mark.parametrize("stride", [1, 300])
def test_memory_does_not_grow_with_the_video(stride):
    feeder = WindowFeed(PredictSettings(stride=stride), SIZE, FakeSound(), Fraction(0))
    most = 0
    for _ in feeder.windows(video(400)):
        most = max(most, len(feeder._pixels))
    assert most <= 64
    assert len(feeder._tags) <= 64 + stride


def scenes(*levels, fps=25):
    for index, level in enumerate(levels):
        image = np.full((10, 20, 3), level, np.uint8)
        yield FakeFrame(index, Fraction(index, fps), Fraction(1, fps), image)


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


def test_resizing_and_normalising_agree_with_the_published_transform(parity):
    with np.load(parity / "golden" / "image_transform.npz") as golden:
        for index in (0, 40):
            resized = resize_frame(golden[f"frame.{index}"], (224, 384))
            values = normalise(resized[None])[0].flatten()[golden[f"index.{index}"]]
            assert np.abs(values.numpy() - golden[f"values.{index}"]).max() <= 1e-5
