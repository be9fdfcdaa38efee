"""`avsal reframe --fit`, `--for`, black bars of the source, and what is said of weak shots."""

from __future__ import annotations

import json
import logging
import os
from fractions import Fraction

import cv2
import numpy as np
import pytest
import samples
from gaze_maps import save_maps, spot
from media_checks import frames_of

import avsal
from avsal.crops.bars import common_bars, find_picture
from avsal.crops.export import write_export
from avsal.crops.file import PathFile, ShotCrop, notes_on_shots, read_crops, read_head, write_path
from avsal.crops.planning import Crop
from avsal.crops.settings import Box, Picture
from avsal.errors import MediaError, UsageError
from avsal.media.video import VideoReader

GRAYS = (60, 200)  # of the left and the right half


def halves():
    image = np.empty((90, 160, 3), np.uint8)
    image[:, :80], image[:, 80:] = GRAYS
    return image


@pytest.fixture
def video(tmp_path):
    return samples.write(tmp_path / "two.mp4", samples.Pictures([halves()] * 20, rate=10))


@pytest.fixture
def maps(monkeypatch, tmp_path, video):
    """Saved maps of two people, far apart."""
    both = 0.55 * spot(0.15, 0.3) + 0.45 * spot(0.85, 0.6)
    monkeypatch.setattr("gaze_maps.spot", lambda *_place: both)
    return save_maps(tmp_path / "maps", video, lambda _i: (0, 0), format="npy")


@pytest.fixture
def reframe(avsal_command, tmp_path, video, maps):
    def run(*arguments, out="out.mp4"):
        given = ("reframe", video, "--saliency", maps, "-o", tmp_path / out)
        return avsal_command(*given, *arguments)

    return run


def path_of(tmp_path, out="out"):
    return json.loads((tmp_path / f"{out}.reframe.json").read_text())


def test_two_people_are_shown_in_two_panels(reframe, tmp_path):
    code, _out, err = reframe("--fit", "split")
    assert (code, err) == (0, "")
    described = path_of(tmp_path)
    assert described["settings"]["fit"] == "split"
    assert [shot["fit"] for shot in described["shots"]] == ["split"]
    image = frames_of(tmp_path / "out.mp4")[5].image.astype(int)
    assert image.shape == (90, 50, 3)
    assert abs(image[5:40].mean() - GRAYS[0]) < 4
    assert abs(image[50:85].mean() - GRAYS[1]) < 4


def test_auto_says_what_it_chose(reframe, video):
    code, _out, err = reframe("--fit", "auto")
    assert code == 0
    assert err == f"note: {video}: fit: 1 split\n"


def test_a_path_with_panels_is_rendered_again(avsal_command, reframe, video, tmp_path):
    assert reframe("--fit", "split")[0] == 0
    path = ("--path", tmp_path / "out.reframe.json")
    assert avsal_command("reframe", video, *path, "-o", tmp_path / "again.mp4")[0] == 0
    one, other = (frames_of(tmp_path / name)[5].image for name in ("out.mp4", "again.mp4"))
    assert np.array_equal(one, other)
    head = read_head(tmp_path / "again.reframe.json")
    assert all(crop.second for crop in read_crops(tmp_path / "again.reframe.json", head.picture))


def test_a_weak_shot_is_told_on_stderr_and_as_json(reframe, video, tmp_path):
    code, out, err = reframe("--json")
    assert code == 0
    kept = path_of(tmp_path)["shots"][0]["kept"]
    assert 0.4 < kept < 0.6
    told = f"shot 1, 0 s to 2 s: the crop keeps an estimated {kept * 100:.0f} % of the gaze"
    assert err == f"note: {video}: {told}; try --fit auto\n"
    assert json.loads(out)["weak_shots"] == path_of(tmp_path)["shots"]
    _code, out, err = reframe("--json", "--fit", "split", out="split.mp4")
    assert (json.loads(out)["weak_shots"], err) == ([], "")


def test_of_hundreds_of_weak_shots_ten_are_told(tmp_path):
    crops = [Crop(i, i, 0, 0, 50, 90, i, 0.1) for i in range(300)]
    shots = write_path(
        tmp_path / "a.reframe.json", PathFile(Picture(160, 90), "5:9", (50, 90)), crops
    )
    lines = list(notes_on_shots(shots, 0, "crop"))
    assert len(lines) == 11
    assert lines[1].startswith("shot 2, 1 s to 2 s: the crop keeps an estimated 10 %")
    assert lines[-1].startswith("290 further shots")


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (0, 7, "shot 1, 0 s to 7 s: "),
        (Fraction(9, 4), Fraction(5, 2), "shot 1, 2.2 s to 2.5 s: "),
        (Fraction(5999, 100), Fraction(121, 2), "shot 1, 1:00.0 to 1:00.5: "),
        (3599, 3661, "shot 1, 59:59 to 1:01:01: "),
    ],
)
def test_times_of_short_shots_have_a_decimal(start, end, says):
    shot = ShotCrop(0, Fraction(start), Fraction(end), "crop", 0.3)
    (line,) = notes_on_shots([shot], Fraction(0), "crop")
    assert line.startswith(says)


