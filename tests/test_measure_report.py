"""The report of `avsal measure`: what it shows of one and of two versions, its colours and axes."""

from __future__ import annotations

import csv
import html
import itertools
import json
import re
from importlib.resources import files

import cv2
import numpy as np
import pytest
import samples
from gaze_maps import save_maps, spot
from test_measure_command import BOXES, check_page, picture

import avsal
from avsal.areas import Area, box
from avsal.areas.pictures import COLOURS, Axes, Line, line_chart
from avsal.areas.series import Collector
from avsal.errors import UsageError
from avsal.prediction.maps import timed_maps

LEFT = Area("left", (box(0, 0, 0.5, 1),))


@pytest.fixture
def video(tmp_path):
    images = [picture(0)] * 12 + [picture(1)] * 12
    return samples.write(tmp_path / "clip.mp4", samples.Pictures(images, rate=12))


@pytest.fixture
def maps(video, tmp_path):
    return save_maps(tmp_path / "maps", video, lambda i: (0.2 if i < 12 else 0.8, 0.5))


@pytest.fixture
def measure(avsal_command, video, maps, tmp_path):
    """`avsal measure` on the clip: exit code, stderr, summary and page."""

    def run(*arguments):
        out = tmp_path / "out"
        code, _out, err = avsal_command("measure", video, "--saliency", maps, "-o", out, *arguments)
        if code:
            return code, err, None, None
        page = (out / "report.html").read_text()
        check_page(page)
        return code, err, json.loads((out / "summary.json").read_text()), page

    return run


@pytest.fixture
def other(video, tmp_path):
    """Options for a second version whose gaze is always on the right."""
    right = save_maps(tmp_path / "right", video, lambda _i: (0.8, 0.5))
    return "--compare", video, "--compare-saliency", right


def series_of(maps, areas, duration):
    collector = Collector(areas)
    timed = timed_maps(maps, rate=1 / duration)
    assert len([collector.add(entry) for entry in timed]) == len(maps)
    return collector.series()


# ---- measures


def test_the_share_of_the_first_three_seconds():
    late = Area("late", (box(0, 0, 0.5, 1), box(0, 0, 0.5, 1)), (3.2, 9.0))
    seen = series_of([spot(0.2)] * 5 + [spot(0.8)] * 5, [LEFT, late], 0.5)
    first = seen.first_share()
    assert first[0] == pytest.approx(2.5 / 3, abs=1e-3)
    assert np.isnan(first[1])
    whole = series_of([spot(0.2), spot(0.8)], [LEFT], 2.0)  # the second frame counts for one second
    assert whole.first_share()[0] == pytest.approx(2 / 3, abs=1e-3)
    short = series_of([spot(0.2), spot(0.8)], [LEFT], 0.5)
    assert short.first_share() == pytest.approx(short.average(short.share))


def test_the_largest_share_and_its_time():
    never = Area("never", (box(0, 0, 0.5, 1), box(0, 0, 0.5, 1)), (50.0, 60.0))
    maps = [spot(0.8), spot(0.2) + spot(0.8), spot(0.2), spot(0.2), spot(0.8)]
    share, time = series_of(maps, [LEFT, never], 0.5).largest()
    assert (share[0], time[0]) == (pytest.approx(1, abs=1e-3), 1.0)
    assert np.isnan([share[1], time[1]]).all()


def test_measures_over_time_are_in_summary_and_page(measure):
    _code, _err, summary, page = measure(*BOXES)
    left, right = summary["areas"]
    assert left["share_first_3_s"] == pytest.approx(left["share"])
    assert (left["largest_share"], left["largest_share_time"]) == (pytest.approx(1, abs=0.01), 0)
    assert right["largest_share_time"] == 1
    assert f"{right['largest_share'] * 100:.1f} % at 1 s" in page
    for head in ("First 3\u00a0s", "Largest share", "Seconds of gaze"):
        assert f'data-head="{head}"' in page


# ---- two versions


