"""Frames that a caller decoded: what is taken, with which times, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import samples
import torch
from PIL import Image

from avsal.errors import UsageError
from avsal.media.frames import VideoFrame
from avsal.prediction.live import checked_frames, reader_of
from avsal.prediction.model import load_model

IMAGE = samples.numbered(5)


@pytest.fixture
def predictor(tiny, tiny_weights, one_thread):
    return load_model(tiny, tiny_weights, "cpu", "fp32")


def with_times(times, images=None):
    images = images or [samples.numbered(index) for index in range(len(times))]
    for index, (time, image) in enumerate(zip(times, images, strict=True)):
        yield VideoFrame(index, time, Fraction(1, 25), image)


@pytest.mark.parametrize("given", [{"fps": 25}, {"fps": 25.0}, {"fps": Fraction(25)}])
def test_arrays_at_a_rate_have_exact_times(given):
    found = list(checked_frames([IMAGE] * 3, **given))
    assert [(f.index, f.pts, f.duration) for f in found] == [
        (index, Fraction(index, 25), Fraction(1, 25)) for index in range(3)
    ]
    assert next(checked_frames([IMAGE], fps=29.97)).duration == Fraction(100, 2997)


def test_arrays_with_times_are_shown_until_the_next_one():
    found = list(checked_frames([IMAGE] * 3, times=[0, 0.1, np.float32(0.5)]))
    assert [frame.pts for frame in found] == [0, Fraction(1, 10), Fraction(1, 2)]
    assert [frame.duration for frame in found] == [Fraction(1, 10), Fraction(2, 5), Fraction(2, 5)]


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"times": [0, 40, 80]}, "the second one is shown 40 s after the first; times are seconds"),
        ({"fps": 0.04}, "25 s after the first"),
        ({"times": [100, 101, 200]}, ""),
        ({"fps": 0.5}, ""),
    ],
)
def test_frames_that_are_far_apart_are_told_once(given, note, caplog):
    assert len(list(checked_frames([IMAGE] * 3, **given))) == 3
    assert len(caplog.records) == bool(note)
    assert note in caplog.text


def test_a_live_frame_does_not_wait_for_the_next_time():
    def times():
        yield 0.0
        yield 0.5
        raise AssertionError("asked for a time that has not come")

    found = checked_frames(iter([IMAGE] * 2), times=times(), live=True)
    assert [next(found).duration, next(found).duration] == [0, Fraction(1, 2)]


def test_a_frame_is_given_before_the_next_one_is_taken():
    """So that a caller may decode every frame into the same memory."""
    buffer = np.empty_like(IMAGE)

    def reused():
        for index in range(3):
            np.copyto(buffer, samples.numbered(index))
            yield buffer

    for given in ({"fps": 25}, {"times": [0, 1, 2]}):
        found = [samples.number_of(frame.image) for frame in checked_frames(reused(), **given)]
        assert found == [0, 1, 2]


@pytest.mark.parametrize(
    ("image", "came"),
    [
        (IMAGE / 255, r"ndarray of float64, shape \(48, 64, 3\).*\(frame \* 255\).round\(\)"),
        (IMAGE * 1.0, r"of float64.*such as frame.round\(\)"),
        (IMAGE.astype(np.uint16), r"of uint16.*frame >> 8"),
        (IMAGE > 128, r"of bool.*in RGB$"),
        (IMAGE[..., 0], r"shape \(48, 64\).*dstack"),
        (IMAGE[..., :1], r"shape \(48, 64, 1\).*dstack"),
        (np.dstack([IMAGE, IMAGE[..., :1]]), r"shape \(48, 64, 4\).*:3"),
        (IMAGE.transpose(2, 0, 1), r"shape \(3, 48, 64\).*transpose"),
        (torch.from_numpy(IMAGE), r"Tensor of torch.uint8, shape \(48, 64, 3\).*numpy\(\)$"),
        (torch.from_numpy(IMAGE / 255).permute(2, 0, 1), r"transpose\(1, 2, 0\) \* 255\).round"),
        (Image.fromarray(IMAGE), r"numpy.asarray\(frame.convert\('RGB'\)\)"),
        (av.VideoFrame(64, 48, "rgb24"), r"frame.to_ndarray\(format='rgb24'\)"),
        (IMAGE[:0], r"shape \(0, 64, 3\)"),
        (IMAGE.tolist(), "list; give"),
        ("frame.png", "str; give"),
        (None, "NoneType; OpenCV gives None after the last frame; stop there"),
    ],
)
def test_what_is_no_rgb_picture_is_named(image, came):
    for frames, given in (
        ([IMAGE, image], {"fps": 25}),
        (with_times([Fraction(0), Fraction(1)], [IMAGE, image]), {}),
    ):
        with pytest.raises(UsageError, match=rf"frame 1 has the type .*{came}"):
            list(checked_frames(frames, **given))


@pytest.mark.parametrize(
    "times", [[0, 1, 1, 2], [0, 2, 1, 3], [0, 1, 2, 2, 2, 3], [0, 1, -1], [0, 1, 1]]
)
def test_times_that_do_not_rise_are_refused(predictor, times):
    exact = [Fraction(time, 25) for time in times]
    for maps in (
        predictor.predict_frames(with_times(exact)),
        predictor.predict_frames(with_times(exact), stride=1),
        predictor.predict_frames([IMAGE] * len(times), times=exact),
        predictor.stream(with_times(exact)),
    ):
        with pytest.raises(UsageError, match="is not after the frame before it"):
            list(maps)


@pytest.mark.parametrize(
    ("frames", "given", "why"),
    [
        ("film.mp4", {"fps": 25}, "frames is a path; predict reads files"),
        (Path("film.mp4"), {"fps": 25}, "frames is a path"),
        (IMAGE, {"fps": 25}, r"frames is one array of shape \(48, 64, 3\); give a list"),
        (None, {"fps": 25}, "frames has the type NoneType"),
        ([IMAGE], {"times": 0.5}, "times has the type float"),
    ],
)
def test_what_is_no_sequence_of_frames_is_named(frames, given, why):
    with pytest.raises(UsageError, match=why):
        list(checked_frames(frames, **given))


def test_an_array_of_samples_is_read_like_a_file():
    samples_ = np.linspace(-1, 1, 100)
    reader = reader_of(samples_)
    assert np.array_equal(reader.read(10, 20), samples_[10:20].astype(np.float32))
    assert reader.read(90, 200).size == 10 and reader.read(100, 200).size == 0
    assert reader_of(reader) is reader and reader_of(None) is None


@pytest.mark.parametrize(
    ("audio", "why"),
    [
        (np.zeros(9, np.int16), r"ndarray of int16, shape \(9,\); give a NumPy array"),
        (np.zeros((9, 2)), r"shape \(9, 2\)"),
        ([0.0], "the type list"),
        ("film.wav", "the type str"),
        (np.full(9, 3000.0), "outside -1 to 1"),
        (np.full(9, np.nan), "outside -1 to 1"),
    ],
)
def test_what_is_no_mono_sound_is_named(predictor, audio, why):
    with pytest.raises(UsageError, match=why):
        predictor.predict_frames([IMAGE], audio, fps=25)


@pytest.mark.parametrize(
    ("count", "given", "why"),
    [
        (3, {}, "have no times; give fps or times"),
        (3, {"fps": 25, "times": [0, 1, 2]}, "give only one of them"),
        (3, {"times": [0, 1]}, "there are 2 times but more frames"),
        (2, {"times": [0, 1, 2]}, "there are 2 frames but more times"),
        (3, {"times": [0, float("nan"), 2]}, "the time of frame 1 is nan"),
        (3, {"times": [0, "1", 2]}, "the time of frame 1 is '1'"),
        (3, {"times": np.arange(3).astype("timedelta64[s]")}, "the time of frame 0 is .*give a"),
        (3, {"fps": 0}, "more than 0"),
        (3, {"fps": -25}, "more than 0"),
        (3, {"fps": float("inf")}, "fps is inf"),
        (3, {"fps": "25"}, "fps is '25'"),
        (3, {"fps": 10**400}, "fps is 10000.*; give a number"),
        (3, {"times": [0, 10**400, 1]}, "the time of frame 1 is 10000.*; give a number"),
    ],
)
def test_times_that_cannot_be_right_are_refused(count, given, why):
    with pytest.raises(UsageError, match=why):
        list(checked_frames([IMAGE] * count, **given))


def test_frames_that_have_times_take_no_others():
    with pytest.raises(UsageError, match="times of their own"):
        list(checked_frames(with_times([Fraction(0)]), fps=25))


@pytest.mark.parametrize("first", [1, 5])
def test_frames_are_numbered_from_0_without_a_gap(first):
    frames = [VideoFrame(first, Fraction(0), Fraction(1), IMAGE)]
    with pytest.raises(UsageError, match=f"has the number {first}; number frames from 0"):
        list(checked_frames(frames))


def test_arrays_have_the_maps_of_frames_with_the_same_times(predictor):
    images = [samples.numbered(index) for index in range(20)]
    expected = list(predictor.predict_frames(with_times([Fraction(i, 25) for i in range(20)])))
    for found in (
        list(predictor.predict_frames(images, fps=25)),
        list(predictor.predict_frames(iter(images), times=[i / 25 for i in range(20)])),
    ):
        assert [frame.info for frame in found] == [frame.info for frame in expected]
        for frame, other in zip(found, expected, strict=True):
            assert np.array_equal(frame.density, other.density)


def test_predict_frames_takes_the_keywords_of_predict(predictor):
    images = [samples.numbered(index) for index in range(20)]
    part = list(predictor.predict_frames(images, fps=25, start=0.2, end=0.4, size=(30, 20)))
    assert [frame.index for frame in part] == [5, 6, 7, 8, 9]
    assert part[0].density.shape == (20, 30)
    for wrong in ({"stride": "4"}, {"stride": 0}, {"start": "1"}, {"size": (0, 4)}, {"batch": 1.5}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            predictor.predict_frames(images, fps=25, **wrong)


@pytest.mark.parametrize(
    ("size", "shape"), [("model", (32, 64)), ("30x20", (20, 30)), ((30, 20), (20, 30))]
)
def test_the_size_of_maps_in_every_spelling(predictor, example_clip, size, shape):
    with predictor.predict(example_clip, size=size, end=0.05) as maps:
        assert next(maps).density.shape == shape
    stream = predictor.stream([IMAGE], size, fps=25)
    assert next(stream).density.shape == shape
