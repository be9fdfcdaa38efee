"""The maps of a part of a video are those of the whole: same windows, neighbours, batches, bits."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import samples

from avsal.errors import MediaError
from avsal.media.frames import FrameInfo, VideoFrame
from avsal.prediction.frames import FrameCache, Start
from avsal.prediction.model import load_model
from avsal.prediction.settings import PredictSettings, exact_seconds
from avsal.prediction.shots import ShotFinder
from avsal.prediction.windows import FrameRule, TimeRule

PIXELS = np.zeros((8, 12, 3), np.uint8)
RATES = [Fraction(rate) for rate in (10, 15, 24, 25, 30, 50, 60, 120)]
RATES += [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]


class FakeVideo:
    """Frames at given times, read from the middle on like those of a file."""

    def __init__(self, times):
        ends = [*times[1:], times[-1] + 1]
        self._tags = [
            FrameInfo(index, time, time, end - time, 100, 100)
            for index, (time, end) in enumerate(zip(times, ends, strict=True))
        ]
        self.openings = 0
        self.skip_to(0)

    def skip_to(self, start, lead=0):
        self.openings += 1
        wanted = next((tag.index for tag in self._tags if tag.time >= start), len(self._tags))
        begin = 0 if start <= 0 else max(0, wanted - lead)
        self._left = iter((tag, PIXELS) for tag in self._tags[begin:])

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._left)


class FakeFinder:
    """Knows all cuts, as `ShotFinder` does of those whose surroundings were read."""

    def __init__(self, cuts):
        self._cuts = cuts

    def last_change(self, first, last):
        return max((cut for cut in self._cuts if first <= cut <= last), default=None)


def what_decides_each_map(times, cuts, rule, start=None, end=None):
    """For every frame that gets a map, all that its last bit follows from."""
    settings = PredictSettings(stride=rule.stride, start=start, end=end)
    video = FakeVideo(times)
    frames = Start(video, rule, start).enough(video) if start else video
    first_read, *rest = frames
    trusted = first_read[0].index + 3 if first_read[0].index else 0
    cache = FrameCache(settings, rule, finder=FakeFinder([cut for cut in cuts if cut >= trusted]))
    windows = list(cache.windows([first_read, *rest]))
    found, before = {}, None
    for each, later in zip(windows, smoothed_with(windows, rule), strict=True):
        for tag in (frame.info for frame in each.skipped):
            if each.cut is not None:
                found[tag.index] = later if tag.index >= each.cut else before
            else:
                found[tag.index] = (before, later, tag.time)
        if each.wanted:
            found[each.info.index] = later
        before = later
    return found


def smoothed_with(windows, rule):
    """For each window those whose maps it is smoothed with, each with its batch."""
    shots = np.cumsum([each.cut is not None for each in windows])
    memory, ahead = getattr(rule, "memory", 0), rule.ahead
    known = []
    for place, each in enumerate(windows):
        begin = place // rule.batch * rule.batch
        batch = tuple(other.window for other in windows[begin : begin + rule.batch])
        known.append((each.info.time, each.window, batch))
    for time, shot in zip((time for time, *_ in known), shots, strict=True):
        near = zip(known, shots, strict=True)
        yield tuple(
            each for each, other in near if other == shot and -memory <= each[0] - time <= ahead
        )


def steady(rng, count):
    rate = rng.choice(RATES)
    return [index / rate for index in range(count)]


def in_milliseconds(rng, count):
    return [Fraction(round(time * 1000), 1000) for time in steady(rng, count)]


def unsteady(rng, count):
    rate = rng.choice([24, 25, 30, 50, 60])
    times = [(index + rng.uniform(-0.3, 0.3)) / rate for index in range(count)]
    return [Fraction(round((time - times[0]) * 1000), 1000) for time in times]


def varying(rng, count, pause=0.01):
    """Rates that change, and pauses as in recordings of a screen."""
    times, time, step = [], Fraction(0), 1 / rng.choice(RATES)
    for _ in range(count):
        times.append(time)
        if rng.random() < 0.03:
            step = 1 / rng.choice(RATES)
        time += step
        if rng.random() < pause:
            time += Fraction(rng.randint(1, 300), 100)
    return times


def mostly_pauses(rng, count):
    return varying(rng, count, pause=0.2)


def joined(rng, count):
    """Recordings of several rates one after the other, on a clock that goes on."""
    times = [Fraction(0)]
    while len(times) < count:
        piece = steady(rng, rng.randint(2, 80))
        times += [times[-1] + piece[1] + time for time in piece]
    return times[:count]


def check_a_part(rng, make):
    times = make(rng, rng.randint(5, 260))
    stride, batch = rng.choice([1, 2, 2, 3, 4, 5]), rng.choice([1, 4, 8])
    ahead = Fraction(rng.choice(["0", "0.02", "0.12", "0.5"]))
    rule = TimeRule(4, Fraction("0.16"), stride, Fraction("0.12"), batch, ahead)
    if rng.random() < 0.15:
        rule = FrameRule(stride, batch)
    cuts = [index for index in range(3, len(times)) if rng.random() < 0.02]
    start = round(rng.uniform(0, float(times[-1])), 3)
    if rng.random() < 0.3:
        start = float(rng.choice(times))
    end = round(start + rng.choice([0.06, 0.5, 3]), 3)
    whole = what_decides_each_map(times, cuts, rule)
    part = what_decides_each_map(times, cuts, rule, start, end)
    assert list(whole) == list(range(len(times)))
    wanted = [i for i, t in enumerate(times) if exact_seconds(start) <= t < exact_seconds(end)]
    assert sorted(part) == wanted, (rule, times, start, end)
    assert part == {index: whole[index] for index in wanted}, (rule, cuts, times, start, end)


KINDS = [steady, in_milliseconds, unsteady, varying, mostly_pauses, joined]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_a_part_follows_from_what_the_whole_follows_from(make, seed):
    check_a_part(random.Random(seed), make)


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_parts_follow_from_what_the_whole_follows_from(make, seed):
    rng = random.Random(seed)
    for _ in range(15):
        check_a_part(rng, make)


def test_reading_begins_once_where_times_are_regular():
    """And where the rate changes by no more than a camera's does in poor light."""
    rule = TimeRule(4, Fraction("0.16"), 2, Fraction("0.12"), 4)
    slow_light = [Fraction(index, 30) for index in range(100)]
    slow_light += [slow_light[-1] + Fraction(index, 24) for index in range(1, 100)]
    for times in ([Fraction(index, 30) for index in range(300)], slow_light):
        for start in (0.5, 2.0, 3.37, 5.0):
            video = FakeVideo(times)
            list(Start(video, rule, start).enough(video))
            assert video.openings == 2, start  # opened, and skipped to once


