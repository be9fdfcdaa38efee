from fractions import Fraction

import numpy as np
import pytest

from avsal.errors import UsageError
from avsal.media.frames import FrameTag
from avsal.prediction.saliency import SaliencyFrame
from avsal.results.overlay import predicted_maps
from avsal.results.render import mass_level, overlay
from avsal.results.style import Colormap, OverlayStyle


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)


@pytest.fixture
def spot():
    y, x = np.mgrid[:90, :160]
    return np.exp(-((x - 40) ** 2 + (y - 30) ** 2) / 200).astype(np.float32)


def test_the_picture_stays_where_no_one_looks(image, spot):
    drawn = overlay(image, spot, OverlayStyle())
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn[70:, 120:], image[70:, 120:])
    assert not np.array_equal(drawn[30, 40], image[30, 40])


def test_full_opacity_shows_the_heat_alone(image):
    full = overlay(image, np.ones((90, 160), np.float32), OverlayStyle(alpha=1.0))
    assert len(np.unique(full.reshape(-1, 3), axis=0)) == 1


def test_no_opacity_shows_the_picture_alone(image, spot):
    assert np.array_equal(overlay(image, spot, OverlayStyle(alpha=0.0)), image)


@pytest.mark.parametrize("name", Colormap)
def test_every_colormap_draws(image, spot, name):
    assert overlay(image, spot, OverlayStyle(name)).shape == image.shape


def test_hot_is_red_green_blue_not_reversed(image):
    drawn = overlay(image, np.full((90, 160), 0.3, np.float32), OverlayStyle("hot", 1.0))
    plain = overlay(np.zeros_like(image), np.full((90, 160), 0.3, np.float32), OverlayStyle("hot"))
    assert drawn.shape == image.shape
    assert plain[..., 0].mean() > plain[..., 2].mean()


def test_maps_of_another_size_are_brought_to_the_frame(image, spot):
    assert overlay(image, spot[::2, ::2], OverlayStyle()).shape == image.shape


def test_side_by_side_keeps_the_original_on_the_left(image, spot):
    drawn = overlay(image, spot, OverlayStyle(side_by_side=True))
    assert drawn.shape == (90, 320, 3)
    assert np.array_equal(drawn[:, :160], image)


def test_contours_enclose_their_share_of_the_gaze(image, spot):
    for share in (0.25, 0.5, 0.75):
        inside = spot[spot >= mass_level(spot, share)].sum() / spot.sum()
        assert share <= inside < share + 0.02
    drawn = overlay(image, spot, OverlayStyle(contours=True))
    changed = np.any(drawn != image, axis=2)
    assert 0 < changed.mean() < 0.2


def test_contours_enclose_shares_of_the_density_not_of_what_exceeds_its_minimum(spot):
    """Half of all gaze is spread evenly: the line of 50 % lies far outside the hill's own."""
    density = (spot / spot.sum() + 1 / spot.size) / 2
    frame = SaliencyFrame(FrameTag(0, *[Fraction(0)] * 3, 160, 90), density, density)
    ((_index, drawn_density, span),) = predicted_maps([frame])
    black = np.zeros((90, 160, 3), np.uint8)
    drawn = overlay(black, drawn_density, OverlayStyle(contours=True), span)
    red, blue = drawn[..., 0], drawn[..., 2]
    for share, line in ((0.25, (red > 128) & (blue > 128)), (0.5, (red > 128) & (blue < 64))):
        inside = density >= mass_level(density, share)
        assert share <= density[inside].sum() < share + 0.02
        for drawn_places, wanted in zip(np.nonzero(line), np.nonzero(inside), strict=True):
            assert abs(np.ptp(drawn_places) - np.ptp(wanted)) <= 2


@pytest.mark.parametrize("style", [{"colormap": "grue"}, {"alpha": 1.5}, {"alpha": -0.1}])
def test_impossible_styles_are_refused(style):
    with pytest.raises(UsageError):
        OverlayStyle(**style)
