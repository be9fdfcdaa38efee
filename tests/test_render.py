import tracemalloc

import cv2
import numpy as np
import pytest

from avsal.errors import MediaError, UsageError
from avsal.prediction.drawing import (
    OUTLINE,
    decode_jpeg,
    enclosed_share,
    encode_jpeg,
    legend_panel,
    overlay,
    write_picture,
)
from avsal.prediction.style import Colormap, OverlayStyle


def mass_level(density, share):
    """The value above which a map holds `share` of its total, by sorting."""
    values = np.sort(density, axis=None)[::-1]
    total = np.cumsum(values, dtype=np.float64)
    return float(values[min(np.searchsorted(total, share * total[-1]), values.size - 1)])


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
    density = np.ones((90, 160), np.float32)
    density[0, 0] = 0
    full = overlay(image, density, OverlayStyle(alpha=1.0, color_by="density"))
    assert len(np.unique(full.reshape(-1, 3)[1:], axis=0)) == 1


def test_no_opacity_shows_the_picture_alone(image, spot):
    assert np.array_equal(overlay(image, spot, OverlayStyle(alpha=0.0)), image)


@pytest.mark.parametrize("name", Colormap)
def test_every_colormap_draws(image, spot, name):
    assert overlay(image, spot, OverlayStyle(name)).shape == image.shape


def test_hot_is_red_green_blue_not_reversed(image):
    style = OverlayStyle("hot", color_by="density")
    density = np.full((90, 160), 0.3, np.float32)
    density[0, :2] = 0, 1  # the range of the colours
    plain = overlay(np.zeros_like(image), density, style)
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
    black = np.zeros((90, 160, 3), np.uint8)
    drawn = overlay(black, density, OverlayStyle(contours=True))
    red, blue = drawn[..., 0], drawn[..., 2]
    for share, line in ((0.25, (red > 128) & (blue > 128)), (0.5, (red > 128) & (blue < 64))):
        inside = density >= mass_level(density, share)
        assert share <= density[inside].sum() < share + 0.02
        for drawn_places, wanted in zip(np.nonzero(line), np.nonzero(inside), strict=True):
            assert abs(np.ptp(drawn_places) - np.ptp(wanted)) <= 2


@pytest.mark.parametrize(
    "style",
    [{"colormap": "grue"}, {"alpha": 1.5}, {"alpha": -0.1}, {"threshold": 0}, {"color_by": "x"}],
)
def test_impossible_styles_are_refused(style):
    with pytest.raises(UsageError):
        OverlayStyle(**style)


def test_enclosed_share_is_the_share_of_what_is_at_least_as_dense(spot):
    shares = enclosed_share(spot)
    for y, x in ((30, 40), (30, 50), (40, 40), (20, 25)):
        expected = spot[spot >= spot[y, x]].sum() / spot.sum()
        assert shares[y, x] == pytest.approx(expected, abs=0.01)


def test_a_flat_or_empty_map_has_no_hot_area(image):
    for value in (0.0, 0.3):
        flat = np.full((90, 160), value, np.float32)
        assert np.all(enclosed_share(flat) == 1)
        assert np.array_equal(overlay(image, flat, OverlayStyle()), image)


def test_colours_of_shares_do_not_depend_on_the_scale_of_the_map(image, spot):
    drawn = overlay(image, spot, OverlayStyle())
    assert np.array_equal(overlay(image, spot * 1000, OverlayStyle()), drawn)


@pytest.mark.parametrize("color_by", ["share", "density"])
def test_nothing_is_drawn_beyond_the_threshold(image, spot, color_by):
    drawn = overlay(image, spot, OverlayStyle(threshold=0.5, color_by=color_by))
    outside = spot < mass_level(spot, 0.52)
    assert np.array_equal(drawn[outside], image[outside])
    assert not np.array_equal(drawn[30, 40], image[30, 40])


