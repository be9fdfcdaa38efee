"""`avsal measure`: its three files, comparison, and one line for what does not fit."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from fractions import Fraction
from html.parser import HTMLParser

import numpy as np
import pytest
import samples
from file_server import serving
from gaze_maps import save_maps

from avsal.areas import api
from avsal.errors import MediaError
from avsal.media.video import VideoReader
from avsal.media.writer import VideoWriter
from avsal.prediction.model import load_model
from avsal.prediction.settings import PredictSettings
from avsal.results.folder import read_result
from avsal.results.gaze import open_gaze

BOXES = ("--area", "left:0,0,50%,100%", "--area", "right:50%,0,50%,100%")


def picture(seed):
    """Soft colours; another seed is another scene."""
    small = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), np.uint8)
    return np.kron(small, np.ones((16, 16, 1), np.uint8))


@pytest.fixture
def video(tmp_path):
    images = [picture(0)] * 12 + [picture(1)] * 12
    return samples.write(tmp_path / "two <shots>.mp4", samples.Pictures(images, rate=12))


@pytest.fixture
def maps(video, tmp_path):
    return save_maps(tmp_path / "maps", video, lambda i: (0.2 if i < 12 else 0.8, 0.5))


@pytest.fixture
def measure(avsal_command, tmp_path):
    """`avsal measure VIDEO -o tmp_path/out ...`"""

    def run(source, *arguments, out="out"):
        return avsal_command("measure", source, "-o", tmp_path / out, *arguments)

    return run


def summary_of(tmp_path, out="out"):
    return json.loads((tmp_path / out / "summary.json").read_text())


def rows_of(tmp_path, out="out"):
    with (tmp_path / out / "shares.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Checker(HTMLParser):
    """Whether every tag is closed, and what a page points at."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(link.startswith("data:image/jpeg;base64,") for link in checker.links)
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r"\bnan\b", text)


def test_the_last_frame_of_a_part_counts_up_to_its_end(measure, tmp_path):
    """The third of four slides is shown until 10 s; the part ends at 3 s."""
    times = [Fraction(second) for second in (0, 1, 2, 10)]
    slides = samples.variable_rate(tmp_path / "slides.mkv", times)
    maps = save_maps(tmp_path / "maps", slides, lambda i: (0.25 + 0.5 * (i == 2), 0.5))
    assert measure(slides, "--saliency", maps, "--end", 3, *BOXES)[0] == 0
    summary = summary_of(tmp_path)
    assert (summary["frames"], summary["seconds"]) == (3, 3)
    assert [area["seconds"] for area in summary["areas"]] == pytest.approx([2, 1], abs=1e-3)


def test_shares_summary_and_report(measure, video, maps, tmp_path):
    code, out, err = measure(video, "--saliency", maps, *BOXES)
    assert (code, err) == (0, "")
    assert out == f"{tmp_path / 'out' / 'report.html'}: 24 frames\n"
    rows = rows_of(tmp_path)
    assert len(rows) == 48
    assert rows[0]["time"] == "0.000000"
    assert [row["area"] for row in rows[:2]] == ["left", "right"]
    assert float(rows[0]["share"]) > 0.99
    assert float(rows[-2]["share"]) < 0.01
    assert float(rows[0]["seconds"]) == pytest.approx(1 / 12, rel=0.01)
    summary = summary_of(tmp_path)
    assert (summary["measure"], summary["frames"], summary["seconds"]) == (1, 24, 2)
    assert [(shot["first"], shot["last"]) for shot in summary["shots"]] == [(0, 11), (12, 23)]
    assert [shot["end"] for shot in summary["shots"]] == ["1", "2"]
    left = summary["areas"][0]
    assert left["share"] == pytest.approx(0.5, abs=0.01)
    assert left["part"] == 0.5
    assert left["seconds"] == pytest.approx(1, abs=0.01)
    assert left["expected_error"] is None  # this network was not measured
    page = (tmp_path / "out" / "report.html").read_text()
    check_page(page)
    assert "two &lt;shots&gt;.mp4" in page
    assert page.count("<figure") == 1 + 2 + 2
    assert "was not measured for this network" in page


def test_the_expected_error_stands_beside_the_share(measure, video, maps, tmp_path):
    head = (maps / "saliency.json").read_text().replace('"test"', '"small-224x384"', 1)
    (maps / "saliency.json").write_text(head)
    assert measure(video, "--saliency", maps, *BOXES)[0] == 0
    error = summary_of(tmp_path)["areas"][0]["expected_error"]
    assert error > 0
    assert f"± {error * 100:.1f}" in (tmp_path / "out" / "report.html").read_text()


