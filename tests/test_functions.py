"""`avsal.reframe` and `avsal.measure`, the commands' functions, and the packages' old names."""

from __future__ import annotations

import csv
import importlib
import inspect
import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import samples
from gaze_maps import save_maps
from media_checks import frames_of

import avsal
from avsal.areas import Area, box, shares
from avsal.crops import plan
from avsal.crops.export import write_export
from avsal.errors import AvsalError, MediaError, UsageError

# What a report says of when and by which command line it was made.
MADE = re.compile(r"<div><dt>(Command|Date)</dt><dd>.*?</dd></div>", re.DOTALL)


@pytest.fixture
def video(tmp_path):
    images = [np.full((48, 64, 3), (5 * i, 60, 120), np.uint8) for i in range(12)]
    return samples.write(tmp_path / "clip.mp4", samples.Pictures(images, rate=12))


@pytest.fixture
def maps(video, tmp_path):
    return save_maps(tmp_path / "maps", video, lambda i: (0.2 if i < 6 else 0.8, 0.5))


@pytest.fixture
def loaded(tiny, tiny_weights):
    return avsal.load_model(tiny, tiny_weights, "cpu")


# ---- reframe


def test_reframe_does_what_the_command_does(avsal_command, video, maps, tmp_path):
    done = []
    options = {"aspect": "1:1", "zoom": 1.5, "motion": "follow", "saliency": maps}
    out = avsal.reframe(
        video, tmp_path / "a.mp4", **options, progress=lambda *step: done.append(step)
    )
    assert out == tmp_path / "a.mp4"
    assert done[-1] == ("video", 12, 12)
    assert ("gaze", 12, 12) in done
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    assert avsal_command("reframe", video, "-o", tmp_path / "b.mp4", *words)[0] == 0
    one, other = (json.loads((tmp_path / f"{x}.reframe.json").read_text()) for x in "ab")
    assert one == other
    # Encoders with several threads are not the same bit for bit on a busy machine.
    for a, b in zip(frames_of(tmp_path / "a.mp4"), frames_of(tmp_path / "b.mp4"), strict=True):
        assert np.abs(a.image.astype(int) - b.image).mean() < 2
    again = avsal.reframe(str(video), str(tmp_path / "c.mp4"), path=tmp_path / "a.reframe.json")
    assert json.loads(again.with_suffix(".reframe.json").read_text())["size"] == one["size"]


def test_reframe_with_a_loaded_network(video, tiny, tiny_weights):
    model = avsal.load_model(tiny, tiny_weights, "cpu")
    out = avsal.reframe(video, model=model, size=(90, 160))
    assert out == video.with_name("clip.9x16.mp4")
    assert frames_of(out)[0].image.shape == (160, 90, 3)
    with pytest.raises(UsageError, match="exists"):
        avsal.reframe(video, model=model)
    avsal.reframe(video, model=tiny, weights=tiny_weights, device="cpu", force=True)
    assert frames_of(out)[0].image.shape == (48, 28, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aspect": "wide"}, "aspect wide"),
        ({"motion": "wild"}, "motion wild"),
        ({"size": (5, 7)}, "size 5x7"),
        ({"zoom": 9}, "zoom 9"),
        ({"path": "a.json", "zoom": 2}, "zoom: a.json decides"),
    ],
)
def test_wrong_arguments_of_reframe(video, options, message):
    with pytest.raises(UsageError, match=message):
        avsal.reframe(video, **options)


# ---- measure


