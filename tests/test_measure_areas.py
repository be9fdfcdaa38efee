"""Areas and the gaze inside them: exact covers, wholes and sums, movement, and series."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from gaze_maps import spot

from avsal.areas import Area, box, shares
from avsal.areas.areas import cover, grid_areas
from avsal.areas.series import Collector, compare
from avsal.areas.summary import MEASURED_WITH, expected_error
from avsal.crops import plan
from avsal.errors import UsageError
from avsal.metrics import centre_prior
from avsal.prediction.maps import GazeMap, spread_of, timed_maps

SIZE = (200, 100)
WHOLE = Area("whole", (box(0, 0, 1, 1),))


def random_map(seed, size=(24, 40)):
    return np.random.default_rng(seed).random(size) ** 8


def only(frames):
    return {row.area: row for row in frames[0].areas}


# ---- covers and shares


def test_the_whole_picture_has_all_gaze_exactly():
    for size in ((24, 40), (108, 192), (333, 517)):
        row = only(shares([random_map(0, size)], [WHOLE]))["whole"]
        assert (row.share, row.part, row.prior) == (1, 1, 1)
        assert (row.density, row.over_prior) == (1, 1)


@pytest.mark.parametrize("grid", ["1x1", "3x3", "7x5", "10x10"])
def test_areas_that_fill_the_picture_add_up_to_one(grid):
    rows = shares([random_map(1)], grid_areas(grid))[0].areas
    assert sum(row.share for row in rows) == pytest.approx(1, abs=1e-12)
    assert sum(row.part for row in rows) == pytest.approx(1, abs=1e-12)
    assert sum(row.prior for row in rows) == pytest.approx(1, abs=1e-12)


def test_disjoint_polygons_add_up_to_their_union():
    corner = ((0.0, 0.0), (0.63, 0.0), (0.11, 0.87))
    rest = ((0.63, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (0.11, 0.87))
    found = only(shares([random_map(2)], [Area("corner", (corner,)), Area("rest", (rest,))]))
    assert found["corner"].share + found["rest"].share == pytest.approx(1, abs=1e-12)
    assert found["corner"].part == pytest.approx(0.63 * 0.87 / 2, abs=1e-12)


def test_covers_are_what_fine_rasters_say():
    """Against polygons that OpenCV fills at 64 times the resolution."""
    random = np.random.default_rng(3)
    for corners in (3, 4, 6):
        angles = np.sort(random.uniform(0, 2 * np.pi, corners))
        shape = 0.5 + 0.45 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        fine = np.zeros((9 * 64, 16 * 64), np.uint8)
        points = np.rint(shape * (16 * 64, 9 * 64)).astype(np.int32)
        cv2.fillPoly(fine, [points], 1)
        expected = fine.reshape(9, 64, 16, 64).mean(axis=(1, 3))
        assert np.abs(cover(tuple(map(tuple, shape)), (9, 16)) - expected).max() < 0.05
        backwards = tuple(map(tuple, shape[::-1]))
        assert np.allclose(cover(backwards, (9, 16)), cover(tuple(map(tuple, shape)), (9, 16)))


def test_boxes_between_cells_are_covered_in_part():
    inside = cover(box(0.05, 0.25, 0.1, 0.5), (2, 10))
    assert np.allclose(inside[:, :2], 0.25)
    assert inside[:, 2:].max() < 1e-12


def test_shares_do_not_depend_on_the_size_or_scale_of_maps():
    area = [Area("a", (box(0.25, 0.25, 0.5, 0.5),))]
    small, large = spot(0.3, 0.3, (36, 64), 0.1), spot(0.3, 0.3, (720, 1280), 0.1)
    a, b = (only(shares([map_], area))["a"].share for map_ in (small, 1000 * large))
    assert a == pytest.approx(b, abs=0.01)


def test_a_map_without_gaze_is_even():
    row = only(shares([np.zeros((9, 16))], [Area("a", (box(0, 0, 0.5, 0.5),))]))["a"]
    assert row.share == row.part == pytest.approx(0.25)


def test_times_and_seconds():
    area = [Area("left", (box(0, 0, 0.5, 1),))]
    frames = shares([spot(0.2)] * 3, area, times=[0, 0.5, 2], end=2.25)
    assert [frame.duration for frame in frames] == [0.5, 1.5, 0.25]
    assert sum(frame.areas[0].seconds for frame in frames) == pytest.approx(2.25, abs=1e-3)
    assert [frame.time for frame in shares([spot(0.2)] * 2, area, rate=10)] == [0, 0.1]


def test_an_area_moves_between_its_key_frames_and_is_absent_outside():
    first, last = box(0, 0, 0.2, 1), box(0.8, 0, 0.2, 1)
    area = Area("car", (first, last), (1.0, 3.0))
    assert area.at(0.99) is None
    assert area.at(1) == first
    assert np.allclose(area.at(2), box(0.4, 0, 0.2, 1))
    assert np.allclose(area.at(3), last)
    assert area.at(3.01) is None
    for time, gaze in ((1, spot(0.1)), (2, spot(0.5)), (3, spot(0.9))):
        (frame,) = shares([gaze], [area], times=[time], end=time + 0.04)
        assert frame.areas[0].share > 0.9


def test_spread_is_that_of_frames_and_tables():
    """One word has one meaning: see `SaliencyFrame.spread`."""
    maps = [spot(0.5), centre_prior((36, 64)), np.ones((36, 64))]
    spread = [frame.spread for frame in shares(maps, [])]
    assert spread == [spread_of(density) for density in maps]
    assert spread[0] < spread[1] < spread[2] == pytest.approx(0.5)


def test_equal_names_are_refused():
    with pytest.raises(UsageError, match="twice"):
        shares([spot(0.5)], [WHOLE, WHOLE])


# ---- series and comparison


def series_of(maps, areas, duration=0.1):
    collector = Collector(areas)
    length = Fraction(str(duration))
    timed = (GazeMap(i, i * length, length, map_) for i, map_ in enumerate(maps))
    assert len([collector.add(entry) for entry in timed]) == len(maps)
    return collector.series()


def test_means_are_over_time_and_over_what_exists():
    left = Area("left", (box(0, 0, 0.5, 1), box(0, 0, 0.5, 1)), (0.0, 0.95))
    series = series_of([spot(0.2)] * 10 + [spot(0.8)] * 10, [WHOLE, left])
    assert series.average(series.share) == pytest.approx([1, 1], abs=1e-3)
    assert series.present() == pytest.approx([2, 0.95])
    assert series.seconds() == pytest.approx([2, 0.95], abs=1e-3)
    assert series.mean.sum() == pytest.approx(1)
    assert series.blocks()[0][:, 1] == pytest.approx([1, np.nan], abs=1e-3, nan_ok=True)


def test_versions_are_compared_second_by_second():
    area = [Area("left", (box(0, 0, 0.5, 1),)), WHOLE]
    even = series_of([spot(0.2) + spot(0.8)] * 60, area)
    drawn = series_of([spot(0.2) + (i // 10 % 2) * spot(0.8) for i in range(80)], area)
    left, whole = compare(drawn, even)
    assert (left.first, left.second) == (
        pytest.approx(0.75, abs=0.01),
        pytest.approx(0.5, abs=0.01),
    )
    assert 0 <= left.low < left.first - left.second < left.high <= 0.51
    assert (whole.first - whole.second, whole.low, whole.high) == (0, 0, 0)
    short = compare(series_of([spot(0.2)] * 5, area), even)[0]
    assert short.low is None


LEFT = Area("left", (box(0, 0, 0.5, 1),))


def test_a_part_of_a_second_counts_as_a_part():
    """26 frames of 0.04 s: the last one alone reaches into the second second."""
    at_end = [spot(0.8)] * 25 + [spot(0.2)]
    drawn, even = series_of(at_end, [LEFT], 0.04), series_of([spot(0.8)] * 26, [LEFT], 0.04)
    found = compare(drawn, even)[0]
    assert found.first == pytest.approx(1 / 26, abs=1e-3)
    assert found.first == pytest.approx(drawn.average(drawn.share)[0])
    assert found.second == pytest.approx(0, abs=1e-3)
    shares_of_blocks, seconds = drawn.blocks()
    assert seconds[:, 0] == pytest.approx([1, 0.04])
    assert shares_of_blocks[:, 0] == pytest.approx([0, 1], abs=1e-3)


def test_a_frame_of_many_seconds_counts_in_each_of_them():
    moving = series_of([spot(0.2), spot(0.8)], [LEFT, WHOLE], 2.5)
    means, seconds = moving.blocks()
    assert means[:, 0] == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-3)
    assert seconds[:, 1] == pytest.approx([1] * 5)


def test_an_area_counts_for_as_long_as_it_exists_while_a_frame_is_shown():
    """As in a recording of slides: frames of 1, 10 and 1 s, an area from 2 to 4 s."""
    slides = [spot(0.8), spot(0.2), spot(0.8)]
    button = Area("button", LEFT.shapes * 2, (2.0, 4.0))
    frames = shares(slides, [button, WHOLE], times=[0, 1, 11], end=12)
    assert [len(frame.areas) for frame in frames] == [1, 2, 1]
    assert frames[1].areas[0].present == 2
    assert frames[1].areas[0].seconds == pytest.approx(2, abs=1e-3)
    collector = Collector([button, WHOLE])
    for entry in timed_maps(slides, [0, 1, 11], end=12):
        collector.add(entry)
    series = collector.series()
    assert series.present() == pytest.approx([2, 12])
    assert series.seconds() == pytest.approx([2, 12], abs=1e-3)


def test_an_area_that_moves_is_measured_over_the_time_of_a_frame():
    """It passes over the gaze from 4 to 6 s of a frame of 10 s, and stands still from 10 s on."""
    moving = Area("a", tuple(box(x, 0, 0.2, 1) for x in (0, 0.8, 0.8)), (0.0, 8.0, 20.0))
    slide, later = shares([spot(0.5, width=0.01)] * 2, [moving], times=[0, 10], end=12)
    assert slide.areas[0].share == pytest.approx(2 / 10, abs=0.01)
    assert (slide.areas[0].part, slide.areas[0].present) == (pytest.approx(0.2), 10)
    assert later.areas[0].share == pytest.approx(0, abs=1e-6)
    thirty = shares([spot(0.5, width=0.01)] * 240, [moving], rate=30)
    assert sum(each.areas[0].seconds for each in thirty) == pytest.approx(2, abs=0.05)
    five = shares([spot(0.5, width=0.01)] * 40, [moving], rate=5)
    assert sum(each.areas[0].seconds for each in five) == pytest.approx(2, abs=0.05)


def test_hostile_durations_need_no_memory():
    long = series_of([spot(0.2), spot(0.8)], [LEFT], 1e14)
    assert compare(long, long)[0].first == pytest.approx(0.5, abs=1e-3)
    moving = Area("a", LEFT.shapes * 2, (0.0, 1e9))
    assert shares([spot(0.2)], [moving], times=[0], end=1e9)[0].areas[0].part == 0.5


def test_stills_are_compared_too():
    one, other = (series_of([map_], [LEFT], 0.0) for map_ in (spot(0.2), spot(0.8)))
    found = compare(one, other)[0]
    assert (found.first, found.second) == (pytest.approx(1, abs=1e-3), pytest.approx(0, abs=1e-3))
    assert found.low is None


def test_times_are_one_for_each_map_in_shares_and_plans():
    for times in ([0], [0, 1], [0, 1, 2, 3], []):
        with pytest.raises(UsageError, match=r"but more .*give a time for each map"):
            shares([spot(0.2)] * 3, [LEFT], times=times)
        with pytest.raises(UsageError, match=r"but more .*give a time for each map"):
            plan([spot(0.2)] * 3, "1:1", (64, 36), times=times)
    for times in ([0, 1, 1], [0, 2, 1], [0, 1, float("nan")], [0, 1, float("inf")], [0, 1, "x"]):
        with pytest.raises(UsageError, match=r"does not come after|not a finite number"):
            shares([spot(0.2)] * 3, [LEFT], times=times)
        with pytest.raises(UsageError, match=r"does not come after|not a finite number"):
            plan([spot(0.2)] * 3, "1:1", (64, 36), times=times)


def test_the_last_frame_lasts_to_the_end_or_as_long_as_the_one_before():
    def durations(count, **arguments):
        return [frame.duration for frame in shares([spot(0.2)] * count, [LEFT], **arguments)]

    assert durations(3, times=[0, 1, 3]) == [1, 2, 2]
    assert durations(3, times=[0, 1, 3], end=4) == [1, 2, 1]
    assert durations(2, rate=10) == [0.1, 0.1]
    assert durations(1, rate=10) == [0.1]
    for end in (3, 2, float("nan")):
        with pytest.raises(UsageError, match="end"):
            durations(3, times=[0, 1, 3], end=end)
    for rate in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="rate"):
            durations(1, rate=rate)


@pytest.mark.parametrize(
    "bad", [np.full((9, 16), np.nan), -spot(0.5), spot(0.5)[None], np.zeros((0, 4)), "map"]
)
def test_what_is_no_map_is_refused_by_its_number(bad):
    with pytest.raises(UsageError, match="map 1"):
        shares([spot(0.5), bad], [LEFT])
    with pytest.raises(UsageError, match="map 1"):
        plan([spot(0.5), bad], "1:1", (64, 36))


def test_an_area_that_vanishes_on_its_way_has_no_density():
    """Turned inside out, a polygon covers nothing in the middle of its way."""
    shape = box(0.2, 0.2, 0.4, 0.4)
    area = Area("a", (shape, tuple((0.8 - x, y) for x, y in shape)), (0.0, 2.0))
    row = shares([spot(0.4, 0.4)] * 3, [area], times=[0, 0.96, 1.04])[1].areas[0]
    assert (row.share, row.part) == (0, 0)
    assert np.isnan([row.density, row.over_prior]).all()


def test_expected_errors_grow_with_size_and_are_of_one_network():
    errors = [expected_error(1, part, MEASURED_WITH) for part in (1 / 100, 1 / 64, 1 / 20, 1 / 4)]
    assert errors == sorted(errors)
    assert expected_error(1, 1, MEASURED_WITH) == 0
    assert expected_error(0.01, 1 / 9, MEASURED_WITH) < expected_error(0.5, 1 / 9, MEASURED_WITH)
    assert expected_error(1, 0.1, "another") is None
    assert expected_error(float("nan"), float("nan"), MEASURED_WITH) is None