def test_grids_files_and_key_frames_together(measure, video, maps, tmp_path):
    table = tmp_path / "areas.csv"
    table.write_text("name,time,x,y,w,h\ncar,0.5,0,0,32,48\ncar,1.5,32,0,32,48\n")
    assert measure(video, "--saliency", maps, "--grid", "2x2", "--areas", table)[0] == 0
    summary = summary_of(tmp_path)
    assert [area["name"] for area in summary["areas"]][:2] == ["car", "row 1 column 1"]
    assert summary["areas"][0]["seconds_present"] == pytest.approx(1, abs=1e-4)
    times = [float(row["time"]) for row in rows_of(tmp_path) if row["area"] == "car"]
    assert (min(times), max(times)) == (0.5, 1.5)


def test_two_versions(measure, video, maps, tmp_path):
    other = save_maps(tmp_path / "other", video, lambda _i: (0.2, 0.5))
    arguments = ("--compare", video, "--compare-saliency", other)
    assert measure(video, "--saliency", maps, *BOXES, *arguments)[0] == 0
    left, right = summary_of(tmp_path)["compare"]["areas"]
    assert left["difference"] == pytest.approx(-0.5, abs=0.01)
    assert right["difference"] == pytest.approx(0.5, abs=0.01)
    assert left["low"] <= left["difference"] <= left["high"]
    page = (tmp_path / "out" / "report.html").read_text()
    check_page(page)
    assert "Two versions" in page


def test_pixels_that_are_not_square_are_told_where_areas_are_in_pixels(tmp_path, caplog):
    films = tmp_path / "one.mp4", tmp_path / "two.mp4"
    for film in films:
        with VideoWriter(film, 64, 48, sample_aspect=Fraction(4, 3)) as writer:
            writer.write(picture(0), Fraction(0), Fraction(1, 25))
    one, two = (save_maps(film.with_suffix(""), film, lambda _i: (0.2, 0.5)) for film in films)
    table = tmp_path / "areas.csv"
    table.write_text("name,x,y,w,h\na,0,0,50%,9\n")
    relative, pixels = {"a": "0,0,50%,50%"}, {"a": "0,0,50%,9"}
    for first, other, told in (
        ({"areas": relative}, {}, ()),
        ({"areas": iter(["a:0,0,9,9"])}, {}, ("one.mp4",)),
        ({"areas_file": table}, {}, ("one.mp4",)),
        ({"areas": relative}, {"compare_areas": pixels}, ("two.mp4",)),
        ({"areas": pixels}, {"compare_areas": relative}, ("one.mp4",)),
    ):
        caplog.clear()
        api.measure(
            films[0], saliency=one, compare=films[1], compare_saliency=two, **first, **other
        )
        notes = [text for text in caplog.messages if "its pixels are not square" in text]
        assert [note.split(":")[0].rpartition("/")[2] for note in notes] == [*told]


def test_a_still_image(measure, tmp_path):
    photo = samples.still(tmp_path / "photo.png", picture(0))
    maps = save_maps(tmp_path / "maps", photo, lambda _i: (0.2, 0.5))
    assert measure(photo, "--saliency", maps, *BOXES)[0] == 0
    summary = summary_of(tmp_path)
    assert summary["areas"][0]["share"] > 0.99
    assert (summary["seconds"], summary["areas"][0]["seconds"]) == (0, None)
    assert rows_of(tmp_path)[0]["seconds"] == ""
    check_page((tmp_path / "out" / "report.html").read_text())


def test_two_still_images(measure, tmp_path):
    photos = [samples.still(tmp_path / f"{seed}.png", picture(seed)) for seed in (0, 1)]
    maps = [
        save_maps(tmp_path / f"maps{x}", photo, lambda _i, x=x: (x, 0.5))
        for photo, x in zip(photos, (0.2, 0.8), strict=True)
    ]
    arguments = ("--compare", photos[1], "--compare-saliency", maps[1])
    assert measure(photos[0], "--saliency", maps[0], *BOXES, *arguments)[0] == 0
    left, right = summary_of(tmp_path)["compare"]["areas"]
    assert (left["difference"], left["low"]) == (pytest.approx(1, abs=0.01), None)
    assert right["difference"] == pytest.approx(-1, abs=0.01)
    page = (tmp_path / "out" / "report.html").read_text()
    check_page(page)
    assert "Two versions" in page
    assert "seconds" not in page[page.index("Two versions") : page.index("What the numbers")]


