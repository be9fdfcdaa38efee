"""Paths of crops: what they keep, how they move, and the files that hold them."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
import tracemalloc
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from gaze_maps import spot

from avsal.crops import plan
from avsal.crops.file import PathFile, read_crops, read_head, write_path
from avsal.crops.motion import COSTS, KNOT, at_times, choose_places, smooth
from avsal.crops.planning import Grids, plan_crops
from avsal.crops.settings import Framing, Picture, aspect_of, parse_aspect, parse_size
from avsal.errors import MediaError, OutputError, UsageError
from avsal.prediction.maps import timed_maps

SIZE = (640, 360)


def offsets(crops):
    return np.array([crop.x for crop in crops])


def target(index):
    """A place that jumps at frames 60 and 120 and moves in between."""
    return [0.15, 0.75, 0.3][index // 60] + 0.1 * (index % 60) / 60


def test_a_moving_target_is_followed_across_cuts():
    crops = plan([spot(target(i)) for i in range(180)], "9:16", SIZE, cuts=(60, 120))
    assert [crop.shot for crop in crops] == [0] * 60 + [1] * 60 + [2] * 60
    assert min(crop.kept for crop in crops) > 0.9
    for index, crop in enumerate(crops):
        assert crop.x < target(index) * 640 < crop.x + crop.width
        assert (crop.y, crop.width, crop.height) == (0, 202, 360)


def test_no_motion_crosses_a_cut():
    """Each shot looks as if it were alone: the path neither leaves early nor arrives late."""
    together = plan([spot(target(i)) for i in range(180)], "9:16", SIZE, cuts=(60, 120))
    for start in (0, 60, 120):
        alone = plan([spot(target(start + i)) for i in range(60)], "9:16", SIZE)
        assert np.array_equal(offsets(together[start : start + 60]), offsets(alone))


def test_a_target_that_stays_is_not_chased():
    """Gaze that wanders inside the crop, and one short glance, leave it exactly still."""
    places = [0.4 + 0.02 * np.sin(i) for i in range(100)]
    places[50:54] = [0.9] * 4
    crops = plan([spot(x) for x in places], "9:16", SIZE)
    assert len(set(offsets(crops))) == 1
    assert float(crops[0].x).is_integer()


def test_what_gains_too_little_stays_in_the_middle():
    even = np.full((36, 64), 1 / (36 * 64))
    for part, moves in ((0.01, False), (0.2, True)):
        crops = plan([(1 - part) * even + part * spot(0.7)] * 50, "9:16", SIZE)
        assert (crops[0].x != 219) == moves


@pytest.mark.parametrize("motion", ["steady", "follow"])
def test_motion_is_smooth_and_within_its_bounds(motion):
    rate = 100
    crops = plan(
        [spot(0.1 + 0.8 * (i > 300)) for i in range(600)], "9:16", SIZE, rate=rate, motion=motion
    )
    x = offsets(crops) / 640
    speed, acceleration = np.diff(x) * rate, np.diff(x, 2) * rate**2
    limits = COSTS[motion]
    assert np.abs(speed).max() < limits.speed * 1.001
    assert np.abs(acceleration).max() < limits.acceleration * 1.001
    assert np.ptp(x) > 0.5
    assert (np.abs(speed) < 1e-6).mean() > 0.5  # rests before and after


def test_still_has_one_place_in_every_shot():
    crops = plan(
        [spot(target(i)) for i in range(180)], "9:16", SIZE, cuts=(60, 120), motion="still"
    )
    assert [len(set(offsets(crops[a : a + 60]))) for a in (0, 60, 120)] == [1, 1, 1]


def test_the_way_of_two_faces_depends_on_the_motion():
    """Two talkers in turn, a second each: follow goes to and fro, still does not."""
    maps = [spot((0.15, 0.85)[i // 25 % 2]) for i in range(200)]
    ways = {
        motion: np.abs(np.diff(offsets(plan(maps, "9:16", SIZE, motion=motion)))).sum()
        for motion in COSTS
    }
    assert ways["follow"] > ways["steady"] > ways["still"] == 0
    hasty = [spot((0.15, 0.85)[i // 12 % 2]) for i in range(200)]  # faster than a crop can follow
    assert np.abs(np.diff(offsets(plan(hasty, "9:16", SIZE)))).sum() < ways["steady"] / 2


def test_a_long_shot_is_planned_in_pieces_without_a_seam():
    places = np.repeat([0.1, 0.5, 0.3, 0.6], 300)  # 150 s of control points
    limits = COSTS["steady"]
    points = smooth(places, 0.7, limits)
    assert len(points) == len(places)
    assert np.abs(np.diff(points) / KNOT).max() < limits.speed + 1e-6
    assert np.abs(np.diff(points, 2) / KNOT**2).max() < limits.acceleration + 1e-6
    assert np.abs(points - places).mean() < 0.02
    fine = at_times(points, np.arange(0, 150, 0.01))
    assert np.abs(np.diff(fine) / 0.01).max() < limits.speed + 1e-6


def test_the_dynamic_programme_is_the_best_of_all_paths():
    random = np.random.default_rng(0)
    gain = random.random((4, 65))
    gain[:, 3:] = -10  # leaves three places, so that all paths can be tried
    best = choose_places(gain, 0.3, COSTS["steady"])
    step = COSTS["steady"].way / KNOT * 0.7 / 64 / 0.3

    def worth(path):
        return gain[range(4), path].sum() - step * np.abs(np.diff(path)).sum()

    paths = np.stack(np.meshgrid(*[range(3)] * 4), -1).reshape(-1, 4)
    expected = max(paths, key=worth)
    assert np.allclose(best, expected * 0.7 / 64)


def test_zoom_goes_closer_only_where_it_keeps_the_gaze():
    close = plan([spot(0.3, 0.4, width=0.03)] * 50, "9:16", SIZE, zoom=2)
    assert close[0].height == pytest.approx(180)
    assert close[0].y < 0.4 * 360 < close[0].y + close[0].height
    assert close[0].kept > 0.9
    wide = plan([spot(0.5, 0.1) + spot(0.5, 0.9)] * 50, "9:16", SIZE, zoom=2)
    assert wide[0].height > 300


def test_pad_widens_only_where_the_gaze_does_not_fit():
    both = plan([spot(0.1) + spot(0.9)] * 50, "9:16", SIZE, pad=True)
    assert both[0].width > 500
    assert both[0].kept > 0.8
    assert plan([spot(0.2)] * 50, "9:16", SIZE, pad=True)[0].width == 202


SHAPES = [(1280, 720), (641, 359), (720, 576), (333, 777), (37, 1000), (64, 3), (2, 2), (1, 1)]
PIXELS = [Fraction(1), Fraction(16, 15), Fraction(64, 45), Fraction(8, 9), Fraction(100)]


@pytest.mark.parametrize("aspect", ["9:16", "1:1", "16:9", "2.39:1", "20:1", "1:20"])
def test_every_plan_is_a_path_that_can_be_read(tmp_path, aspect):
    """Gaze in the corners, in pictures and pixels of many shapes, at many zooms."""
    random, path = np.random.default_rng(0), tmp_path / "clip.reframe.json"
    for size, sample_aspect in itertools.product(SHAPES, PIXELS):
        zoom, pad = float(random.choice([1, 1.1, 1.5, 2, 3.1, 4])), bool(random.random() < 0.3)
        maps = [spot(*random.choice([0.0, 0.37, 1.0], 2), width=0.03) for _ in range(3)]
        crops = plan(
            maps, aspect, size, rate=4, zoom=zoom, pad=pad, sample_aspect=sample_aspect
        )  # the crop moves
        for crop in crops:
            assert 0 <= crop.x <= crop.x + crop.width <= size[0] * (1 + 1e-12)
            assert 0 <= crop.y <= crop.y + crop.height <= size[1] * (1 + 1e-12)
        picture = Picture(*size, sample_aspect)
        out = picture.output_size(parse_aspect(aspect))
        write_path(path, PathFile(picture, aspect, out), crops)
        assert len(list(read_crops(path, picture))) == 3
        if max(out) <= 16384:
            assert read_head(path).size == out


def test_a_wide_crop_of_a_tall_picture_moves_up_and_down():
    crops = plan([spot(0.5, 0.2)] * 30, "16:9", (360, 640))
    assert (crops[0].width, crops[0].height) == (360, 202)
    assert crops[0].y < 0.2 * 640 < crops[0].y + crops[0].height


def test_odd_inputs():
    assert plan([], "9:16", SIZE) == []
    one = plan([spot(0.9)], "9:16", SIZE)
    assert len(one) == 1 and one[0].kept > 0.9
    empty = plan([np.zeros((9, 16))] * 5, "1:1", SIZE)
    assert all(crop.x == 140 for crop in empty)  # no gaze: the middle
    times = [Fraction(0), Fraction(1, 50), Fraction(3), Fraction(301, 100)]  # frame rate varies
    held = plan([spot(0.2), spot(0.2), spot(0.8), spot(0.8)], "9:16", SIZE, times=times, cuts=(2,))
    assert [crop.kept > 0.9 for crop in held] == [True] * 4
    whole = plan([spot(0.2)] * 3, "16:9", SIZE)
    assert (whole[0].x, whole[0].width, whole[0].kept) == (0, 640, pytest.approx(1))


@pytest.mark.parametrize(
    "text", ["", "9", 9 / 16, "9/16", "0:16", "9:0", "-1:2", "1:100", "a:b", "1e3:1"]
)
def test_wrong_aspects_are_told(text):
    with pytest.raises(UsageError, match="aspect"):
        parse_aspect(text)


def test_aspects_may_be_any_real_number():
    for aspect in (1.5, np.float32(1.5), Fraction(3, 2)):
        assert aspect_of(aspect) == Fraction(3, 2)
    for aspect in (10**400, Fraction(1, 10**400), -1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="aspect"):
            aspect_of(aspect)


@pytest.mark.parametrize("text", ["", "10x", "101x200", "2x2", "1080*1920"])
def test_wrong_sizes_are_told(text):
    with pytest.raises(UsageError, match="size"):
        parse_size(text)


def test_wrong_motion_and_zoom_are_told():
    with pytest.raises(UsageError, match="motion"):
        plan([spot(0.5)], "9:16", SIZE, motion="wild")
    with pytest.raises(UsageError, match="zoom"):
        plan([spot(0.5)], "9:16", SIZE, zoom=9)


def test_pixels_that_are_not_square():
    """720x576 shown as 4:3: its square crop is 540 stored pixels wide."""
    picture = Picture(720, 576, Fraction(16, 15))
    assert picture.output_size(Fraction(1)) == (576, 576)
    crop = plan([spot(0.5)], "1:1", (720, 576), sample_aspect=Fraction(16, 15))[0]
    assert crop.width == pytest.approx(540)


@pytest.mark.slow
def test_a_long_shot_needs_no_memory_for_its_maps():
    """6000 maps take 55 MB on the planner's grid; a shot of them is planned in a third."""
    bank = [spot(0.2 + 0.6 * i / 50) for i in range(50)]
    places = (int(25 + 24 * np.sin(i / 200)) for i in range(6000))
    maps = timed_maps((bank[place] for place in places), rate=30)
    tracemalloc.start()
    crops = plan_crops(maps, Picture(*SIZE), Framing(Fraction(9, 16)))
    assert sum(1 for _crop in crops) == 6000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 19e6


