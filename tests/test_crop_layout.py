"""What a shot becomes: one crop, a wider one or two panels; and how a path file has it."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from gaze_maps import spot

from avsal.crops import plan
from avsal.crops.file import PathFile, fitted_size, panels, read_crops, write_path
from avsal.crops.layout import GRID, edge_bands
from avsal.crops.planning import Crop
from avsal.crops.render import cut_out
from avsal.crops.settings import Box, Picture, find_preset
from avsal.errors import MediaError, UsageError

SIZE = (640, 360)
TWO_PEOPLE = 0.55 * spot(0.15, 0.3) + 0.45 * spot(0.85, 0.6)


THREE_PEOPLE = sum(share * spot(x, 0.4) for x, share in ((0.17, 0.3), (0.46, 0.4), (0.72, 0.3)))


def line_of_text():
    """Gaze along a line that is wider than any crop."""
    density = np.zeros(GRID)
    density[27:30, 8:56] = 1
    return density / density.sum()


def holds(box, x, y, size=SIZE):
    return box.x < x * size[0] < box.x + box.width and box.y < y * size[1] < box.y + box.height


@pytest.mark.parametrize("fit", ["split", "auto"])
def test_two_people_far_apart_get_a_panel_each(fit):
    crops = plan([TWO_PEOPLE] * 50, "9:16", SIZE, fit=fit)
    upper, lower = crops[0].boxes
    assert holds(upper, 0.15, 0.3)
    assert holds(lower, 0.85, 0.6)
    assert upper[2:] == lower[2:] == (202, 180)  # the scale of the largest crop, 202x360
    assert min(crop.kept for crop in crops) > 0.9
    assert len({crop.second for crop in crops}) == 1  # panels stay where they are


@pytest.mark.parametrize("fit", ["split", "auto"])
def test_panels_show_a_little_more_where_people_are_cut_otherwise(fit):
    first, second = plan([THREE_PEOPLE] * 9, "9:16", SIZE, fit=fit)[0].boxes
    assert first[2:] == second[2:] == pytest.approx((1.15 * 202.5, 1.15 * 180))
    assert holds(first, 0.17, 0.4)
    assert holds(second, 0.46, 0.4) and holds(second, 0.72, 0.4)


def test_what_a_panel_shows_of_the_others_person_is_no_peak():
    """Two of three people share a panel, whose edge goes through the flank of the third one."""
    maps = [sum(share * spot(x, width=0.05) for x, share in ((0.2, 0.3), (0.45, 0.4), (0.7, 0.3)))]
    for fit in ("split", "auto"):
        assert plan(maps, "9:16", SIZE, fit=fit)[0].second is not None


def test_one_wide_thing_is_not_divided():
    density = cv2.GaussianBlur(line_of_text(), (0, 0), 4)
    for maps in ([line_of_text()], [density], [np.ones(GRID)], [spot(0.5, width=0.2)]):
        assert plan(maps, "9:16", SIZE, fit="auto")[0].second is None


@pytest.mark.parametrize("fit", ["pad", "split", "auto"])
def test_one_person_gets_the_crop_of_every_other_fit(fit):
    maps = [spot(0.3)] * 50
    assert plan(maps, "9:16", SIZE, fit=fit) == plan(maps, "9:16", SIZE)


def test_a_line_of_text_is_shown_whole():
    (crop, *_others) = plan([line_of_text()] * 50, "9:16", SIZE, fit="auto")
    assert crop.second is None
    assert crop.x < 0.15 * 640 and crop.x + crop.width > 0.85 * 640


def test_a_little_more_is_shown_where_a_little_is_missing():
    """Two people just too far apart for one crop: a wider one, and not the whole picture."""
    maps = [spot(0.33, width=0.03) + spot(0.67, width=0.03)] * 50
    (crop, *_others) = plan(maps, "9:16", SIZE, fit="auto")
    assert crop.second is not None or 203 < crop.width < 300


def test_what_auto_chooses_it_chooses_shot_by_shot():
    maps = [spot(0.3)] * 50 + [TWO_PEOPLE] * 50 + [line_of_text()] * 50
    crops = plan(maps, "9:16", SIZE, fit="auto", cuts=(50, 100))
    assert [crop.second is not None for crop in crops] == [False] * 50 + [True] * 50 + [False] * 50
    assert crops[0].width == 202 < crops[100].width


def test_the_left_one_comes_first_and_the_upper_one_where_they_are_above_each_other():
    right, left = 0.55 * spot(0.85, 0.3), 0.45 * spot(0.15, 0.6)
    first, second = plan([right + left] * 9, "9:16", SIZE, fit="split")[0].boxes
    assert first.x < second.x
    tall = (360, 640)
    above = 0.45 * spot(0.55, 0.1) + 0.55 * spot(0.45, 0.9)
    first, second = plan([above] * 9, "16:9", tall, fit="split")[0].boxes
    assert first[2:] == (180, 202)  # panels side by side
    assert holds(first, 0.55, 0.1, tall)
    assert holds(second, 0.45, 0.9, tall)


def test_panels_show_nothing_twice():
    random = np.random.default_rng(0)
    for _each in range(20):
        places = random.random((5, 2))
        maps = [sum(spot(x, y) for x, y in places)] * 3
        boxes = plan(maps, random.choice(["9:16", "1:1", "4:5"]), SIZE, fit="split")[0].boxes
        if len(boxes) > 1:
            one, other = boxes
            across = min(one.x, other.x) + one.width - max(one.x, other.x)
            down = min(one.y, other.y) + one.height - max(one.y, other.y)
            assert min(across, down) <= 1  # whole pixels


@pytest.mark.parametrize("size", [(10000, 2), (2, 4000)])
@pytest.mark.parametrize("fit", ["pad", "split", "auto"])
def test_pictures_that_are_mere_lines_get_a_crop(size, fit):
    ends = np.full(GRID, 1e-6)
    ends[0, 0] = ends[-1, -1] = 1
    (crop,) = plan([ends / ends.sum()], "9:16", size, fit=fit)
    assert all(box.width >= 1 and box.height >= 1 for box in crop.boxes)


@pytest.mark.parametrize("preset", ["shorts", "square", "portrait"])
@pytest.mark.parametrize(
    "size", [(640, 272), (640, 360), (1280, 720), (1920, 1080), (426, 240), (180, 320)]
)
def test_presets_have_no_thin_bars(preset, size):
    """The sides of crops are whole and even, so their shape is only nearly that of the preset."""
    aspect, wanted = find_preset(preset)
    head = PathFile(Picture(*size), aspect, wanted)
    for density, fit in ((TWO_PEOPLE, "crop"), (TWO_PEOPLE, "split"), (THREE_PEOPLE, "split")):
        (crop,) = plan([density], aspect, size, fit=fit)
        for box, place in panels(crop, head):
            assert fitted_size(box, head, place[2:]) == place[2:]


def test_the_edge_goes_round_a_face():
    """Two faces, of which a crop holds one: the other is left out whole, and not cut in half."""
    maps = [0.6 * spot(0.3, width=0.03) + 0.4 * spot(0.6, width=0.03)] * 50
    (crop, *_others) = plan(maps, "9:16", SIZE)
    assert crop.x < 0.24 * 640
    assert not 0.54 * 640 < crop.x + crop.width < 0.66 * 640


def test_edges_of_the_picture_cut_nothing():
    bands = edge_bands(np.array([0.0, 0.3, 0.7]), 0.3, 10)
    assert (bands[:, 0] > 0).tolist() == [False, False, False]
    assert bands[0, 2:4] == pytest.approx(0.3)
    assert (bands[:, -1] > 0).tolist() == [False, False, False]


def test_wrong_words_get_the_nearest_one():
    with pytest.raises(UsageError, match="did you mean split"):
        plan([spot(0.5)], "9:16", SIZE, fit="splitt")
    with pytest.raises(UsageError, match="did you mean square"):
        find_preset("sqare")


# ---- rendering


def test_each_panel_shows_its_part_of_the_picture():
    image = np.zeros((90, 160, 3), np.uint8)
    image[:, :80] = 50
    image[:, 80:] = 200
    image[45:, 80:] = 120
    crop = Crop(0, Fraction(0), 10, 0, 50, 45, 0, None, Box(100, 45, 50, 45))
    shown = cut_out(image, crop, PathFile(Picture(160, 90), "5:9", (100, 180)))
    assert shown.shape == (180, 100, 3)
    assert (shown[:90] == 50).all()
    assert (shown[90:] == 120).all()
    beside = Crop(0, Fraction(0), 0, 0, 45, 50, 0, None, Box(100, 0, 45, 44))
    shown = cut_out(image, beside, PathFile(Picture(160, 90), "9:5", (180, 100)), "black")
    assert shown.shape == (100, 180, 3)
    assert (shown[:, :90] == 50).all()
    assert (shown[7:-7, 90:] == 200).all()
    assert (shown[0, 90:] == 0).all()  # a panel of another shape has bars


# ---- path files


HEAD = PathFile(Picture(*SIZE), "9:16", (202, 360))


@pytest.fixture
def path(tmp_path):
    maps = [spot(0.3)] * 50 + [TWO_PEOPLE] * 50
    crops = plan(maps, "9:16", SIZE, fit="auto", cuts=(50,), rate=25)
    path = tmp_path / "clip.reframe.json"
    shots = write_path(path, HEAD, crops)
    return path, crops, shots


def test_panels_come_back_as_they_were_written(path):
    place, crops, _shots = path
    again = list(read_crops(place, HEAD.picture))
    assert [crop.second is None for crop in again] == [True] * 50 + [False] * 50
    for crop, read in zip(crops, again, strict=True):
        assert read.boxes == [pytest.approx(box, abs=1e-3) for box in crop.boxes]


def test_shots_are_summed_up(path):
    place, crops, shots = path
    listed = json.loads(place.read_text())["shots"]
    assert [(shot["start"], shot["end"], shot["fit"]) for shot in listed] == [
        ("0", "2", "crop"),
        ("2", "4", "split"),
    ]
    assert [shot.fit for shot in shots] == ["crop", "split"]
    for shot in shots:
        kept = [crop.kept for crop in crops if crop.shot == shot.shot]
        assert shot.kept == pytest.approx(np.mean(kept))


def test_what_a_shot_keeps_is_a_mean_over_time(tmp_path):
    """Of frames of 1, 1, 2 and, as the last one lasts as long as that before, 2 seconds."""
    kept, times, shots = (0.9, 0.3, 0.6, 0.5), (0, 1, 2, 4), (0, 0, 1, 1)
    crops = [
        Crop(index, Fraction(time), 0, 0, 202.5, 360, shot, share)
        for index, (time, shot, share) in enumerate(zip(times, shots, kept, strict=True))
    ]
    first, second = write_path(tmp_path / "even.json", HEAD, crops)
    assert (first.end, second.end) == (2, 6)
    assert first.kept == pytest.approx(0.6) and second.kept == pytest.approx(0.55)
    (whole,) = write_path(tmp_path / "one.json", HEAD, [replace(crop, shot=0) for crop in crops])
    assert whole.kept == pytest.approx((0.9 + 0.3 + 0.6 * 2 + 0.5 * 2) / 6)
    cut = [replace(crop, shot=int(crop.pts == 4)) for crop in crops]
    *_others, last = write_path(tmp_path / "cut.json", HEAD, cut)  # one frame, as above
    assert (last.start, last.end, last.kept) == (4, 6, pytest.approx(0.5))


def test_a_file_without_panels_and_shots_is_read(path):
    """As earlier versions wrote it; and what those read of a file with panels is there, too."""
    place, crops, _shots = path
    whole = json.loads(place.read_text())
    assert whole["reframe"] == 1
    assert {"index", "pts", "x", "y", "w", "h"} <= set(whole["frames"][99])
    del whole["shots"]
    for frame in whole["frames"]:
        frame.pop("second", None)
    place.write_text(json.dumps(whole))
    again = list(read_crops(place, HEAD.picture))
    assert [len(crop.boxes) for crop in again] == [1] * len(crops)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"x": 600, "y": 0, "w": 202, "h": 180}, "frame 60: the crop from \\(600, 0\\)"),
        ({"x": 0, "y": 0, "w": 202}, "'h' is missing|damaged"),
        ({"x": 0, "y": 0, "w": 202, "h": "half"}, "h is not a number"),
        ([1, 2, 3, 4], "damaged"),
    ],
)
def test_a_wrong_panel_is_told(path, second, message):
    place, _crops, _shots = path
    whole = json.loads(place.read_text())
    whole["frames"][60]["second"] = second
    place.write_text(json.dumps(whole))
    with pytest.raises(MediaError, match=message):
        list(read_crops(place, HEAD.picture))