def test_the_frames_that_are_counted_are_the_video_s_own(measure, video, maps, tmp_path):
    short = samples.write(tmp_path / "short.mp4", samples.Pictures([picture(0)] * 7, rate=12))
    other = save_maps(tmp_path / "other", short, lambda _i: (0.5, 0.5))
    arguments = ("--compare", short, "--compare-saliency", other)
    code, out, _err = measure(video, "--saliency", maps, *BOXES, *arguments)
    assert code == 0
    assert out.endswith(": 24 frames\n")


def test_a_still_image_and_a_video_are_not_compared(measure, video, maps, tmp_path):
    photo = samples.still(tmp_path / "photo.png", picture(0))
    other = save_maps(tmp_path / "other", photo, lambda _i: (0.2, 0.5))
    arguments = ("--compare", photo, "--compare-saliency", other)
    code, _out, err = measure(video, "--saliency", maps, *BOXES, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert "photo.png: an image and a video cannot be compared" in err
    assert not (tmp_path / "out").exists()


def test_areas_at_times_without_maps_are_reported(measure, video, maps, tmp_path):
    head = (maps / "saliency.json").read_text().replace('"test"', '"small-224x384"', 1)
    (maps / "saliency.json").write_text(head)
    late = ("--area", "late@100:0,0,9,9", "--area", "late@200:0,0,9,9")
    over = ("--area", "over@1:0,0,9,9", "--area", "over@5:0,0,9,9")
    code, _out, err = measure(video, "--saliency", maps, *late, *over, *BOXES)
    assert code == 0
    assert "area late has key frames from 100 to 200 s, but the maps go from 0 to 2 s" in err
    assert "area over has key frames from 1 to 5 s" in err
    assert err.count("note:") == 2
    late, over = summary_of(tmp_path)["areas"][:2]
    assert (late["share"], late["expected_error"], late["seconds_present"]) == (None, None, 0)
    assert over["seconds_present"] == 1
    page = (tmp_path / "out" / "report.html").read_text()
    check_page(page)
    assert "late" in page


def test_names_are_escaped_wherever_they_stand(measure, video, maps, tmp_path):
    name = "<b onclick='x'>&\"$name"
    assert measure(video, "--saliency", maps, "--area", f"{name}:0,0,9,9")[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    check_page(page)
    assert "<b onclick" not in page
    assert summary_of(tmp_path)["areas"][0]["name"] == rows_of(tmp_path)[0]["area"] == name


def test_the_key_in_an_address_is_written_nowhere(measure, video, maps, tmp_path):
    with serving(video.parent) as server:
        host = server.address.removeprefix("http://")
        address = f"http://user:pa55@{host}/two%20%3Cshots%3E.mp4?token=secret#part"
        arguments = ("--compare", address, "--compare-saliency", maps)
        code, out, err = measure(address, "--saliency", maps, *BOXES, *arguments)
        assert code == 0
        missing = f"http://{host}/none.mp4?token=secret: x"
        _code, more_out, more = measure(missing, "--saliency", maps, *BOXES)
    files = (path for path in (tmp_path / "out").iterdir() if path.suffix != ".jpg")
    written = [path.read_text() for path in files]
    for text in (*written, out, err, more_out, more):
        assert "secret" not in text and "pa55" not in text
    assert summary_of(tmp_path)["source"]["name"] == f"http://{host}/two%20%3Cshots%3E.mp4"
    assert f"http://{host}/none.mp4" in more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "no size of a picture"),
        ({"height": 10**9}, "too many"),
        ({"width": 10**400}, "width is not a number"),
        ({"width": "1e1000000000"}, "width is not a number"),
        ({"fps": float("inf")}, "Infinity is not JSON"),
        ({"settings": []}, "damaged"),
    ],
)
@pytest.mark.timeout(30)
def test_hostile_numbers_of_a_result(measure, video, maps, change, message):
    path = maps / "saliency.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    code, _out, err = measure(video, "--saliency", maps, *BOXES)
    assert (code, err.count("\n")) == (1, 1)
    assert str(path) in err and message in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pts": "1e1000000000"}, "frame 3: pts is not a fraction"),
        ({"pts": "-" + "9" * 20}, "frame 3: pts is too large"),
        ({"peak": [10**400, 0]}, "frame 3: peak is not a pixel"),
        ({"min": 1e300}, "frame 3: min is not a number"),
    ],
)
def test_hostile_numbers_of_a_map(measure, video, maps, change, message):
    path = maps / "saliency.json"
    whole = json.loads(path.read_text())
    whole["frames"][3] |= change
    path.write_text(json.dumps(whole))
    code, _out, err = measure(video, "--saliency", maps, *BOXES)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err