def test_measure_does_what_the_command_does(avsal_command, video, maps, tmp_path):
    areas = {"left": "0,0,50%,100%", "car": {0.25: (0, 0, 16, 24), 0.75: (32, 0, 16, 24)}}
    report = avsal.measure(video, areas, saliency=maps)
    assert [row["name"] for row in report.shares] == ["left", "car"]
    assert report.shares[0]["share"] == pytest.approx(0.5, abs=0.01)
    texts = ("left:0,0,50%,100%", "car@0.25:0,0,16,24", "car@0.75:32,0,16,24")
    words = [word for text in texts for word in ("--area", text)]
    out = tmp_path / "out"
    assert avsal_command("measure", video, "--saliency", maps, "-o", out, *words)[0] == 0
    report.to_csv(tmp_path / "s.csv")
    report.to_json(tmp_path / "s.json")
    assert (tmp_path / "s.csv").read_bytes() == (out / "shares.csv").read_bytes()
    mine, its = (
        json.loads(path.read_text()) for path in (tmp_path / "s.json", out / "summary.json")
    )
    assert mine["made"].pop("date") <= its["made"].pop("date")
    assert its["made"].pop("options")["areas"] == list(texts)
    assert mine == its
    report.save(tmp_path / "saved")
    pages = [(folder / "report.html").read_text() for folder in (tmp_path / "saved", out)]
    assert [page.count("<dt>Command</dt>") for page in pages] == [0, 1]
    mine, its = (MADE.sub("", page) for page in pages)
    assert mine == its
    report.to_html(str(tmp_path / "r.html"))
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    report.save(out)  # an earlier measurement is replaced
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    frames = list(report.frames())
    assert [float(row["share"]) for row in rows] == pytest.approx(
        [row["share"] for row in frames], rel=1e-5
    )
    assert {row["time"] for row in frames if row["area"] == "car"} == {i / 12 for i in range(3, 10)}


def test_a_measurement_shows_itself(video, maps):
    name = "<b>logo"
    report = avsal.measure(video, [Area(name, (box(0, 0, 0.5, 1),)), "x:0,0,9,9"], saliency=maps)
    table = report._repr_html_()
    assert table.startswith("<table>") and table.count("<tr>") == 3
    assert "&lt;b&gt;logo" in table and name not in table
    assert repr(report) == "<Measurement of clip.mp4: x 0.0 %, <b>logo 50.0 %>"
    assert report.differences == []
    compared = avsal.measure(video, grid="2x1", saliency=maps, compare=video, compare_saliency=maps)
    assert [row["difference"] for row in compared.differences] == [0, 0]


def test_measure_with_a_loaded_network(video, tiny, tiny_weights):
    model = avsal.load_model(tiny, tiny_weights, "cpu")
    report = avsal.measure(video, grid="2x2", model=model)
    rounding = 4 * 0.5e-6  # each of the four shares has six digits
    assert sum(row["share"] for row in report.shares) == pytest.approx(1, abs=1.01 * rounding)


@pytest.mark.parametrize(
    ("areas", "message"),
    [
        ((), "nothing to measure"),
        ({}, "nothing to measure"),
        ({"logo": {}}, "logo: has no key frames"),
        ({"logo": {1: "0,0,9,9"}}, "one key frame only"),
        ({"logo": {-1: "0,0,9,9", 1: "0,0,9,9"}}, "time -1"),
        ({"logo": (0, 0, float("nan"), 9)}, "nan is neither"),
        ({"logo": 5}, "area"),
        ({"": "0,0,9,9"}, "is not a name"),
        ({5: "0,0,9,9"}, "is not a name"),
        ({"a": "0,0,9,9", "a ": "0,0,9,9"}, "is there twice"),
        (["a:0,0,9,9", 5], "area 5: give"),
    ],
)
def test_wrong_areas_of_measure(video, maps, areas, message):
    with pytest.raises(UsageError, match=message):
        avsal.measure(video, areas, saliency=maps)


def test_what_is_missing_is_one_line(tmp_path):
    with pytest.raises(MediaError, match="no such file"):
        avsal.measure(tmp_path / "none.mp4", {"a": "0,0,9,9"})
    with pytest.raises(AvsalError, match="no such file"):
        avsal.reframe(tmp_path / "none.mp4")


# ---- names