@pytest.mark.parametrize("level", [0, 25, 128, 255])
def test_the_area_that_holds_half_of_the_gaze_shows_on_dark_and_bright_pictures(spot, level):
    """Its colours differ from the picture's by more than 10 in CIE Lab; 2.3 is just noticed."""
    plain = np.full((90, 160, 3), level, np.uint8)
    drawn = overlay(plain, spot, OverlayStyle())
    lab = [
        cv2.cvtColor(each.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for each in (plain, drawn)
    ]
    difference = np.linalg.norm(lab[0] - lab[1], axis=2)
    assert difference[spot >= mass_level(spot, 0.5)].min() > 10


def test_drawing_a_large_picture_needs_little_memory():
    """What is drawn, and a number for each pixel; not colours and opacities of all pixels."""
    large = np.zeros((2160, 3840, 3), np.uint8)
    density = cv2.resize(np.eye(9, 16, dtype=np.float32), (3840, 2160))
    for style in (OverlayStyle(), OverlayStyle(color_by="density")):
        tracemalloc.start()
        drawn = overlay(large, density, style)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * drawn.nbytes


def test_pictures_are_drawn_in_strips_without_seams(spot):
    image = np.random.default_rng(0).integers(0, 255, (201, 64, 3), dtype=np.uint8)
    even = np.ones((201, 64), np.float32)
    for style in (OverlayStyle(color_by="density"), OverlayStyle(threshold=1.0)):
        drawn = overlay(image, even + np.arange(64, dtype=np.float32), style)
        turned = overlay(image[::-1], even + np.arange(64, dtype=np.float32), style)
        assert np.array_equal(drawn, turned[::-1])


def test_a_legend_is_drawn_where_the_picture_is_large_enough(image, spot):
    large = np.zeros((360, 640, 3), np.uint8)
    density = np.zeros((360, 640), np.float32)
    density[:40, 600:] = 1
    with_legend = overlay(large, density, OverlayStyle())
    without = overlay(large, density, OverlayStyle(legend=False))
    changed = np.any(with_legend != without, axis=2)
    assert changed[-20:, :60].any()
    assert not changed[:200].any()
    small = overlay(image, spot, OverlayStyle())
    assert np.array_equal(small, overlay(image, spot, OverlayStyle(legend=False)))
    assert not np.array_equal(small, overlay(image, spot, OverlayStyle(legend=True)))


@pytest.mark.parametrize(("threshold", "drawn"), [(0.5, 0.5 / 0.85), (None, 1), (1.0, 1)])
def test_a_legend_shows_the_colours_that_are_drawn_and_no_others(threshold, drawn):
    panel = legend_panel(OverlayStyle(threshold=threshold), 480)
    rows = (panel.max(axis=2) - panel.min(axis=2) > 0).sum(axis=1)  # coloured pixels
    bar = panel[rows.argmax()]
    coloured = np.flatnonzero(bar.max(axis=1) > 60)
    whole = np.flatnonzero((panel != panel[0, 0]).any(axis=(0, 2)))
    assert coloured.max() - coloured.min() == pytest.approx(drawn * np.ptp(whole), abs=4)


def test_no_line_crosses_the_share_of_another(monkeypatch):
    """Where lines are close together, the shares are above all of them."""
    column = np.exp(-np.abs(np.arange(640) - 320) / 60)
    density = np.repeat(column[None], 480, 0)
    white = np.full((480, 640, 3), 255, np.uint8)
    drawn = overlay(white, density, OverlayStyle(contours=True))
    monkeypatch.setattr("avsal.prediction.drawing.cv2.drawContours", lambda *_values: None)
    letters = overlay(white, density, OverlayStyle(contours=True))
    solid = (letters == OUTLINE).all(axis=2)
    assert solid.sum() > 50
    assert np.array_equal(drawn[solid], letters[solid])


def test_contours_show_on_white_and_bear_their_shares():
    y, x = np.mgrid[:360, :640]
    density = np.exp(-((x - 320) ** 2 + (y - 180) ** 2) / 5000).astype(np.float32)
    white = np.full((360, 640, 3), 255, np.uint8)
    drawn = overlay(white, density, OverlayStyle(contours=True))
    assert (drawn.max(axis=2) < 60).sum() > 300  # dark outlines


@pytest.mark.parametrize(("suffix", "width"), [(".jpg", 65_501), (".webp", 16_384)])
def test_a_picture_that_is_too_long_for_its_format_is_one_line(tmp_path, capfd, suffix, width):
    image = np.zeros((2, width, 3), np.uint8)
    with pytest.raises(MediaError, match=r"does not fit this image format; give a \.png file"):
        write_picture(tmp_path / f"a{suffix}", image)
    write_picture(tmp_path / f"b{suffix}", image[:, :-1])
    write_picture(tmp_path / "c.png", image)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"b{suffix}", "c.png"]
    assert capfd.readouterr() == ("", "")  # OpenCV has nothing to say


def test_pictures_kept_as_jpeg_are_shrunk_where_they_must():
    image = np.full((3, 70_000, 3), 200, np.uint8)
    assert decode_jpeg(encode_jpeg(image)).shape == (2, 65_500, 3)


def test_a_picture_that_opencv_cannot_encode_is_not_written_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imencode", lambda *_arguments: (False, np.empty(0, np.uint8)))
    with pytest.raises(MediaError, match="does not fit this image format"):
        write_picture(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert not list(tmp_path.iterdir())