def test_the_network_makes_the_maps(measure, video, tiny, tiny_weights, tmp_path):
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    assert measure(video, "--grid", "3x3", *network)[0] == 0
    assert sum(area["share"] for area in summary_of(tmp_path)["areas"]) == pytest.approx(1)


def test_part_of_a_video(measure, avsal_command, video, tiny, tiny_weights, tmp_path):
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    part = ("--start", "0.5", "--end", "1.5", "--format", "npy", "--size", "model")
    assert avsal_command("predict", video, "-o", tmp_path / "p", *part, *network)[0] == 0
    folder = next((tmp_path / "p").iterdir())
    assert measure(video, "--saliency", folder, "--grid", "2x2")[0] == 0
    summary = summary_of(tmp_path)
    assert summary["frames"] == 12
    assert [(shot["first"], shot["last"]) for shot in summary["shots"]] == [(6, 11), (12, 17)]


def test_a_turned_video_is_measured_as_displayed(measure, tmp_path):
    turned = samples.rotated(tmp_path / "turned.mp4", 90)  # 64x48 stored, 48x64 displayed
    maps = save_maps(tmp_path / "maps", turned, lambda _i: (0.5, 0.2))
    assert measure(turned, "--saliency", maps, "--area", "top:0,0,48,32")[0] == 0
    assert summary_of(tmp_path)["areas"][0]["share"] > 0.99


def test_seconds_where_the_frame_rate_varies(measure, tmp_path):
    times = [Fraction(n, 12800) for n in (0, 512, 1024, 3000, 9000, 9512)]
    video = samples.variable_rate(tmp_path / "vfr.mp4", times)
    maps = save_maps(tmp_path / "maps", video, lambda i: (0.2 if i < 4 else 0.8, 0.5))
    assert measure(video, "--saliency", maps, *BOXES)[0] == 0
    summary = summary_of(tmp_path)
    assert summary["areas"][0]["seconds"] == pytest.approx(9000 / 12800, rel=0.01)
    assert summary["areas"][1]["seconds"] == pytest.approx(
        summary["seconds"] - 9000 / 12800, rel=0.01
    )