def test_a_pause_of_hours_is_planned_as_one_of_seconds(monkeypatch):
    kept = []
    add = Grids.add
    monkeypatch.setattr(Grids, "add", lambda self, grid: (kept.append(1), add(self, grid)))
    maps = [spot(0.2), spot(0.2), spot(0.8), spot(0.8)]
    hours, seconds = (
        plan(maps, "9:16", SIZE, times=[0, 1, 1 + pause, 2 + pause]) for pause in (7200, 10)
    )
    assert offsets(hours).tolist() == offsets(seconds).tolist()
    assert hours[2].pts == 7201
    assert len(kept) < 300  # maps in the temporary file, of both


# ---- path files


@pytest.fixture
def path_file(tmp_path):
    crops = plan([spot(0.1 + i / 100) for i in range(50)], "9:16", SIZE, rate=Fraction(30000, 1001))
    path = tmp_path / "clip.reframe.json"
    write_path(path, PathFile(Picture(*SIZE), "9:16", (202, 360)), crops)
    return path, crops


def test_a_path_comes_back_as_it_was_written(path_file):
    path, crops = path_file
    assert read_head(path) == PathFile(Picture(*SIZE), "9:16", (202, 360))
    again = list(read_crops(path, Picture(*SIZE)))
    assert [(c.index, c.pts, c.shot) for c in again] == [(c.index, c.pts, c.shot) for c in crops]
    assert np.allclose(offsets(again), offsets(crops), atol=1e-3)
    assert np.allclose([c.kept for c in again], [c.kept for c in crops], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reframe": 2}, "version 2"),
        ({"width": "wide"}, "width is not a number"),
        ({"size": [1]}, "damaged"),
        ({"aspect": "9:0"}, "aspect"),
        ({"sample_aspect": "1/0"}, "damaged"),
        ({"sample_aspect": "0"}, "sample_aspect 0"),
        ({"size": [100000, 100000]}, "100000x100000 pixels"),
        ({"start": []}, "start is not a number"),
        ({"start": -1}, "start -1 is not from 0"),
        ({"start": 5, "end": 5}, "end 5 is not after start"),
        ({"sample_aspect": "1e1000000000"}, "sample_aspect is not a fraction"),
        ({"sample_aspect": "9" * 5000}, "sample_aspect is not a fraction"),
        ({"sample_aspect": "٣"}, "sample_aspect is not a fraction"),
        ({"sample_aspect": True}, "sample_aspect is not a number"),
        ({"sample_aspect": None}, "sample_aspect is not a number"),
        ({"width": 1280.5}, "no size of a picture"),
        ({"width": 0}, "no size of a picture"),
        ({"height": -720}, "no size of a picture"),
        ({"size": ["404", "720"]}, "0 is not a number"),
        ({"size": [10**400, 2]}, "0 is not a number"),
        ({"size": {}}, "damaged"),
        ({"aspect": 5}, "aspect is not text"),
        ({"settings": {"pad": "pink"}}, "pad pink"),
        ({"settings": {"pad": {}}}, "pad {}"),
        ({"settings": {"zoom": float("inf")}}, "Infinity is not JSON"),
        ({"source": {"bytes": float("nan")}}, "NaN is not JSON"),
    ],
)
@pytest.mark.timeout(20)
def test_a_wrong_head_is_told(path_file, change, message):
    path, _crops = path_file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(MediaError, match=message) as caught:
        read_head(path)
    assert str(path) in str(caught.value)