def test_a_weak_picture_has_no_times(reframe, avsal_command, video, tmp_path):
    photo = samples.still(tmp_path / "photo.png", halves())
    saved = save_maps(tmp_path / "one", photo, lambda _i: (0, 0), format="npy")
    given = ("reframe", photo, "--saliency", saved, "-o", tmp_path / "photo-tall.png")
    code, _out, err = avsal_command(*given)
    assert code == 0
    assert err.startswith(f"note: {photo}: the crop keeps an estimated")
    code, _out, err = avsal_command(*given, "--fit", "split", "--force")
    assert (code, err) == (0, "")
    image = cv2.imread(str(tmp_path / "photo-tall.png"))
    assert (image[:45] == GRAYS[0]).all()
    assert (image[45:] == GRAYS[1]).all()


# ---- presets and wrong options


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("shorts", (1080, 1920)),
        ("reels", (1080, 1920)),
        ("square", (1080, 1080)),
        ("portrait", (1080, 1350)),
    ],
)
def test_presets(tmp_path, maps, video, name, size):
    photo = samples.still(tmp_path / "photo.png", halves())
    saved = save_maps(tmp_path / "one", photo, lambda _i: (0.5, 0.5), format="npy")
    out = avsal.reframe(photo, preset=name, saliency=saved)
    assert cv2.imread(str(out)).shape[1::-1] == size
    assert (
        out.name
        == f"photo.{read_head(out.with_suffix('.reframe.json')).aspect.replace(':', 'x')}.png"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--for", "sqare"), "did you mean square?"),
        (("--for", "square", "--aspect", "9:16"), "square decides it already"),
        (("--for", "square", "--size", "1080x1920"), "is not 1:1"),
        (("--fit", "crop", "--pad", "blur"), "fit crop shows no bars"),
        (("--fit", "split", "--pad", "black"), "fit split shows no bars"),
        (("--fit", "both"), "'both' is not one of"),
        (("--fit", "auto", "--path", "a.reframe.json"), "fit: a.reframe.json decides that"),
        (
            ("--for", "reels", "--path", "a.reframe.json"),
            "(--for): a.reframe.json decides that",
        ),
    ],
)
def test_options_that_cannot_be(avsal_command, video, options, message):
    code, _out, err = avsal_command("reframe", video, *options)
    assert (code, err.count("\n")) == (2, 1) if "'both'" not in message else (2, err.count("\n"))
    assert message in err


def test_python_takes_the_same_words(video, maps, tmp_path):
    avsal.reframe(video, tmp_path / "out.mp4", fit="split", saliency=maps)
    assert path_of(tmp_path)["frames"][0]["second"]["x"] > 80
    with pytest.raises(UsageError, match="did you mean auto"):
        avsal.reframe(video, tmp_path / "no.mp4", fit="aut", saliency=maps)


def test_pad_alone_means_fit_pad(reframe, tmp_path):
    for options in (("--pad", "blur"), ("--fit", "pad")):
        assert reframe(*options)[0] == 0
        described = path_of(tmp_path)
        assert (described["settings"]["fit"], described["settings"]["pad"]) == ("pad", "blur")
        assert described["frames"][0]["w"] > 120
        (tmp_path / "out.mp4").unlink()


# ---- exports


def test_a_kept_result_gets_the_export_that_it_lacks(reframe, tmp_path):
    export = tmp_path / "out.csv"
    arguments = ("--skip-existing", "--export", export)
    assert reframe()[0] == 0
    code, out, _err = reframe(*arguments)
    assert (code, out) == (0, f"{tmp_path / 'out.mp4'}: kept\n")
    assert len(export.read_text().splitlines()) == 21
    later = (tmp_path / "out.reframe.json").stat().st_mtime + 5
    export.write_text("mine")
    os.utime(export, (later, later))
    assert reframe(*arguments)[0] == 0
    assert export.read_text() == "mine"  # newer than the path: kept, too


def test_exports_carry_panels_or_say_that_they_do_not(reframe, tmp_path, caplog):
    assert reframe("--fit", "split")[0] == 0
    path = tmp_path / "out.reframe.json"
    with caplog.at_level(logging.WARNING, "avsal"):
        write_export(path, tmp_path / "out.csv")
        assert not caplog.messages
        write_export(path, tmp_path / "out.fcpxml")
        write_export(path, tmp_path / "out.sendcmd")
    assert [message.partition(": ")[2][:60] for message in caplog.messages] == [
        "shot 1: split into two panels, of which .fcpxml can hold onl",
        "shot 1: split into two panels, of which .sendcmd can hold on",
    ]
    header, first = (tmp_path / "out.csv").read_text().splitlines()[:2]
    row = dict(zip(header.split(","), first.split(","), strict=True))
    second = path_of(tmp_path)["frames"][0]["second"]
    assert [float(row[f"second_{name}"]) for name in ("x", "y", "width", "height")] == [
        second[name] for name in "xywh"
    ]


