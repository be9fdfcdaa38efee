"""The default network's input has the picture's own shape; published networks' stays fixed."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from avsal import load_model
from avsal.media.frames import VideoFrame
from avsal.prediction.inputs import size_near
from avsal.prediction.settings import MapSize

AREA = 224 * 384


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (1920, 1080, (224, 384)),
        (1080, 1920, (384, 224)),
        (640, 480, (256, 352)),
        (480, 640, (352, 256)),
        (720, 720, (288, 288)),
        (3000, 2000, (256, 352)),
        (2350, 1000, (192, 448)),
    ],
)
def test_the_size_nearest_to_a_shape(width, height, size):
    assert size_near(AREA, width / height) == size


@pytest.mark.parametrize("ratio", [0.01, 0.2, 0.37, 1.0, 1.9, 6.0, 100.0])
def test_every_shape_has_a_size_of_about_the_area(ratio):
    height, width = size_near(AREA, ratio)
    assert height % 32 == width % 32 == 0
    assert abs(math.log(height * width / AREA)) < 0.06


def frames(height: int, width: int, count: int = 3) -> list[VideoFrame]:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    step = Fraction(1, 25)
    return [VideoFrame(index, index * step, step, image) for index in range(count)]


@pytest.fixture(scope="module")
def untrained():
    return load_model("small-224x384", "untrained", device="cpu")


def test_maps_have_the_shape_of_the_network_s_input(untrained):
    for height, width, size in ((96, 54, (384, 224)), (54, 96, (224, 384)), (60, 60, (288, 288))):
        for map_size, shape in ((MapSize("model"), size), (MapSize("video"), (height, width))):
            from avsal.prediction.settings import PredictSettings

            settings = PredictSettings(size=map_size)
            (*_, last) = untrained.predict_frames(frames(height, width), settings=settings)
            assert last.log_density.shape == size
            assert last.density.shape == shape
            assert abs(float(last.density.sum()) - 1) < 1e-4


def test_a_stream_has_the_shape_of_its_frames(untrained):
    (*_, last) = untrained.stream(frames(96, 54))
    assert last.log_density.shape == (384, 224)


def test_pixels_that_are_not_square_count(untrained):
    assert untrained.input_size(576, 720, Fraction(64, 45)) == (224, 384)
    assert untrained.input_size(576, 720) == (256, 320)