def test_frames_that_no_map_needs_are_let_go_while_the_start_is_sought():
    rule = TimeRule(4, Fraction("0.16"), 2, Fraction("0.12"), 4)
    times = [Fraction(index, 30) for index in range(300)]
    times += [Fraction(60) + Fraction(index, 30) for index in range(60)]  # a pause of a minute
    video = FakeVideo(times)
    first = next(Start(video, rule, 60.0).enough(video))[0].index
    assert 240 < first < 280


@pytest.fixture
def predictor(tiny, tiny_weights, one_thread):
    """Its windows are laid in time and its maps smoothed, as the default network's are."""
    predictor = load_model(tiny, tiny_weights, "cpu", "fp32")
    as_default = {"spacing": "0.04", "smoothing": "0.1", "smoothing_ahead": "0.07", "cpu_batch": 4}
    predictor.variant = replace(predictor.variant, **as_default)
    return predictor


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_maps_around_a_pause_are_those_of_the_whole_bit_for_bit(predictor, tmp_path, stride):
    """On either side of five seconds, from which on files are sought in instead of decoded."""
    times = [Fraction(index, 32) for index in range(40)]
    times += [Fraction(4) + Fraction(index, 25) for index in range(40)]
    times += [Fraction(9) + Fraction(index, 64) for index in range(30)]
    source = samples.variable_rate(tmp_path / "pauses.mp4", times)
    whole = {f.index: f.log_density for f in predictor.predict(source, stride=stride)}
    for start, end in ((1.1, 4.1), (2, 4.4), (4.02, 5), (5.2, 9.1), (8.9, 9.3), (9.1, 10)):
        part = list(predictor.predict(source, stride=stride, start=start, end=end))
        for frame in part:
            assert np.array_equal(frame.log_density, whole[frame.index]), (start, frame.index)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_the_last_maps_of_a_part_are_the_whole_s(predictor, tmp_path, stride):
    """In the same batches, and smoothed with the same later maps."""
    source = samples.constant_rate(tmp_path / "a.mp4", 40)
    whole = {f.index: f.log_density for f in predictor.predict(source, stride=stride)}
    for end in (0.12, 0.4, 1.0, 1.56):
        part = list(predictor.predict(source, end=end, stride=stride))
        assert [frame.index for frame in part] == list(range(round(end * 25)))
        assert all(np.array_equal(frame.log_density, whole[frame.index]) for frame in part)