def test_timelines_have_both_panels_as_data(reframe, tmp_path):
    otio = pytest.importorskip("opentimelineio")
    pytest.importorskip("otio_cmx3600_adapter")
    assert reframe("--fit", "split")[0] == 0
    path = tmp_path / "out.reframe.json"
    first = path_of(tmp_path)["frames"][0]
    write_export(path, tmp_path / "out.otio")
    timeline = otio.adapters.read_from_file(str(tmp_path / "out.otio"))
    (key,) = timeline.video_tracks()[0][0].effects[0].metadata["avsal"]["keys"]
    assert dict(key["second"]) == first["second"]
    write_export(path, tmp_path / "out.edl")
    boxes = [" ".join(f"{box[name]:g}" for name in "xywh") for box in (first, first["second"])]
    assert f"CROP X Y W H: {' AND '.join(boxes)}" in (tmp_path / "out.edl").read_text()


# ---- black bars


def barred(top=0, bottom=0, left=0, right=0, shape=(90, 160)):
    """A bright picture with noise inside bars of almost black."""
    random = np.random.default_rng(top + left)
    image = random.integers(0, 12, (*shape, 3), dtype=np.uint8)
    height, width = shape[0] - top - bottom, shape[1] - left - right
    image[top : top + height, left : left + width] = random.integers(30, 255, (height, width, 3))
    return image


def test_bars_that_all_pictures_have():
    assert common_bars([barred(10, 10)] * 5) == (0, 12, 0, 12)
    assert common_bars([barred(left=40, right=40)] * 5) == (42, 0, 42, 0)
    assert common_bars([barred(10, 10, 40, 40)] * 5) == (42, 12, 42, 12)
    fade = [np.zeros((90, 160, 3), np.uint8)] * 2
    assert common_bars([*fade, *[barred(10, 10)] * 3]) == (0, 12, 0, 12)


@pytest.mark.parametrize(
    "images",
    [
        [barred()] * 5,
        [barred(10, 0)] * 5,  # a dark sky
        [barred(10, 20)] * 5,
        [barred(1, 1)] * 5,
        [*[barred(10, 10)] * 9, barred()],  # one picture is larger
        [barred(20 + i, 20 + i) for i in range(0, 20, 4)],  # a dark scene, where the edge moves
        [barred(10, 10)] * 2,  # too few
        [np.zeros((90, 160, 3), np.uint8)] * 5,
        [barred(40, 40)] * 5,  # hardly any picture left
    ],
)
def test_what_are_no_bars(images):
    assert common_bars(images) == (0, 0, 0, 0)


def test_a_glance_sees_the_whole_video_and_ends_the_reading(tmp_path):
    grays = [np.full((90, 160, 3), 40 + 20 * (i // 10), np.uint8) for i in range(100)]
    film = samples.write(tmp_path / "film.mp4", samples.Pictures(grays, rate=10))
    reader = VideoReader(film)
    seen = [image.mean() for image in reader.glance(5)]
    assert len(seen) == 5
    assert sorted(seen) == seen
    with pytest.raises(MediaError, match="was closed"):
        next(reader)


def test_bars_are_cropped_away_first(avsal_command, tmp_path):
    """A film of 160x70 between bars: the crop has its height, and the gaze in it."""
    pictures = [barred(10, 10)] * 30
    film = samples.write(tmp_path / "film.mp4", samples.Pictures(pictures, rate=10))
    with VideoReader(film) as video:
        assert find_picture(video) == Box(0, 10, 160, 70)
        assert next(video).index == 0  # nothing was read from it
    saved = save_maps(tmp_path / "maps", film, lambda _i: (0.8, 0.5), format="npy")
    out = tmp_path / "out.mp4"
    code, _out, err = avsal_command("reframe", film, "--saliency", saved, "-o", out)
    assert code == 0
    assert (
        err
        == f"note: {film}: its black bars are cropped away first, which leaves 160x70 of 160x90\n"
    )
    described = path_of(tmp_path)
    frame = described["frames"][0]
    assert (described["size"], frame["y"], frame["h"]) == ([40, 70], 10, 70)
    assert frame["x"] < 0.8 * 160 < frame["x"] + frame["w"]
    assert described["settings"]["inside"] == [0, 10, 160, 70]
    image = frames_of(out)[3].image
    assert image[:2].mean() > 60 and image[-2:].mean() > 60


def test_an_upright_video_in_a_wide_one_comes_out_as_it_was(avsal_command, tmp_path):
    picture = barred(left=56, right=56)
    film = samples.write(tmp_path / "film.mp4", samples.Pictures([picture] * 30, rate=10))
    saved = save_maps(tmp_path / "maps", film, lambda _i: (0.5, 0.5), format="npy")
    code, _out, err = avsal_command("reframe", film, "--saliency", saved, "--aspect", "44:90")
    assert code == 0
    assert "which leaves 44x90 of 160x90" in err
    assert "nothing else is cropped" in err
    assert frames_of(tmp_path / "film.44x90.mp4")[0].image.shape == (90, 44, 3)
