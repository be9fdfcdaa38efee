"""Areas as they are written: on the command line, in files and in Python."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
from gaze_maps import spot

from avsal.areas import Area, box, shares
from avsal.areas.areas import grid_areas, parse_areas
from avsal.areas.files import read_areas
from avsal.datasets.gaze_table import read_table
from avsal.errors import DataError, UsageError

SIZE = (200, 100)


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


def test_boxes_as_text_and_times_as_on_a_clock(tmp_path):
    data, table = tmp_path / "areas.json", tmp_path / "areas.csv"
    frames = '{"time": "0:01", "box": "0,0,9,9"}, {"time": 62.5, "box": "5%, 5%, 20%, 10%"}'
    data.write_text(f'{{"areas": [{{"name": "car", "keyframes": [{frames}]}}]}}')
    table.write_text("name,time,x,y,w,h\ncar,00:00:01,0,0,9,9\ncar,1:02.5,5%,5%,20%,10%\n")
    expected = parse_areas(["car@0:01:0,0,9,9", "car@62.5:5%,5%,20%,10%"], SIZE)
    assert expected[0].times == (1, 62.5)
    assert read_areas(data, SIZE) == read_areas(table, SIZE) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("between", [";", "\t"])
def test_tables_as_spreadsheets_save_them(tmp_path, encoding, between):
    rows = ["name", "time", "x", "y", "w", "h"], ["Größe", "1,5", "10,5", "5 %", "20%", "10"]
    rows += (["Größe", "2", "0", "0", "20,5", "10"],)
    table = tmp_path / "areas.csv"
    table.write_text("\r\n".join(map(between.join, rows)), encoding=encoding)
    told = ["Größe@1.5:10.5,5%,20%,10", "Größe@2:0,0,20.5,10"]
    assert read_areas(table, SIZE) == parse_areas(told, SIZE)


@pytest.mark.parametrize(
    "text",
    [
        "sep= \nname x y w h\nlogo 1.5 2 20 10\n",
        "sep=;\nname;x;y;w;h\nlogo;1,5;2;20;10\n",
        "# exported\n\nname,x,y,w,h\nlogo,1.5,2,20,10\n",
        'name,x,y,w,h\nlogo,"1,5",2,20,10\n',
        "name;x;y;w;h\nlogo;1,500;2;20;10\n",
        'name, x, y, w, h\nlogo, "1,5", 2, 20, 10\n',
        "name;x;y;w;h\nlogo;1,5;2;20;10;;\n;;;;\n",
        "name,x,y,w,h\rlogo,1.5,2,20,10\r",
    ],
)
def test_tables_of_areas_and_of_gaze_are_read_alike(tmp_path, text):
    (tmp_path / "areas.csv").write_bytes(text.encode())
    assert read_areas(tmp_path / "areas.csv", SIZE) == parse_areas(["logo:1.5,2,20,10"], SIZE)
    for name, other in (("name", "observer"), ("w", "time"), ("h", "duration")):
        text = re.sub(rf"\b{name}\b", other, text)
    gaze = tmp_path / "gaze.csv"
    gaze.write_bytes(text.encode())
    table = read_table(gaze)
    assert table.numbers.tolist() == [[20, 10, 1.5, 2]]
    assert table.observers.tolist() == ["logo"]


@pytest.mark.parametrize(
    ("name", "text", "unread"),
    [
        ("a.csv", "name,start,End,x,y,w,h\na,1,2,9,9,9,9\n", "end, start; known are name, time, x"),
        ("a.json", '{"areas": [{"name": "a", "box": [1, 1, 9, 9], "start": 1}]}', "start; known"),
        (
            "a.json",
            '{"areas": [{"name": "a", "end": 3, "keyframes": [{"time": 1, "box": [1, 1, 9, 9]}, '
            '{"time": 2, "box": [1, 1, 9, 9], "t": 2, "points": [[0, 0], [9, 9], [0, 9], [0, 5]]}'
            "]}]}",
            "box, end, t; known are name, time, box, points, keyframes",
        ),
        ("a.csv", "name,time,x,y,w,h,points\na,,9,9,9,9,\n", ""),
        ("a.json", '{"version": 1, "areas": [{"name": "a", "box": [1, 1, 9, 9]}]}', ""),
    ],
)
def test_what_of_a_file_is_not_read_is_told(tmp_path, caplog, name, text, unread):
    """Otherwise an area with a start of its own would be measured all the time."""
    (tmp_path / name).write_text(text)
    assert len(read_areas(tmp_path / name, SIZE)) == 1
    assert len(caplog.records) == bool(unread)
    assert f"{name}: not read: {unread}" in caplog.text or not unread


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["logo"], "give NAME:"),
        (["logo:1,2,3"], "neither a box"),
        (["logo:1,2,x,4"], "neither pixels nor per cent"),
        (["logo:1,2,,4"], "nothing is neither"),
        (
            ["logo:0.05,0.05,0.2,0.1"],
            "at most a pixel in width or height; give per cent, such as 5%",
        ),
        (["logo:0,0,0.5,1"], "at most a pixel in width or height"),
        (["logo:5%,5%,0.2,10%"], "at most a pixel in width or height"),
        (["roof:0,0;1,0;0.5,0.5"], "at most a pixel in width or height"),
        (["car@1:75:0,0,9,9"], "area car: time 1:75: give a time such as"),
        (["logo:0,0,300,50"], r"reaches to \(300, .*; give the part of it that is inside"),
        (["logo:-20,0,50,50"], r"reaches to \(-20, "),
        (["logo:0,0,120%,50"], "outside the 200x100 picture"),
        (["logo:0,0,0,50"], "covers nothing"),
        (["a:0,0,1,1", "a:1,1,1,1"], "is there twice"),
        ([":0,0,1,1"], "is not a name"),
        (["car@1:0,0,9,9"], "one key frame only"),
        (["car@1:0,0,9,9", "car@1:0,0,8,8"], "the same time"),
        (["car@1:0,0,9,9", "car:0,0,8,8"], "with and without a time"),
        (["car@x:0,0,9,9"], "not a number of seconds"),
        (["car@1:0,0,9,9", "car@2:0,0;9,0;9,9"], "different numbers of corners"),
    ],
)
def test_wrong_areas_are_told(texts, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_areas(texts, SIZE)
    assert "\n" not in str(caught.value)


MOVING = {"name": "car", "keyframes": [{"time": t, "box": [t, 0, 9, 9]} for t in (1, 2)]}
LATER = {"name": "car", "keyframes": [{"time": t, "box": [t, 0, 9, 9]} for t in (5, 6)]}
TWICE = json.dumps({"areas": [MOVING, LATER]})


def test_small_numbers_of_json_are_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"areas": [{"name": "a", "box": [1e-05, 0.30000000000000004, 10, 10]}]}')
    assert read_areas(path, SIZE)[0].shapes[0][0] == pytest.approx((5e-8, 0.003))


CORNERS = box(0, 0, 0.5, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", (CORNERS,)), "is not a name"),
        (("a\nb", (CORNERS,)), "is not a name"),
        (("a\ud800", (CORNERS,)), "is not a name"),
        ((5, (CORNERS,)), "is not a name"),
        (("a", ()), "a: has 0 shapes without times"),
        (("a", (CORNERS, CORNERS)), "a: has 2 shapes without times"),
        (("a", (CORNERS,), (1.0,)), "one key frame only"),
        (("a", (CORNERS, CORNERS), (2.0, 1.0)), "the times do not ascend"),
        (("a", (CORNERS, CORNERS), (0.0, float("nan"))), "not a number of seconds"),
        (("a", (CORNERS, CORNERS), (0.0, float("inf"))), "not a number of seconds"),
        (("a", (CORNERS, CORNERS), (0.0, 1.0, 2.0)), "2 shapes and 3 times"),
        (("a", (CORNERS, CORNERS[:3]), (0.0, 1.0)), "different numbers of corners"),
        (("a", (box(float("nan"), 0, 1, 1),)), "a corner is not a number"),
        (("a", (box(0, 0, 0, 0),)), "a: covers nothing"),
        (("a", (box(0.5, 0.5, 1, 1),)), "outside"),
        (("a", (CORNERS[:2],)), "3 to 10000 corners"),
    ],
)
def test_areas_that_cannot_be_are_refused_by_name(arguments, message):
    with pytest.raises(UsageError, match=message):
        Area(*arguments)


def test_names_that_look_the_same_are_the_same():
    with pytest.raises(UsageError, match="twice"):
        parse_areas(["caf\u00e9:0,0,9,9", "cafe\u0301:0,0,9,9"], SIZE)
    with pytest.raises(UsageError, match="twice"):
        shares([spot(0.5)], [Area("caf\u00e9", (CORNERS,)), Area("cafe\u0301", (CORNERS,))])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "name,x\nlogo,1\n",
            "missing y, w, h; columns are name, time, x",
        ),
        ("a.csv", "name,x,y,width,height\nlogo,1,1,9,9\n", "missing w, h; columns are"),
        ("a.csv", "name,x,y,w,h\nlogo,1,,9,9\n", "logo: nothing is neither"),
        ("a.csv", "name,x,y,w,h\n,1,1,9,9\n", "line 2: no name"),
        (
            "a.csv",
            "name;x;y;w;h\na;1.200;9;100;50\n",
            "has 1.200 and 100: .* or 100.0 if they",
        ),
        ("a.csv", "name\tx\ty\tw\th\na\t1,200\t9\t100\t50\n", "has 1,200 and 100: .*, or 100,0"),
        ("a.csv", 'name,x,y,w,h,n\na,1,1,9,9,"\nb,1,1,9,9,\n', "line 2: .*mark not closed"),
        ("a.csv", "x,y,w,h\n1,1,1,1\n", "missing name"),
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"areas": [{"name": "logo"}]}', "not of the form"),
        ("a.json", '{"areas": [{"box": [1, 1, 1, 1]}]}', "not of the form"),
        ("a.json", '{"areas": 5}', "not of the form"),
        ("a.json", '[{"name": "a", "box": [1, 1, 1, 1]}]', r'"box"}\]}$'),
        ("a.json", '{"a": [1, 1, 1, 1]}', "'areas' is missing"),
        ("a.csv", "name,x,y,w,h\nlogo,.05,.05,.2,.1\n", "at most a pixel in width or height"),
        ("a.csv", "name,time,x,y,w,h\nlogo,1:75,1,1,1,1\n", "logo: time 1:75: give a time"),
        ("a.json", '{"areas": [{"name": "a", "box": 5}]}', "not of the form"),
        ("a.json", '{"areas": [{"name": "a", "points": [[0, 0], [1]]}]}', "neither a box"),
        ("a.csv", None, "cannot be read"),
        ("a.csv", "name,x,y,w,h\n", "holds no area"),
        ("a.json", '{"areas": []}', "holds no area"),
        ("a.csv", b"name,x,y,w,h\nT\xfcr,1,1,1,1\n", "line 2: is not text in UTF-8"),
        ("a.csv", "name,points\nroof,0,0;9,0;9,9\n", "line 2: more values than columns"),
        ("a.csv", f"name,x,y,w,h\nlogo,{'9' * 400},1,1,1\n", "neither pixels nor per cent"),
        ("a.csv", "name,x,y,w,h\nlogo,nan,1,1,1\n", "neither pixels nor per cent"),
        ("a.csv", 'name,x,y,w,h\na,"1,200",10,"1,920",9\n', "1,200: .*without thousands sep"),
        ("a.csv", "name,points\na,1".encode("utf-16")[:-1], "not text in UTF-8 or UTF-16"),
        ("a.csv", "name,x,y,w,h\nlogo,1e99,1,1,1\n", "outside the 200x100 picture"),
        ("a.json", '{"areas": [{"name": "a", "box": [1e999, 1, 1, 1]}]}', "1e999 is too large"),
        ("a.json", '{"areas": [{"name": "a", "box": [NaN, 1, 1, 1]}]}', "NaN is not JSON"),
        ("a.json", '{"areas": [{"name": "a", "box": [true, 1, 1, 1]}]}', "True is neither"),
        ("a.json", '{"areas": [{"name": {}, "box": [1, 1, 1, 1]}]}', "name {} is not text"),
        ("a.json", '{"areas": [{"name": "a", "keyframes": []}]}', "a: has no key frames"),
        (
            "a.json",
            '{"areas": [{"name": "a", "time": "inf", "box": [1, 1, 1, 1]}]}',
            "not a number",
        ),
        ("a.json", TWICE, "car: is there twice"),
    ],
)
def test_wrong_files_are_told(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_areas(path, SIZE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
def test_pipes_and_other_files_are_no_areas(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="not a regular file"):
        read_areas(tmp_path / "pipe.csv", (200, 100))
    with pytest.raises(DataError, match="not a regular file"):
        read_table(tmp_path / "pipe.csv")
    (tmp_path / "film.csv").write_bytes(b"\0\xff\xd8")
    with pytest.raises(DataError, match="not text in UTF-8"):
        read_areas(tmp_path / "film.csv", (200, 100))
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DataError, match="larger than 64 MB"):
        read_areas(tmp_path / "large.csv", (200, 100))


@pytest.mark.parametrize("text", ["", "3", "0x3", "11x11", "axb"])
def test_wrong_grids_are_told(text):
    with pytest.raises(UsageError, match="grid"):
        grid_areas(text)