def test_areas_of_the_other_version_are_its_own(measure, other, tmp_path):
    table = tmp_path / "b.csv"
    table.write_text("name,x,y,w,h\nleft,50%,0,50%,100%\n")
    _code, _err, summary, _page = measure(*BOXES, *other, "--compare-areas", table)
    left, right = summary["compare"]["areas"]
    assert left["second"] > 0.99  # where it is in B
    assert right["second"] > 0.99  # the same place as in A
    measured = summary["compare"]["measured"]
    assert [row["name"] for row in measured] == ["left", "right"]
    assert set(measured[0]) == set(summary["areas"][0])
    assert measured[0]["seconds"] == pytest.approx(2, rel=0.01)
    with (tmp_path / "out" / "compared_shares.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    assert all(float(row["share"]) > 0.99 for row in rows)


def test_areas_of_the_other_version_from_python(video, maps, other):
    arguments = {"saliency": maps, "compare": video, "compare_saliency": other[3]}
    areas = {"left": "0,0,50%,100%"}
    moved = avsal.measure(video, areas, compare_areas={"left": "50%,0,50%,100%"}, **arguments)
    assert moved.differences[0]["second"] > 0.99
    assert [row["share"] for row in moved.compared_frames()] == pytest.approx([1] * 24, abs=0.01)
    assert not list(avsal.measure(video, areas, saliency=maps).compared_frames())
    with pytest.raises(UsageError, match="compare-areas needs compare"):
        avsal.measure(video, areas, saliency=maps, compare_areas=areas)


def test_areas_that_only_the_other_version_has_are_refused(measure, other, tmp_path):
    table = tmp_path / "b.csv"
    table.write_text("name,x,y,w,h\nlogo,0,0,9,9\n")
    code, err, _summary, _page = measure(*BOXES, *other, "--compare-areas", table)
    assert (code, err.count("\n")) == (2, 1)
    assert "logo is not an area of the video (left, right)" in err
    code, err, _summary, _page = measure(*BOXES, "--compare-areas", table)
    assert (code, err.count("\n")) == (2, 1)
    assert "compare-areas needs compare" in err


def test_both_versions_are_everywhere(measure, other):
    _code, _err, summary, page = measure(*BOXES, *other)
    assert page.count('class="placed"') == 2
    assert page.count('<div class="chart"') == 2 + 1  # one for each area, one of the spread
    for chart in page.split('<div class="chart"')[1:]:
        solid, dashed = (
            re.findall(rf'<path class="line {kind}s\d" d="(M[^"]+)"', chart)
            for kind in ("", "dashed ")
        )
        assert len(solid) == len(dashed) == 1
    assert page.count('data-head="Seconds of gaze"') == 2 * 2
    for rows in (summary["areas"], summary["compare"]["measured"]):
        for row in rows:
            assert f"<em>{row['name']}</em> <b>{row['share'] * 100:.1f} %</b>" in page


def test_lines_of_versions_reach_to_their_own_end(measure, other, tmp_path):
    long = samples.write(tmp_path / "long.mp4", samples.Pictures([picture(2)] * 48, rate=12))
    maps = save_maps(tmp_path / "long", long, lambda _i: (0.8, 0.5))
    _code, _err, _summary, page = measure(*BOXES[:2], "--compare", long, "--compare-saliency", maps)
    chart = page.split('<div class="chart"')[1]
    solid, dashed = (
        [float(x) for x in re.findall(r"[ML]([\d.]+) ", path)]
        for path in re.findall(r'<path class="line [^"]*" d="([^"]+)"', chart)
    )
    assert (len(solid), len(dashed)) == (24, 48)
    assert max(solid) < 500
    assert 950 < max(dashed) <= 1000


def test_names_are_in_the_order_of_their_lines_wherever_these_end():
    lines = [
        Line(name, np.array([0.0, 1.0]), np.array([0.1, end]), 0)
        for name, end in (("A", 0.1), ("B", 0.3), ("C", 0.2))
    ]
    page = line_chart(lines, Axes(0, 1, 0.4, 0.1), (), "title")
    found = re.findall(r'<span style="top:([\d.]+)%"><i class="key[^>]*></i>(\w)</span>', page)
    assert [name for _height, name in found] == ["A", "B", "C"]
    heights = [float(height) for height, _name in found]
    assert heights[1] < heights[2] < heights[0]


# ---- pictures, labels, colours


def test_thumbnails_are_saved_at_full_size(measure, video, tmp_path):
    _code, _err, summary, page = measure(*BOXES)
    assert sorted(summary["thumbnails"]) == ["thumbnail-shot-1.jpg", "thumbnail-shot-2.jpg"]
    for name, seed in zip(sorted(summary["thumbnails"]), (0, 1), strict=True):
        image = cv2.imread(str(tmp_path / "out" / name))[:, :, ::-1].astype(int)
        assert image.shape == (48, 64, 3)
        assert np.abs(image - picture(seed)).mean() < 12
        assert name in page
    assert measure("--grid", "2x2")[0] == 0  # an earlier measurement is replaced
    (tmp_path / "out" / "thumbnail-shot-9.jpg").write_text("mine")
    code, err, _summary, _page = measure("--grid", "2x2")
    assert code == 1
    assert "thumbnail-shot-9.jpg" in err
    assert (tmp_path / "out" / "thumbnail-shot-9.jpg").read_text() == "mine"


def test_thumbnails_have_square_pixels(tmp_path):
    from avsal.areas.pictures import full_size

    wide = cv2.imdecode(np.frombuffer(full_size(picture(0), 1.5), np.uint8), cv2.IMREAD_COLOR)
    assert wide.shape == (48, 96, 3)


def test_nine_areas_have_nine_colours_and_their_shares_inside(measure):
    _code, _err, summary, page = measure("--grid", "3x3")
    lines = re.findall(r'<path class="line (s\d)"', page.split('<div class="chart"')[1])
    assert sorted(lines) == [f"s{number}" for number in range(9)]
    for number, area in enumerate(summary["areas"]):
        label = f"<em>{area['name']}</em> <b>{area['share'] * 100:.1f} %</b>"
        assert f'<span class="s{number}">{label}' in page
        assert f'<polygon class="s{number}"' in page
        assert f'<i class="key s{number}"></i>{area["name"]}' in page


def test_more_areas_than_colours(measure):
    _code, _err, _summary, page = measure("--grid", "4x4")
    assert len(re.findall(r'<path class="line s\d"', page.split('<div class="chart"')[1])) == 9
    assert page.count('<polygon class="rest"') == 16 - 9
    assert "The 9 areas with most gaze; shares.csv has all of them." in page


def test_labels_at_one_place_are_moved_apart(measure):
    same = ("--area", "a:0,0,32,24", "--area", "b:0,0,40,30", "--area", "c:0,0,20,20")
    _code, _err, _summary, page = measure(*same)
    assert re.findall(r"--moved:(\d)", page) == ["1", "2"]


def test_labels_of_polygons_are_inside_them(measure):
    roof = ("--area", "roof:0,0;64,0;32,48", "--area", "box:0,0;32,0;32,24;0,24")
    _code, _err, _summary, page = measure(*roof)
    assert 'class="area centred"' in page
    assert page.count("centred") - page.count(".centred") == 1  # four right corners are a box
    assert 'style="left:50.0%;top:33.3%"' in page


def test_areas_that_vanish_on_their_way_have_labels():
    from avsal.areas.report import _label

    for flat in (((0, 0), (1, 0), (0.5, 0)), box(0.5, 0, 0, 1)):
        label = _label("a", 0.0, flat, "s0", 0)
        assert "nan" not in label and "inf" not in label


def linear(colour):
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


# What people see who lack the cones for red, green or blue (Machado, Oliveira and Fernandes 2009).
DEFICIENCIES = {
    "none": np.eye(3),
    "red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(colour, deficiency):
    seen = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear(colour), 0, 1)
    srgb = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(srgb.astype(np.float32)[None, None], cv2.COLOR_RGB2LAB)[0, 0]


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("mode", [0, 1])
def test_colours_stay_apart_for_colour_blind_people(mode, deficiency):
    style = files("avsal.areas").joinpath("report.html").read_text(encoding="utf-8")
    found = re.findall(r"--s\d: (#[0-9a-f]{6})", style)
    colours = found[mode * COLOURS :][:COLOURS]
    assert len(found) == 2 * COLOURS
    seen = [lab(colour, deficiency) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15
    ground = ("#ffffff", "#14171b")[mode]
    light = np.array([0.2126, 0.7152, 0.0722])
    for colour in colours:  # contrast of at least 3, as WCAG asks of graphics
        low, high = sorted((light @ linear(colour), light @ linear(ground)))
        assert (high + 0.05) / (low + 0.05) >= 3


# ---- axes


@pytest.mark.parametrize(
    ("largest", "top"),
    [(0, 0.001), (0.0043, 0.005), (0.04, 0.04), (0.54, 0.6), (0.81, 1), (1, 1)],
)
def test_axes_fit_the_data(largest, top):
    line = Line("a", np.array([10.0, 11]), np.array([largest / 2, largest]))
    axes = Axes.fitted([line], 10, 12)
    assert axes.top == pytest.approx(top)
    assert (axes.x(10), axes.x(12), axes.y(0)) == (0, 1, 1)
    assert axes.top / axes.step <= 8 + 1e-9


def test_charts_begin_where_the_maps_begin():
    line = Line("a <b>", np.array([10.0, 11]), np.array([0.1, 0.2]))
    chart = line_chart([line], Axes.fitted([line], 10, 12), [10, 11], "title")
    assert 'd="M0.0 125.0L500.0 0.0"' in chart
    assert chart.count('class="cut"') == 1
    assert '<span class="x" style="left:0.00%">10 s</span>' in chart
    assert "a &lt;b&gt;" in chart


# ---- how it was made


def test_the_page_ends_with_how_it_was_made(measure, maps):
    head = maps / "saliency.json"
    values = json.loads(head.read_text())
    values["weights"] = {"name": "w&w", "sha256": "ab" * 32}
    head.write_text(json.dumps({"device": "<i>cpu", **values}))  # the header is before the frames
    _code, _err, summary, page = measure(*BOXES)
    made = page[page.index("How this report was made") :]
    words = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", made))
    assert words["Command"].startswith("avsal measure ")
    assert f"--saliency {maps}" in html.unescape(words["Command"])
    assert words["Weights"] == f"w&amp;w, sha256 {'ab' * 32}"
    assert words["Settings"] == "format png, scale frame"
    assert words["Device"] == "&lt;i&gt;cpu"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d .+", words["Date"])
    assert summary["made"]["date"][:10] == words["Date"][:10]
    assert summary["made"]["maps"] == str(maps)


def test_a_page_from_python_names_no_command_and_no_files(video, maps, tmp_path):
    measured = avsal.measure(video, {"left": "0,0,50%,100%"}, saliency=maps)
    measured.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    check_page(page)
    assert "<dt>Command</dt>" not in page
    assert "thumbnail-shot" not in page
    measured.save(tmp_path / "saved")
    assert "thumbnail-shot-1.jpg" in (tmp_path / "saved" / "report.html").read_text()


def test_headings_stay_with_their_charts(measure):
    """On paper a part that fits on a sheet is not broken, and no heading is left alone."""
    _code, _err, _summary, page = measure(*BOXES)
    for title in ("Shares over time", "Gaze spread"):
        assert f'<section class="kept"><h2>{title}</h2>' in page
    paper = page[page.index("@media print") :]
    assert re.search(r"h2[^}]*break-after: avoid", paper)
    assert re.search(r"\.kept[^}]*break-inside: avoid", paper)
    assert not re.search(r"\btable\b[^{}]*{ break-inside", paper)  # a long one may break
    narrow = page[page.index("@media (max-width: 640px)") : page.index("@page")]
    assert "thead { display: none; }" in narrow
    assert "min-width: 6" not in narrow and "overflow-x" not in page  # nothing to scroll sideways