def test_the_functions_are_there_without_torch():
    code = (
        "import avsal; "
        "assert {'measure', 'reframe'} <= set(avsal.__all__); print(avsal.reframe.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "reframe\n"
    assert all(
        parameter.kind is not inspect.Parameter.VAR_KEYWORD
        for function in (avsal.reframe, avsal.measure)
        for parameter in inspect.signature(function).parameters.values()
    )


OLD = """
import inspect, pickle, warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from avsal.measure import Area, box
    import avsal.reframe.planning
    import avsal.measure.areas as areas
    from avsal.shots import find_shots
assert [w.category for w in told] == [DeprecationWarning] * 3, told
assert all(w.filename == "<string>" for w in told), told
assert "import from avsal.areas" in str(told[0].message)
import avsal.areas.areas, avsal.crops.planning, avsal.prediction.shots
assert find_shots is avsal.prediction.shots.find_shots
assert Area is areas.Area is avsal.areas.Area
assert areas is avsal.areas.areas and areas.__spec__.name == "avsal.areas.areas"
assert avsal.reframe.planning is avsal.crops.planning
assert callable(avsal.reframe) and callable(avsal.measure)
assert "aspect" in inspect.signature(avsal.reframe).parameters
try:
    avsal.measure("none.mp4", {"a": "0,0,1,1"})
except avsal.errors.MediaError as error:
    print(error)
try:
    from avsal.reframe import nothing
except ImportError:
    print("no nothing")
"""


def test_old_import_paths_work_with_a_warning():
    done = subprocess.run([sys.executable, "-c", OLD], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "none.mp4: no such file\nno nothing\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modules_that_never_were_are_not_found():
    for name in ("avsal.reframed", "avsal.reframe.nothing", "avsal.measure.areas.nothing"):
        with pytest.raises(ImportError):
            importlib.import_module(name)


# ---- read_result


def test_read_result_takes_a_path_as_text(maps):
    records = list(avsal.read_result(str(maps)).records())
    assert [record.index for record in records] == list(range(12))


MAPS = [np.ones((9, 16))] * 3
PLAIN_WRONG = {
    "video": None,
    "output": 3,
    "model": Path("weights.pt"),
    "weights": 3,
    "device": None,
    "crf": "20",
    "alpha": "0.5",
    "aspect": (9, 16),
    "zoom": "2",
    "saliency": 3,
    "settings": {"stride": 2},
    "size": 640,
    "start": "0:01",
    "stride": 1.5,
}


@pytest.mark.parametrize("name", PLAIN_WRONG)
def test_a_value_of_a_wrong_type_is_one_line_with_its_name(video, tmp_path, loaded, name):
    """Whatever takes an argument of this name refuses the value before it reads anything."""
    functions = avsal.predict, avsal.overlay, avsal.reframe, avsal.load_model, loaded.predict
    takers = [each for each in functions if name in inspect.signature(each).parameters]
    assert takers
    for function in takers:
        parameters = inspect.signature(function).parameters
        given = {"video": video, "output": tmp_path / "out.mp4", "source": video}
        given = {key: value for key, value in given.items() if key in parameters}
        with pytest.raises(UsageError, match=name if name != "saliency" else "folder") as error:
            function(**{**given, name: PLAIN_WRONG[name]})
        assert len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.glob("out*"))


def test_options_of_loading_belong_to_load_model(video, loaded):
    for given in ({"device": "cpu"}, {"weights": "untrained"}, {"precision": "fp32"}):
        with pytest.raises(UsageError, match=r"loaded already; give \w+ to load_model"):
            avsal.predict(video, model=loaded, **given)


def test_a_polygon_may_be_corners(video, maps):
    corners = [(0, 0), ("50%", 0), (0, "100%")]
    text = "0,0;50%,0;0,100%"
    given = [avsal.measure(video, {"a": shape}, saliency=maps) for shape in (corners, text)]
    assert given[0].shares == given[1].shares


def test_a_prediction_says_what_it_is(video, loaded):
    with loaded.predict(video) as prediction:
        assert repr(prediction).startswith(f"<Prediction of {video}: ")
    assert isinstance(prediction, avsal.Prediction)
    with loaded.predict(video) as frames:
        first, second = next(frames), next(frames)
        assert first != second and len({first, second}) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan(None, "9:16", (64, 36)), "maps has the type NoneType"),
        (lambda: plan(MAPS, "9:16", "64x36"), "size '64x36': give"),
        (lambda: plan(MAPS, (9, 16), (64, 36)), r"aspect \(9, 16\): give width:height"),
        (lambda: plan(MAPS, 0.01, (64, 36)), r"aspect 0.01: give a ratio from 1:20"),
        (lambda: plan(MAPS, float("nan"), (64, 36)), "aspect nan: give width:height"),
        (lambda: plan(MAPS, "9:16", (0, 36)), "size .* give"),
        (lambda: plan(MAPS, "9:16", (64, 36), cuts=5), "cuts 5: give a list"),
        (lambda: shares(MAPS, {"a": "0,0,9,9"}), "give a list of Area objects"),
        (lambda: shares(MAPS, Area("a", (box(0, 0, 1, 1),))), "give a list of Area objects"),
        (lambda: Area("a", box(0, 0, 1, 1)), "give a tuple of shapes"),
        (lambda: write_export(None, "a.csv"), "path has the type NoneType"),
        (lambda: avsal.read_result(None), "folder has the type NoneType"),
    ],
)
def test_other_functions_refuse_wrong_types_too(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_maps_of_predict_are_given_by_their_densities(video, loaded):
    with pytest.raises(UsageError, match="map 0 is a SaliencyFrame; give its density"):
        plan(loaded.predict(video), "9:16", (64, 48))
    densities = (frame.density for frame in loaded.predict(video, size="model"))
    assert len(plan(densities, "9:16", (64, 48))) == 12


def test_maps_of_a_file_that_was_changed_since_are_told(video, maps, tmp_path, caplog):
    calls = {
        "overlay": lambda: avsal.overlay(video, tmp_path / "o.mp4", saliency=maps),
        "measure": lambda: avsal.measure(video, {"a": "0,0,9,9"}, saliency=maps),
        "reframe": lambda: avsal.reframe(video, tmp_path / "r.mp4", saliency=maps),
    }
    told = f"{video}: was changed after its maps in {maps} were made"
    for call in calls.values():
        call()
    assert told not in caplog.text
    video.write_bytes(video.read_bytes() + bytes(8))  # behind the last box
    for name, call in calls.items():
        caplog.clear()
        call()
        assert told in caplog.text, name


def test_numbers_may_be_numpy_s_or_fractions(video, maps, loaded, tmp_path):
    part = {"start": np.int64(0), "end": np.float32(0.3)}
    out = avsal.reframe(video, tmp_path / "a.mp4", saliency=maps, zoom=np.float32(1.5), **part)
    path = json.loads((tmp_path / "a.reframe.json").read_text())
    assert (path["start"], path["end"], path["settings"]["zoom"]) == (0, 0.3, 1.5)
    assert avsal.reframe(video, tmp_path / "b.mp4", path=tmp_path / "a.reframe.json") != out
    avsal.reframe(video, tmp_path / "c.mp4", saliency=maps, start=Fraction(1, 5))
    report = avsal.measure(video, {"a": "0,0,9,9"}, model=loaded, stride=np.int64(2))
    report.save(tmp_path / "measured")
    made = json.loads((tmp_path / "measured" / "summary.json").read_text())["made"]
    assert '"stride": 2' in json.dumps(made)
    avsal.overlay(video, tmp_path / "a.gif", saliency=maps, fps=np.float32(5))


@pytest.mark.parametrize("name", ["", "a\0b.mp4"])
def test_names_that_no_file_has_are_refused(name):
    with pytest.raises(UsageError, match="cannot be the name of a file"):
        avsal.predict(name)


def test_a_result_says_what_it_is(maps):
    result = avsal.read_result(maps)
    assert isinstance(result, avsal.Result)
    assert repr(result) == f"<Result {maps}: {result.format} maps of a 64x48 video>"
