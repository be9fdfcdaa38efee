"""`avsal reframe`: the right frames, sound and times; one line for what does not fit."""

from __future__ import annotations

import json
import os
from fractions import Fraction

import cv2
import numpy as np
import pytest
import samples
from gaze_maps import save_maps
from media_checks import click_times, frames_of, sound_of, times_of

from avsal import media
from avsal.crops.file import PathFile
from avsal.crops.planning import Crop
from avsal.crops.render import cut_out
from avsal.crops.settings import Picture


def ramp(index, width=160, height=90, step=10):
    """A picture whose red tells the column, green the row; a white bar marks a place."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 200, width)
    image[..., 1] = np.linspace(0, 200, height)[:, None]
    image[..., 2] = (index * step) % 200
    return image


@pytest.fixture
def video(tmp_path):
    pictures = samples.Pictures([ramp(i) for i in range(20)], rate=10)
    return samples.write(tmp_path / "ramp.mp4", pictures)


@pytest.fixture
def reframe(avsal_command, tmp_path):
    """`avsal reframe VIDEO -o tmp_path/out.mp4 ...`"""

    def run(source, *arguments, out="out.mp4"):
        return avsal_command("reframe", source, "-o", tmp_path / out, *arguments)

    return run


def path_of(tmp_path, out="out"):
    return json.loads((tmp_path / f"{out}.reframe.json").read_text())


@pytest.mark.parametrize("kind", ["png", "png16", "npy", "video"])
def test_the_crop_shows_the_gaze_from_maps_of_every_format(reframe, video, tmp_path, kind):
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.8, 0.5), format=kind)
    code, out, err = reframe(video, "--saliency", maps)
    assert (code, err) == (0, "")
    assert out == f"{tmp_path}/out.mp4: 20 frames\n"
    described = path_of(tmp_path)
    assert described["size"] == [50, 90]
    assert [frame["pts"] for frame in described["frames"]] == [str(t) for t in times_of(video)]
    left = described["frames"][0]["x"]
    assert left + 10 < 0.8 * 160 < left + 40
    written = frames_of(tmp_path / "out.mp4")
    assert written[0].image.shape == (90, 50, 3)
    shown = written[0].image[45, :, 0].astype(int)
    expected = ramp(0)[45, round(left) : round(left) + 50, 0].astype(int)
    assert np.abs(shown - expected).max() < 12


def test_sound_times_and_duration_are_kept(reframe, tmp_path):
    film = samples.film(tmp_path / "film.mp4", seconds=2)
    maps = save_maps(tmp_path / "maps", film, lambda _i: (0.5, 0.5))
    assert reframe(film, "--saliency", maps, "--aspect", "1:1")[0] == 0
    out = tmp_path / "out.mp4"
    assert times_of(out) == times_of(film)
    assert np.allclose(click_times(sound_of(out)), click_times(sound_of(film)), atol=2e-3)
    assert media.probe(out).duration == media.probe(film).duration


@pytest.mark.parametrize("part", [(), ("--start", "0.5", "--end", "1.2")])
@pytest.mark.parametrize("kinds", [("mp4", "ts"), ("ts", "mp4")])
def test_maps_and_paths_fit_the_same_video_in_a_container_with_another_start(
    reframe, video, tmp_path, kinds, part
):
    files = {"mp4": video, "ts": samples.remuxed(video, tmp_path / "ramp.ts")}
    one, other = (files[kind] for kind in kinds)
    assert times_of(one)[0] != times_of(other)[0]
    maps = save_maps(tmp_path / "maps", one, lambda _i: (0.8, 0.5))
    assert reframe(other, "--saliency", maps, *part, out="other.mp4")[0] == 0
    assert reframe(one, "--saliency", maps, *part)[0] == 0
    assert reframe(other, "--path", tmp_path / "out.reframe.json", out="again.mp4")[0] == 0
    paths = [path_of(tmp_path, out) for out in ("other", "again")]
    shown = times_of(other)[5:12] if part else times_of(other)
    for path in paths:
        assert [frame["pts"] for frame in path["frames"]] == [str(time) for time in shown]
        assert path["origin"] == str(times_of(other)[0])
        assert path["shots"] == paths[0]["shots"]
    assert paths[0]["frames"] == paths[1]["frames"]


def test_times_of_variable_rate_are_kept(reframe, tmp_path):
    times = [Fraction(n, 12800) for n in (0, 512, 1024, 3000, 9000, 9512)]
    video = samples.variable_rate(tmp_path / "vfr.mp4", times)
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5))
    assert reframe(video, "--saliency", maps)[0] == 0
    assert times_of(tmp_path / "out.mp4") == times


def test_a_turned_video_is_cropped_as_displayed(reframe, tmp_path):
    video = samples.rotated(tmp_path / "turned.mp4", 90)  # 64x48 stored, 48x64 displayed
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.2))
    assert reframe(video, "--saliency", maps, "--aspect", "1:1")[0] == 0
    described = path_of(tmp_path)
    assert (described["width"], described["height"], described["size"]) == (48, 64, [48, 48])
    top = int(described["frames"][0]["y"])
    assert top < 8
    image = frames_of(tmp_path / "out.mp4")[0].image
    expected = frames_of(video)[0].image[top : top + 48]
    assert np.abs(image.astype(int) - expected).mean() < 6


def test_the_shape_of_pixels_is_undone(reframe, video, tmp_path):
    wide = tmp_path / "wide.mp4"
    with media.VideoWriter(wide, 160, 90, sample_aspect=Fraction(2)) as writer:
        for frame in frames_of(video):
            writer.write(frame.image, frame.pts, frame.duration)
    maps = save_maps(tmp_path / "maps", wide, lambda _i: (0.5, 0.5))
    assert reframe(wide, "--saliency", maps, "--aspect", "1:1")[0] == 0
    described = path_of(tmp_path)
    assert described["size"] == [90, 90]
    assert described["frames"][0]["w"] == 45
    assert media.probe(tmp_path / "out.mp4").sample_aspect == 1


def test_cuts_are_found_and_respected(reframe, tmp_path):
    scenes = [np.full((90, 160, 3), (20, 30, 160), np.uint8), ramp(0)[:, ::-1] // 2 + 90]
    video = samples.write(
        tmp_path / "cut.mp4", samples.Pictures([scenes[0]] * 12 + [scenes[1]] * 12)
    )
    maps = save_maps(tmp_path / "maps", video, lambda i: (0.2 if i < 12 else 0.8, 0.5))
    assert reframe(video, "--saliency", maps)[0] == 0
    frames = path_of(tmp_path)["frames"]
    assert [frame["shot"] for frame in frames] == [0] * 12 + [1] * 12
    assert len({frame["x"] for frame in frames}) == 2
    assert min(frame["kept"] for frame in frames) > 0.9


def test_shots_of_a_result_are_taken_from_it(avsal_command, reframe, tiny, tiny_weights, tmp_path):
    """What predict listed, reframe uses: it does not look for cuts in the same file again."""
    scenes = [np.full((90, 160, 3), 60, np.uint8), ramp(0)]
    pictures = samples.Pictures([scenes[0]] * 12 + [scenes[1]] * 12)
    video = samples.write(tmp_path / "cut.mp4", pictures)
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    assert avsal_command("predict", video, "-o", tmp_path / "p", *network)[0] == 0
    description = tmp_path / "p" / "cut" / "saliency.json"
    found = json.loads(description.read_text())
    assert [shot["first"] for shot in found["shots"]] == [0, 12]
    assert reframe(video, "--saliency", tmp_path / "p" / "cut")[0] == 0
    saved = [frame["shot"] for frame in path_of(tmp_path)["frames"]]
    assert saved == [0] * 12 + [1] * 12
    assert reframe(video, *network, out="direct.mp4")[0] == 0
    assert [frame["shot"] for frame in path_of(tmp_path, "direct")["frames"]] == saved
    found["shots"] = [{"first": 0, "last": 23, "start": "0", "end": "24/25"}]
    description.write_text(json.dumps(found))
    assert reframe(video, "--saliency", tmp_path / "p" / "cut")[0] == 0
    assert {frame["shot"] for frame in path_of(tmp_path)["frames"]} == {0}


def test_an_edited_path_is_rendered(reframe, video, tmp_path):
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.8, 0.5))
    assert reframe(video, "--saliency", maps)[0] == 0
    edited = path_of(tmp_path)
    for frame in edited["frames"]:
        frame["x"] = 7.5
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    code, _out, err = reframe(video, "--path", tmp_path / "edited.json", out="again.mp4")
    assert (code, err) == (0, "")
    assert {frame["x"] for frame in path_of(tmp_path, "again")["frames"]} == {7.5}
    shown = frames_of(tmp_path / "again.mp4")[0].image[45, 25, 0]
    assert abs(int(shown) - 200 * (7.5 + 25) / 159) < 8


@pytest.mark.parametrize("zoom", ["1", "1.3", "1.5", "3"])
@pytest.mark.parametrize("pixel", [Fraction(1), Fraction(64, 45)])
def test_gaze_at_the_lower_right_corner(reframe, tmp_path, zoom, pixel):
    video = tmp_path / "corner.mp4"
    with media.VideoWriter(video, 160, 90, sample_aspect=pixel) as writer:
        for index in range(3):
            writer.write(ramp(0), Fraction(index, 10), Fraction(1, 10))
    maps = save_maps(tmp_path / "maps", video, lambda _i: (1, 1))
    for aspect in ("9:16", "1:1"):
        code, _out, err = reframe(video, "--saliency", maps, "--zoom", zoom, "--aspect", aspect)
        assert (code, err) == (0, "")
        crop = path_of(tmp_path)["frames"][0]
        assert crop["x"] + crop["w"] == pytest.approx(160, abs=0.5)
        assert crop["y"] + crop["h"] == pytest.approx(90, abs=0.5)


def test_an_edited_path_is_not_replaced_by_chance(reframe, video, tmp_path):
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.8, 0.5))
    from_maps = ("--saliency", maps)
    for _ in range(2):  # as it was written, it may be replaced
        assert reframe(video, *from_maps)[0] == 0
    path = tmp_path / "out.reframe.json"
    edited = path.read_text().replace("\n", "\n ")
    path.write_text(edited)
    made = (tmp_path / "out.mp4").stat().st_mtime
    later = made + 5
    os.utime(path, (later, later))
    code, _out, err = reframe(video, *from_maps)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "out.reframe.json: is newer than out.mp4, so it was probably edited" in err
    assert path.read_text() == edited
    assert reframe(video, "--path", path)[0] == 0
    os.utime(path, (later, later))
    assert reframe(video, *from_maps, "--force")[0] == 0


def test_copies_of_a_result_and_its_path_may_be_replaced(reframe, video, tmp_path):
    """`cp -r`, `git checkout` and the like write the path right after the result."""
    from_maps = ("--saliency", save_maps(tmp_path / "maps", video, lambda _i: (0.8, 0.5)))
    assert reframe(video, *from_maps)[0] == 0
    copied = (tmp_path / "out.mp4").stat().st_mtime + 0.5
    os.utime(tmp_path / "out.reframe.json", (copied, copied))
    assert reframe(video, *from_maps)[0] == 0


def test_the_result_of_a_path_is_named_after_its_shape(avsal_command, video, tmp_path):
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5))
    out = tmp_path / "out.mp4"
    arguments = ("reframe", video, "--saliency", maps, "--aspect", " 4:5 ", "-o", out)
    assert avsal_command(*arguments)[0] == 0
    path = out.with_suffix(".reframe.json")
    assert avsal_command("reframe", video, "--path", path)[0] == 0
    assert video.with_name("ramp.4x5.mp4").is_file()


def test_bars_are_filled(reframe, video, tmp_path):
    maps = save_maps(tmp_path / "maps", video, lambda i: (0.1 + 0.8 * (i % 2), 0.5))
    for fill in ("black", "blur"):
        assert reframe(video, "--saliency", maps, "--pad", fill, "--motion", "still")[0] == 0
        assert path_of(tmp_path)["frames"][0]["w"] > 140
        image = frames_of(tmp_path / "out.mp4")[5].image
        assert image.shape == (90, 50, 3)
        assert (image[:20].mean() < 4) == (fill == "black")
        assert image[40:50].mean() > 30


def test_size_of_the_result(reframe, video, tmp_path):
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5))
    assert reframe(video, "--saliency", maps, "--size", "90x160")[0] == 0
    assert frames_of(tmp_path / "out.mp4")[0].image.shape == (160, 90, 3)
    code, _out, err = reframe(video, "--saliency", maps, "--size", "160x90")
    assert code == 2
    assert "is not 9:16" in err


def test_a_still_image(reframe, tmp_path):
    picture = samples.still(tmp_path / "photo.png", ramp(0))
    maps = save_maps(tmp_path / "maps", picture, lambda _i: (0.9, 0.5))
    assert reframe(picture, "--saliency", maps, out="out.png")[0] == 0
    assert cv2.imread(str(tmp_path / "out.png")).shape == (90, 50, 3)
    assert path_of(tmp_path)["frames"][0]["x"] > 100


def test_a_large_frame(reframe, tmp_path):
    """8K, one frame."""
    picture = samples.still(tmp_path / "large.jpg", cv2.resize(ramp(0), (7680, 4320)))
    maps = save_maps(tmp_path / "maps", picture, lambda _i: (0.5, 0.5))
    assert reframe(picture, "--saliency", maps, out="out.jpg")[0] == 0
    assert cv2.imread(str(tmp_path / "out.jpg")).shape == (4320, 2430, 3)


def test_a_video_of_that_shape_already_is_kept_whole(reframe, video, tmp_path):
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5))
    code, _out, err = reframe(video, "--saliency", maps, "--aspect", "16:9")
    assert code == 0
    assert "nothing is cropped" in err
    assert frames_of(tmp_path / "out.mp4")[0].image.shape == (90, 160, 3)


def test_the_network_makes_the_maps(reframe, video, tiny, tiny_weights, tmp_path):
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    code, _out, _err = reframe(video, *network)
    assert code == 0
    assert len(path_of(tmp_path)["frames"]) == 20


def test_a_folder(reframe, video, tmp_path):
    folder, maps = tmp_path / "in", tmp_path / "maps"
    (folder / "sub").mkdir(parents=True)
    good = video.rename(folder / "sub" / "good.mp4")
    save_maps(maps / "sub" / "good", good, lambda _i: (0.5, 0.5))
    samples.text(folder / "bad.mp4")
    samples.still(folder / "photo.png", ramp(0))
    save_maps(maps / "photo", folder / "photo.png", lambda _i: (0.5, 0.5))
    code, _out, err = reframe(folder, "--saliency", maps, out="all")
    assert code == 1
    assert err.count("error:") == 1
    assert "bad.mp4" in err
    found = sorted(str(p.relative_to(tmp_path / "all")) for p in (tmp_path / "all").rglob("*.*"))
    assert found == ["photo.png", "photo.reframe.json", "sub/good.mp4", "sub/good.reframe.json"]


def test_the_folder_of_the_maps_or_the_one_around_it(reframe, video, tmp_path):
    save_maps(tmp_path / "maps" / video.stem, video, lambda _i: (0.8, 0.5))
    assert reframe(video, "--saliency", tmp_path / "maps", out="around.mp4")[0] == 0
    assert reframe(video, "--saliency", tmp_path / "maps" / video.stem)[0] == 0
    assert path_of(tmp_path, "around") == path_of(tmp_path)
    other = video.rename(tmp_path / "renamed.mp4")
    code, _out, err = reframe(other, "--saliency", tmp_path / "maps", out="other.mp4")
    assert code == 1
    assert err.endswith(
        f"/maps: is not the folder of one video's maps; give {tmp_path}/maps/ramp\n"
    )


def longer(tmp_path, video):
    other = samples.write(
        tmp_path / "longer.mp4", samples.Pictures([ramp(i) for i in range(25)], rate=10)
    )
    return save_maps(tmp_path / "other", other, lambda _i: (0.5, 0.5))


def faster(tmp_path, video):
    other = samples.write(
        tmp_path / "faster.mp4", samples.Pictures([ramp(i) for i in range(20)], rate=25)
    )
    return save_maps(tmp_path / "other", other, lambda _i: (0.5, 0.5))


def square(tmp_path, video):
    other = samples.write(tmp_path / "square.mp4", samples.Pictures([ramp(0, 90)] * 20, rate=10))
    return save_maps(tmp_path / "other", other, lambda _i: (0.5, 0.5))


@pytest.mark.parametrize("make", [longer, faster, square])
def test_maps_of_another_video_are_refused(reframe, video, tmp_path, make):
    maps = make(tmp_path, video)
    code, _out, err = reframe(video, "--saliency", maps)
    assert code == 1
    assert err.count("\n") == 1, err
    assert "video" in err
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", ["shorter", "outside", "small"])
def test_a_path_that_does_not_fit_is_refused(reframe, video, tmp_path, change):
    maps = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5))
    reframe(video, "--saliency", maps)
    edited = path_of(tmp_path)
    if change == "shorter":
        del edited["frames"][10:]
    elif change == "outside":
        edited["frames"][4]["x"] = 120
    else:
        edited["width"] = 100
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    code, _out, err = reframe(video, "--path", tmp_path / "edited.json", out="new.mp4")
    assert code == 1
    assert err.count("\n") == 1, err
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--aspect", "9"), "aspect 9"),
        (("--motion", "wild"), "'wild' is not one of"),
        (("--zoom", "0.5"), "zoom 0.5"),
        (("--pad", "pink"), "'pink' is not one of"),
        (("--size", "1x1"), "size 1x1"),
    ],
)
def test_wrong_options(reframe, video, tmp_path, arguments, message):
    code, _out, err = reframe(video, *arguments)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    "option", [("--aspect", "1:1"), ("--motion", "still"), ("--zoom", "2"), ("--saliency", "maps")]
)
def test_a_path_leaves_nothing_to_decide(reframe, video, tmp_path, option):
    code, _out, err = reframe(video, "--path", "edited.json", *option)
    assert code == 2
    assert f"{option[0].strip('-')}: edited.json decides that already" in err


def test_wrong_outputs(reframe, video, tmp_path):
    assert reframe(video, out="ramp.mp4")[0] == 2  # the input itself
    assert reframe(video, out="out.avi")[0] == 2
    assert reframe(video, out="out.png")[0] == 2


def test_places_between_pixels():
    """A slow pan moves by fractions of a pixel: no step, no blur beyond neighbours."""
    image = ramp(0)
    head = PathFile(Picture(160, 90), "9:16", (50, 90))
    columns = [
        cut_out(image, Crop(0, Fraction(0), x, 0, 50, 90, 0, None), head)[45, 25, 0]
        for x in np.arange(30, 34, 0.25)
    ]
    steps = np.diff(np.array(columns, int))
    assert steps.min() >= 0
    assert steps.max() <= 1
    whole = cut_out(image, Crop(0, Fraction(0), 30, 0, 50, 90, 0, None), head)
    assert np.array_equal(whole, image[:, 30:80])