SLOW_CUTS = [pytest.param(cut, marks=pytest.mark.slow) for cut in (10, 11, 12, 14, 15, 17)]


@pytest.mark.parametrize("cut", [9, 13, 16, *SLOW_CUTS])
def test_a_cut_near_the_end_of_a_part_is_known_there(predictor, cut):
    levels = np.random.default_rng(cut).integers(0, 9, 30) + 90 * (np.arange(30) >= cut)
    pictures = [np.full((64, 128, 3), level, np.uint8) for level in 100 + levels]
    whole = [f.log_density for f in predictor.predict_frames(pictures, fps=25)]
    part = [f.log_density for f in predictor.predict_frames(pictures, fps=25, end=0.48)]
    assert np.array_equal(part, whole[:12])
    shot = [f.log_density for f in predictor.predict_frames(pictures[:cut], fps=25)]
    np.testing.assert_allclose(whole[:cut], shot, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 7])
def test_damage_behind_a_part_does_not_matter(predictor, stride):
    pictures = list(np.random.default_rng(1).integers(0, 255, (15, 64, 128, 3), np.uint8))

    def broken(count):
        for index, picture in enumerate(pictures[:count]):
            yield VideoFrame(index, Fraction(index, 25), Fraction(1, 25), picture)
        raise MediaError("most of it is damaged")

    part = list(predictor.predict_frames(broken(15), end=0.48, stride=stride))
    # Whether a cut lies before one of the last two was not known yet.
    ended = list(predictor.predict_frames(pictures[:13], fps=25, end=0.48, stride=stride))
    assert [frame.index for frame in part] == list(range(12))
    assert all(np.array_equal(a.density, b.density) for a, b in zip(part, ended, strict=True))
    with pytest.raises(MediaError):
        list(predictor.predict_frames(broken(12), end=0.48, stride=stride))


def restless(seed, count):
    """Pictures that change so much that a change judged by half of its surroundings is a cut."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 255, (9, 16, 3)).astype(np.float32)
    for _ in range(count):
        change = rng.normal(0, rng.choice([12, 20, 35, 60]), picture.shape)
        picture = np.clip(picture + change, 0, 255)
        yield np.kron(picture.astype(np.uint8), np.ones((10, 10, 1), np.uint8))


def test_the_cuts_of_a_part_are_those_of_the_whole():
    pictures = list(restless(1, 200))

    def changes(first):
        finder = ShotFinder()
        for index, picture in enumerate(pictures[first:], first):
            finder.add(index, Fraction(index, 25), picture)
        return {index for index, _time in finder.changes}

    whole = changes(0)
    for first in range(1, 150, 4):
        assert changes(first) == {cut for cut in whole if cut >= first + 3}