def test_an_earlier_measurement_is_replaced_and_nothing_else(measure, video, maps, tmp_path):
    for _time in range(2):
        assert measure(video, "--saliency", maps, *BOXES)[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    code, _out, err = measure(video, "--saliency", maps, *BOXES, out="mine")
    assert code == 1
    assert "not an earlier result" in err
    assert (tmp_path / "mine" / "file").read_text() == "keep"


def test_an_output_that_cannot_be_written_is_found_before_the_network(measure, video):
    (video.parent / "file").write_text("keep")
    code, _out, err = measure(video, *BOXES, "--weights", "none.pt", out="file/out")
    assert code == 1
    assert "file: cannot be written" in err and "none.pt" not in err


def test_notes_in_an_earlier_measurement_are_kept(measure, video, maps, tmp_path):
    assert measure(video, "--saliency", maps, *BOXES, out="mine")[0] == 0
    earlier = (tmp_path / "mine" / "report.html").read_bytes()
    (tmp_path / "mine" / "slides").mkdir()
    (tmp_path / "mine" / "slides" / "deck.pptx").write_text("keep")
    code, _out, err = measure(video, "--saliency", maps, "--grid", "3x3", out="mine")
    assert code == 1
    assert "mine: holds slides, so it is not an earlier result" in " ".join(err.split())
    assert (tmp_path / "mine" / "slides" / "deck.pptx").read_text() == "keep"
    assert (tmp_path / "mine" / "report.html").read_bytes() == earlier


@pytest.mark.parametrize("text", ["{}", "[1]", "not json", '{"made_with": {}, "groups": {}}'])
def test_tables_of_another_program_are_kept(measure, video, maps, tmp_path, text):
    (tmp_path / "mine").mkdir()
    for name in ("summary.json", "shares.csv"):
        (tmp_path / "mine" / name).write_text(text)
    assert measure(video, "--saliency", maps, *BOXES, out="mine")[0] == 1
    assert (tmp_path / "mine" / "summary.json").read_text() == text


@pytest.mark.parametrize("part", [(), ("--end", "1.5")])
def test_maps_of_the_same_video_in_a_container_with_another_start(
    measure, avsal_command, video, maps, tmp_path, part
):
    stream = samples.remuxed(video, tmp_path / "two shots.ts")
    assert measure(stream, "--saliency", maps, *BOXES, *part)[0] == 0
    assert measure(video, "--saliency", maps, *BOXES, *part, out="same")[0] == 0
    assert rows_of(tmp_path) == rows_of(tmp_path, "same")
    measured, same = summary_of(tmp_path), summary_of(tmp_path, "same")
    assert measured["areas"] == same["areas"]
    assert measured["seconds"] == same["seconds"] == (1.5 if part else 2)
    of_stream = save_maps(tmp_path / "of stream", stream, lambda _i: (0.2, 0.5))
    for name, saved in ((stream, maps), (video, of_stream)):
        out = tmp_path / f"{name.suffix[1:]}.png"
        assert avsal_command("overlay", name, "--still", "--saliency", saved, "-o", out)[0] == 0


@pytest.mark.parametrize("frames", [20, 30])
def test_maps_of_another_video_are_refused(measure, video, tmp_path, frames):
    images = [picture(0)] * frames
    other = samples.write(tmp_path / "other.mp4", samples.Pictures(images, rate=12))
    maps = save_maps(tmp_path / "maps", other, lambda _i: (0.5, 0.5))
    code, _out, err = measure(video, "--saliency", maps, *BOXES)
    assert code == 1
    assert "maps are of another video" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to measure"),
        (("--area", "left:0,0,900,9"), "outside the 64x48 picture"),
        (("--grid", "2x2", "--area", "row 1 column 1:0,0,9,9"), "is there twice"),
        (("--grid", "2x2", "--compare-saliency", "x"), "needs compare"),
    ],
)
def test_wrong_options(measure, video, arguments, message):
    code, _out, err = measure(video, *arguments)
    assert code == 2
    assert message in err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf_8(measure, video, tmp_path):
    odd = video.rename(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.mp4"))
    maps = save_maps(tmp_path / "maps", odd, lambda _i: (0.5, 0.5))
    assert measure(odd, "--saliency", maps, *BOXES)[0] == 0
    assert summary_of(tmp_path)["areas"][0]["name"] == "left"
    assert "caf\\udce9.mp4" in (tmp_path / "out" / "report.html").read_text()


def test_a_video_that_lost_frames_since_its_maps_were_made(video, maps):
    with VideoReader(video) as reader, open_gaze(reader, read_result(maps), frames=True) as gaze:
        assert gaze.frame(23).index == 23
        with pytest.raises(MediaError, match="has no frame 24, of which there is a map"):
            gaze.frame(24)


def test_every_frame_can_be_had_with_its_map_from_the_network(video, tiny, tiny_weights):
    """The last ones too, whose maps are held back until the file has been read to its end."""
    network = load_model(tiny, tiny_weights, "cpu", "fp32"), PredictSettings()
    with VideoReader(video) as reader, open_gaze(reader, network, frames=True) as gaze:
        found = [gaze.frame(entry.index) for entry in gaze.maps]
    assert [frame.index for frame in found] == list(range(24))
    with VideoReader(video) as reader:
        for frame, read in zip(found, reader, strict=True):
            np.testing.assert_array_equal(frame.image, read.image)


def test_a_report_shows_the_longest_shots(measure, tmp_path, monkeypatch):
    """However many there are, no more pictures are kept than it shows."""
    monkeypatch.setattr(api, "_PICTURES", 3)
    kept = []
    ended = api.Clearest._ended

    def watched(clearest, number, time):
        ended(clearest, number, time)
        kept.append(len(clearest.found))

    monkeypatch.setattr(api.Clearest, "_ended", watched)
    lengths = (8, 20, 9, 6, 22, 7, 21)
    images = [picture(seed) for seed, length in enumerate(lengths) for _ in range(length)]
    video = samples.write(tmp_path / "shots.mp4", samples.Pictures(images, rate=12))
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5))
    assert measure(video, "--saliency", maps, *BOXES)[0] == 0
    assert len(kept) == len(lengths)
    assert max(kept) == 3
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The 3 longest of 7 shots are shown" in page
    assert set(re.findall(r'alt="Shot (\d)"', page)) == {"2", "5", "7"}


@pytest.mark.parametrize("scale", [-1, 1e30])
def test_maps_that_are_no_densities(measure, video, tmp_path, scale):
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5), format="npy")
    np.save(maps / "000003.npy", np.full((36, 64), scale / 36 / 64, np.float32))
    code, _out, err = measure(video, "--saliency", maps, *BOXES)
    assert (code, err.count("\n")) == (1, 1)
    assert "frame 3 has a map that is not a density" in err
    assert not (tmp_path / "out").exists()


def test_the_help_says_what_it_cannot_tell(measure, avsal_command):
    _code, out, _err = avsal_command("measure", "--help")
    assert "time to first fixation" in " ".join(out.split())