def test_numbers_of_a_head_may_be_written_in_other_ways(path_file):
    path, _crops = path_file
    whole = json.loads(path.read_text())
    for text, expected in (("16/15", Fraction(16, 15)), ("1.5", Fraction(3, 2)), (2, Fraction(2))):
        path.write_text(json.dumps({**whole, "sample_aspect": text, "width": 640.0}))
        assert read_head(path).picture == Picture(640, 360, expected)


def test_an_endless_number_is_refused(path_file):
    path, _crops = path_file
    path.write_text(path.read_text().replace('"height": 360', '"height": 1e999'))
    with pytest.raises(MediaError, match="1e999 is too large"):
        read_head(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 600}, "frame 3: the crop"),
        ({"x": -5}, "frame 3: the crop"),
        ({"w": 0}, "frame 3: the crop"),
        ({"y": None}, "y is not a number"),
        ({"pts": 0.5}, "frame 3: pts is not a fraction"),
        ({"pts": "1e1000000000"}, "pts is not a fraction"),
        ({"pts": "9" * 24}, "pts is too large"),
        ({"pts": "0"}, "frame 3 at 0.000 s comes before frame 2"),
        ({"x": float("nan")}, "damaged"),
        ({"kept": 1.5}, "kept 1.5 is not from 0 to 1"),
        ({"shot": -1}, "shot is not a whole number"),
        ({"index": 1}, "frame 1 comes after frame 2"),
        ({"shot": "one"}, "damaged"),
    ],
)
def test_a_wrong_crop_is_told(path_file, change, message):
    path, _crops = path_file
    whole = json.loads(path.read_text())
    whole["frames"][3] |= change
    path.write_text(json.dumps(whole))
    with pytest.raises(MediaError, match=message):
        list(read_crops(path, Picture(*SIZE)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("buffer", [2**10, 2**20])
def test_a_full_folder_for_temporary_files_is_told_as_such(monkeypatch, buffer):
    full = partial(open, "/dev/full", "r+b", buffering=buffer)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    told = re.escape(f"{tempfile.gettempdir()}: cannot be written (no space left on device)")
    with pytest.raises(OutputError, match=told), Grids() as grids:
        for _ in range(9):
            grids.add(spot(0.5))
