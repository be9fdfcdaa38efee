"""Areas and the gaze inside them: exact covers, wholes and sums, movement, wrong input."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest
from gaze_maps import spot

from avsal.datasets.gaze_table import read_table
from avsal.errors import DataError, UsageError
from avsal.measure import Area, box, shares
from avsal.measure.areas import cover, grid_areas, parse_areas, read_areas
from avsal.measure.frames import centre_prior, spread
from avsal.measure.series import Collector, compare
from avsal.measure.trust import MEASURED_WITH, expected_error

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
    frames = shares([spot(0.2)] * 3, area, times=[0, 0.5, 2, 2.25])
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
    frames = shares([spot(0.1), spot(0.5), spot(0.9)], [area], times=[1, 2, 3, 4])
    assert all(frame.areas[0].share > 0.9 for frame in frames)


def test_spread_tells_concentration():
    even, sharp = np.ones((36, 64)), np.zeros((36, 64))
    sharp[4, 5] = 1
    assert spread(even) == pytest.approx(1)
    assert spread(sharp) == pytest.approx(1 / (36 * 64))
    assert spread(sharp) < spread(spot(0.5)) < spread(centre_prior((36, 64))) < 1


def test_equal_names_are_refused():
    with pytest.raises(UsageError, match="twice"):
        shares([spot(0.5)], [WHOLE, WHOLE])


# ---- series and comparison


def series_of(maps, areas, duration=0.1):
    collector = Collector(areas)
    timed = ((i, i * duration, duration, map_) for i, map_ in enumerate(maps))
    assert len(list(collector.measure(timed))) == len(maps)
    return collector.series()


def test_means_are_over_time_and_over_what_exists():
    left = Area("left", (box(0, 0, 0.5, 1), box(0, 0, 0.5, 1)), (0.0, 0.95))
    series = series_of([spot(0.2)] * 10 + [spot(0.8)] * 10, [WHOLE, left])
    assert series.average(series.share) == pytest.approx([1, 1], abs=1e-3)
    assert series.present() == pytest.approx([2, 1])
    assert series.seconds() == pytest.approx([2, 1], abs=1e-3)
    assert series.mean.sum() == pytest.approx(1)
    assert series.blocks()[:, 1] == pytest.approx([1, np.nan], abs=1e-3, nan_ok=True)


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


def test_expected_errors_grow_with_size_and_are_of_one_network():
    errors = [expected_error(1, part, MEASURED_WITH) for part in (1 / 100, 1 / 64, 1 / 20, 1 / 4)]
    assert errors == sorted(errors)
    assert expected_error(1, 1, MEASURED_WITH) == 0
    assert expected_error(0.01, 1 / 9, MEASURED_WITH) < expected_error(0.5, 1 / 9, MEASURED_WITH)
    assert expected_error(1, 0.1, "another") is None


# ---- reading areas


def test_areas_of_the_command_line():
    found = parse_areas(
        ["logo:20,10,40,20", "half:50%,0,50%,100%", "roof:0,0;200,0;50%,50%", "a:b:0,0,1,1"], SIZE
    )
    assert [area.name for area in found] == ["logo", "half", "roof", "a:b"]
    assert np.allclose(found[0].shapes[0], box(0.1, 0.1, 0.2, 0.2))
    assert np.allclose(found[1].shapes[0], box(0.5, 0, 0.5, 1))
    assert np.allclose(found[2].shapes[0], ((0, 0), (1, 0), (0.5, 0.5)))
    car = parse_areas(["car@4:100,0,50,50", "car@1.5:0,0,50,50"], SIZE)[0]
    assert car.times == (1.5, 4.0)
    assert np.allclose(car.shapes[0], box(0, 0, 0.25, 0.5))


def test_areas_of_files(tmp_path):
    table = tmp_path / "areas.csv"
    table.write_text(
        "name,time,x,y,w,h,points\nlogo,,20,10,40,20,\ncar,1.5,0,0,50,50,\ncar,4,100,0,50,50,\n"
        'roof,,,,,,"0,0;200,0;50%,50%"\n'
    )
    data = tmp_path / "areas.json"
    frames = [{"time": 1.5, "box": [0, 0, 50, 50]}, {"time": 4, "box": [100, 0, 50, 50]}]
    areas = [
        {"name": "logo", "box": [20, 10, "20%", 20]},
        {"name": "car", "keyframes": frames},
        {"name": "roof", "points": [[0, 0], [200, 0], ["50%", "50%"]]},
    ]
    data.write_text(json.dumps({"areas": areas}))
    expected = parse_areas(
        ["logo:20,10,40,20", "car@1.5:0,0,50,50", "car@4:100,0,50,50", "roof:0,0;200,0;50%,50%"],
        SIZE,
    )
    assert read_areas(table, SIZE) == expected
    assert read_areas(data, SIZE) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["logo"], "give NAME:"),
        (["logo:1,2,3"], "neither a box"),
        (["logo:1,2,x,4"], "neither pixels nor per cent"),
        (["logo:1,2,,4"], "nothing is neither"),
        (["logo:0,0,300,50"], r"reaches to \(300, "),
        (["logo:-20,0,50,50"], r"reaches to \(-20, "),
        (["logo:0,0,120%,50"], "outside the 200x100 picture"),
        (["logo:0,0,0,50"], "no surface"),
        (["a:0,0,1,1", "a:1,1,1,1"], "is there twice"),
        ([":0,0,1,1"], "no name"),
        (["car@1:0,0,9,9"], "one key frame only"),
        (["car@1:0,0,9,9", "car@1:0,0,8,8"], "at the same time"),
        (["car@1:0,0,9,9", "car:0,0,8,8"], "with and without a time"),
        (["car@x:0,0,9,9"], "no number of seconds"),
        (["car@1:0,0,9,9", "car@2:0,0;9,0;9,9"], "different numbers of corners"),
    ],
)
def test_wrong_areas_are_told(texts, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_areas(texts, SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,x\nlogo,1\n", "nothing is neither"),
        ("a.csv", "x,y,w,h\n1,1,1,1\n", "no name"),
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"areas": [{"name": "logo"}]}', "not of the form"),
        ("a.json", '{"areas": [{"box": [1, 1, 1, 1]}]}', "not of the form"),
        ("a.json", '{"areas": 5}', "not of the form"),
        ("a.json", '{"areas": [{"name": "a", "box": 5}]}', "not of the form"),
        ("a.json", '{"areas": [{"name": "a", "points": [[0, 0], [1]]}]}', "neither a box"),
        ("a.csv", None, "cannot be read"),
    ],
)
def test_wrong_files_are_told(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_areas(path, SIZE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
def test_pipes_and_other_files_are_no_areas(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="no regular file"):
        read_areas(tmp_path / "pipe.csv", (200, 100))
    with pytest.raises(DataError, match="no regular file"):
        read_table(tmp_path / "pipe.csv")
    (tmp_path / "film.csv").write_bytes(b"\0\xff\xd8")
    with pytest.raises(DataError, match="no text in UTF-8"):
        read_areas(tmp_path / "film.csv", (200, 100))
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DataError, match="larger than 64 MB"):
        read_areas(tmp_path / "large.csv", (200, 100))


@pytest.mark.parametrize("text", ["", "3", "0x3", "11x11", "axb"])
def test_wrong_grids_are_told(text):
    with pytest.raises(UsageError, match="grid"):
        grid_areas(text)
