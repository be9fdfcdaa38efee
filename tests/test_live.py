"""Frames as they come: the latest one gets a map, late ones none, and nothing piles up."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import samples

from avsal.errors import UsageError
from avsal.media.frames import VideoFrame
from avsal.prediction.inputs import resize_frame
from avsal.prediction.live import LatestFrames
from avsal.prediction.model import load_model
from avsal.prediction.windows import FrameRule


@pytest.fixture
def predictor(tiny, tiny_weights):
    return load_model(tiny, tiny_weights, "cpu", "fp32")


def frame(index):
    return VideoFrame(index, Fraction(index, 25), Fraction(1, 25), samples.numbered(index % 256))


class Camera:
    """Gives a frame whenever it is told to, and remembers how many were taken."""

    def __init__(self, make=frame):
        self.taken, self._make = 0, make
        self._allowed = threading.Semaphore(0)
        self._changed = threading.Condition()
        self._ended = False

    def show(self, count):
        """Give frames and wait until they are in the stream."""
        wanted = self.taken + count
        self._allowed.release(count)
        with self._changed:
            # Asking for the next frame says that the one before has been stored.
            assert self._changed.wait_for(lambda: self.taken == wanted, timeout=60)

    def end(self):
        self._ended = True
        self._allowed.release()

    def __iter__(self):
        for index in itertools.count():
            self._allowed.acquire()
            if self._ended:
                return
            yield self._make(index)
            with self._changed:
                self.taken += 1
                self._changed.notify()


def test_the_latest_frame_gets_a_map_and_those_before_are_its_past(predictor):
    camera = Camera()
    stream = predictor.stream(camera)
    expected = {f.index: f for f in predictor.predict_frames(map(frame, range(60)))}
    threading.Timer(0, camera.show, [1]).start()
    assert next(stream).index == 0
    for last in (20, 21, 50):
        camera.show(last - camera.taken + 1)
        found = next(stream)
        assert found.index == last
        assert found.density.shape == (48, 64)
        assert np.abs(found.log_density - expected[last].log_density).max() < 1e-4
    camera.end()
    assert list(stream) == []


def test_the_first_frames_are_predicted_like_still_images(predictor):
    still = VideoFrame(0, Fraction(0), Fraction(1, 25), samples.numbered(3))
    (alone,) = predictor.predict_frames([still])
    camera = Camera()
    stream = predictor.stream(camera)
    threading.Timer(0, camera.show, [4]).start()
    found = next(f for f in stream if f.index == 3)
    assert np.abs(found.log_density - alone.log_density).max() < 1e-4
    camera.end()


def test_every_frame_gets_its_map_where_the_network_is_fast_enough(predictor):
    camera = Camera()
    stream = predictor.stream(camera)
    indices = []
    threading.Timer(0, camera.show, [1]).start()
    for _ in range(5):
        indices.append(next(stream).index)
        camera.show(1)
    assert indices == [0, 1, 2, 3, 4]
    camera.end()
    assert [f.index for f in stream] == [5]


def test_memory_does_not_grow_while_nobody_asks():
    shrink = partial(resize_frame, size=(32, 64))
    with LatestFrames(map(frame, range(500)), lambda *_size: shrink, FrameRule(1)) as latest:
        latest._thread.join(10)
        assert len(latest._frames) <= 16
        assert len(latest._changes) <= 16
        assert latest.window().window.frames == tuple(range(484, 500))
        assert latest.window() is None


def test_maps_are_smoothed_with_earlier_ones_but_not_across_a_cut(predictor):
    """As of a file whose every frame is predicted, if no later maps were used there."""
    variant = replace(predictor.variant, spacing="0.04", smoothing="0.1")
    predictor.variant = variant
    colours = [np.full((48, 64, 3), 40 + 3 * i if i < 6 else 200 - 3 * i, "u1") for i in range(12)]
    frames = [VideoFrame(i, Fraction(i, 25), Fraction(1, 25), c) for i, c in enumerate(colours)]
    expected = list(predictor.predict_frames(frames))
    of_files = {"smoothing": "0.3", "smoothing_ahead": "0.2"}
    predictor.variant = replace(variant, **of_files, smoothing_live="0.1")
    camera = Camera(frames.__getitem__)
    stream = predictor.stream(camera)
    threading.Timer(0, camera.show, [1]).start()
    for each in expected[:-1]:
        found = next(stream)
        assert found.index == each.index
        assert np.abs(found.log_density - each.log_density).max() < 1e-4
        camera.show(1)
    camera.end()


def test_an_error_of_the_camera_reaches_the_consumer(predictor):
    def unplugged():
        yield frame(0)
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(predictor.stream(unplugged()))


def test_a_clock_goes_on_when_the_camera_ends(predictor):
    pictures = [samples.numbered(n) for n in range(3)]
    found = list(predictor.stream(pictures, times=itertools.count(5, 0.5)))
    assert (found[-1].index, found[-1].pts) == (2, 6)
    with pytest.raises(UsageError, match="there are 2 times but more frames"):
        list(predictor.stream(pictures, times=[0, 1]))


def test_leaving_early_ends_the_thread(predictor):
    camera = Camera()
    stream = predictor.stream(camera)
    threading.Timer(0, camera.show, [1]).start()
    next(stream)
    camera.end()
    stream.close()
    assert not [t for t in threading.enumerate() if t.name == "avsal-live"]
