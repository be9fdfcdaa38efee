"""`avsal overlay` to what is no video: animations, stills and contact sheets; and to WebM."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import samples
from gaze_maps import save_maps, spot
from PIL import Image

import avsal
from avsal.errors import UsageError
from avsal.media import VideoReader
from avsal.prediction import drawing
from avsal.prediction.style import OverlayForm
from avsal.results.folder import read_result
from avsal.results.plan import plan_folder
from avsal.results.stills import Thinned, find_stills

GRAY, BLUE = (90, 90, 90), (60, 90, 160)


@pytest.fixture
def film(tmp_path):
    """A second and a half of sound and pictures: gray, and from frame 20 of 30 on blue."""
    images = [np.full((96, 160, 3), GRAY if i < 20 else BLUE, np.uint8) for i in range(30)]
    for i, image in enumerate(images):
        image[:, 4 * i : 4 * i + 20] += 30  # so that no frame is blank
    sound = samples.SoundTrack([(0, samples.tone(1.5, 44100))], 44100, codec="aac")
    return samples.write(tmp_path / "film.mp4", samples.Pictures(images, rate=20), sound)


@pytest.fixture
def maps(film, tmp_path):
    """Gaze that is left in the first shot and right in the second."""
    return save_maps(tmp_path / "maps", film, lambda i: (0.2 if i < 20 else 0.8, 0.5), format="npy")


@pytest.fixture
def overlay(avsal_command, film, maps):
    return lambda *arguments: avsal_command("overlay", film, "--saliency", maps, *arguments)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def warmth(image):
    """How much redder than the film's pictures the left and the right third are, at most."""
    red = image[..., 0].astype(int) - image[..., 2]
    return red[:, : red.shape[1] // 3].max(), red[:, -red.shape[1] // 3 :].max()


def picture(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


# ---- animations


@pytest.mark.parametrize("suffix", ["gif", "webp"])
@pytest.mark.parametrize(
    ("options", "count", "size"),
    [
        ((), 15, (160, 96)),  # every other one of 20 frames per second
        (("--fps", "5", "--width", "80"), 8, (80, 48)),
        (("--fps", "50", "--side-by-side"), 30, (320, 96)),
        (("--end", "0.5", "--width", "999"), 5, (160, 96)),
    ],
)
def test_an_animation_has_fewer_frames_and_all_of_the_time(
    overlay, tmp_path, suffix, options, count, size
):
    out = tmp_path / f"out.{suffix}"
    code, said, err = overlay("-o", out, *options)
    assert (code, err) == (0, ""), err
    assert said.startswith(f"{out}: ")
    milliseconds = 0
    with Image.open(out) as image:
        assert (image.size, image.n_frames) == (size, count)
        for number in range(count):
            image.seek(number)
            image.load()
            milliseconds += image.info["duration"]
        last = np.asarray(image.convert("RGB"))
    assert milliseconds == (500 if "--end" in options else 1500)
    left, right = warmth(last)
    assert (left > 60) == ("--end" in options)
    assert (right > 60) == ("--end" not in options)


def test_large_videos_are_shrunk(tmp_path):
    images = [np.full((1000, 400, 3), 90, np.uint8)] * 2
    video = samples.write(tmp_path / "a.mp4", samples.Pictures(images, rate=10))
    saved = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5))
    out = avsal.overlay(video, tmp_path / "a.webp", saliency=saved)
    with Image.open(out) as image:
        assert image.size == (256, 640)
    wide = avsal.overlay(video, tmp_path / "b.webp", saliency=saved, width=320, side_by_side=True)
    with Image.open(wide) as image:
        assert image.size == (320, 400)


def test_webm_has_vp9_and_opus(overlay, tmp_path):
    out = tmp_path / "out.webm"
    assert overlay("-o", out)[0] == 0
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "vp9"
        assert container.streams.audio[0].codec_context.codec.canonical_name == "opus"
        assert sum(1 for _frame in container.decode(video=0)) == 30


def test_a_still_image_stays_a_still_as_webp(avsal_command, tmp_path):
    photo = samples.still(tmp_path / "photo.png")
    saved = save_maps(tmp_path / "maps", photo, lambda _i: (0.5, 0.5))
    out = tmp_path / "out.webp"
    assert avsal_command("overlay", photo, "-o", out, "--saliency", saved)[0] == 0
    with Image.open(out) as image:
        assert getattr(image, "n_frames", 1) == 1
    code, _said, err = avsal_command(
        "overlay", photo, "-o", tmp_path / "out.gif", "--saliency", saved
    )
    assert code == 2 and "out.gif" in err


# ---- legends


@pytest.mark.parametrize("form", [(), ("--still",), ("--still", "--per-shot"), ("-o", "a.gif")])
def test_a_legend_that_does_not_fit_is_omitted_and_said_once(avsal_command, tmp_path, form):
    video = samples.constant_rate(tmp_path / "small.mp4", frames=6)
    saved = save_maps(tmp_path / "maps", video, lambda _i: (0.5, 0.5))
    options = [tmp_path / word if "." in word else word for word in form]
    for legend, notes in (("--legend", 1), ("--no-legend", 0)):
        command = ("overlay", video, "--saliency", saved, *options, legend, "--force")
        code, _said, err = avsal_command(*command)
        assert code == 0
        assert err.count("64x48 is too small for a legend") == notes == len(err.splitlines())


# ---- parts


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "gif", "webp"])
@pytest.mark.parametrize("saved", [True, False])
def test_a_part_that_ends_inside_a_long_frame_ends_there(
    avsal_command, tiny, tiny_weights, tmp_path, suffix, saved
):
    """The second of three slides is shown from 1 to 10 s; the part ends at 3.5 s."""
    slides, out = samples.slides(tmp_path / "slides.mkv", [0, 1, 10]), tmp_path / f"out.{suffix}"
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    kept = ("--saliency", save_maps(tmp_path / "maps", slides, lambda _i: (0.5, 0.5)))
    options = ("-o", out, "--end", 3.5, *(kept if saved else network))
    code, _said, err = avsal_command("overlay", slides, *options)
    assert (code, err) == (0, ""), err
    assert length_of(out) == pytest.approx(3.5, abs=0.03)  # a packet of sound
    if suffix not in ("gif", "webp"):
        code, _said, err = avsal_command("reframe", slides, *options, "--force")
        assert code == 0, err
        assert length_of(out) == pytest.approx(3.5, abs=0.03)


def test_a_part_that_begins_inside_a_long_frame_says_so(
    avsal_command, tiny, tiny_weights, tmp_path
):
    slides, out = samples.slides(tmp_path / "slides.mkv", [0, 1, 10]), tmp_path / "out.mp4"
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    kept = ("--saliency", save_maps(tmp_path / "maps", slides, lambda _i: (0.5, 0.5)))
    for maps in (network, kept):
        code, _said, err = avsal_command("overlay", slides, "-o", out, "--start", 5, *maps)
        assert code == 0
        assert "no picture begins at 5 s; the part begins with the next one, at 10 s" in err
        assert length_of(out) == pytest.approx(1, abs=0.03)
    assert avsal_command("overlay", slides, "-o", out, "--start", 0.9, *kept)[2] == ""
    exact = Fraction(5)  # which Python 3.11 does not format like a float
    avsal.overlay(slides, out, start=exact, saliency=tmp_path / "maps")
    assert length_of(out) == pytest.approx(1, abs=0.03)
    with pytest.raises(UsageError, match="no maps from 7 to 6 s"):
        read_result(tmp_path / "maps").part(None, Fraction(6)).part(Fraction(7), None)


def length_of(path):
    """Seconds from the first picture to the end of the last one, in the file's own words."""
    if path.suffix == ".webp":
        with Image.open(path) as image:
            durations = []
            for number in range(image.n_frames):
                image.seek(number)
                image.load()
                durations.append(image.info["duration"])
        return sum(durations) / 1000
    with av.open(str(path)) as container:
        assert container.duration is not None
        return container.duration / av.time_base


# ---- stills


def test_a_still_has_the_gaze_of_the_whole_clip(overlay, tmp_path):
    code, said, err = overlay("--still")
    assert (code, err) == (0, ""), err
    place = tmp_path / "film.saliency-still.jpg"
    assert said == f"{place}: 30 frames\n"
    drawn = picture(place)
    assert drawn.shape == (96, 160, 3)
    left, right = warmth(drawn)
    assert left > 60 and right > 60
    again = overlay("--still")
    assert again[0] == 2 and "--force" in again[2]
    assert overlay("--still", "--force")[0] == 0
    assert overlay("--still", "--skip-existing")[1].endswith("kept\n")


def test_the_mean_is_that_over_time_and_the_frame_is_of_the_longest_shot(film, maps):
    with VideoReader(film) as video:
        (still,) = find_stills(video, read_result(maps), per_shot=False)
    expected = (20 * spot(0.2) + 10 * spot(0.8)) / 30
    assert np.allclose(still.density, expected, atol=1e-6)
    assert (still.start, still.end) == (0, 1.5)
    assert np.abs(still.image[0, -1].astype(int) - GRAY).max() < 12


def test_stills_of_each_shot_are_a_folder(overlay, film, tmp_path):
    code, said, err = overlay("--still", "--per-shot")
    assert (code, err) == (0, ""), err
    folder = tmp_path / "film.saliency-shots"
    assert said == f"{folder}: 30 frames\n"
    assert names(folder) == ["shot-001.jpg", "shot-002.jpg"]
    first, second = (warmth(picture(folder / name)) for name in names(folder))
    assert first[0] > 60 > first[1] and second[1] > 60 > second[0]
    with Image.open(folder / "shot-002.jpg") as image:
        assert b"shot 2, 1.000 to 1.500 s" in image.info["comment"]
    assert overlay("--still", "--per-shot")[0] == 2
    assert overlay("--still", "--per-shot", "--force", "--end", "0.5")[0] == 0
    assert names(folder) == ["shot-001.jpg"]
    assert overlay("--still", "--per-shot", "-o", tmp_path / "mine")[0] == 0
    assert names(tmp_path / "mine") == ["shot-001.jpg", "shot-002.jpg"]


def test_a_folder_with_other_pictures_is_never_replaced(overlay, tmp_path):
    folder = tmp_path / "film.saliency-shots"
    folder.mkdir()
    mine = folder / "shot-007.jpg"
    cv2.imwrite(str(mine), np.zeros((8, 8, 3), np.uint8))
    before = mine.read_bytes()
    code, _said, err = overlay("--still", "--per-shot", "--force")
    assert code == 1 and "shot-007.jpg" in err
    assert mine.read_bytes() == before
    assert names(folder) == ["shot-007.jpg"]


def test_the_network_gives_what_its_saved_maps_give(tiny, tiny_weights, avsal_command, tmp_path):
    video = samples.film(tmp_path / "clip.mp4", seconds=1, rate=10)
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    assert avsal_command("predict", video, "-o", tmp_path, "--size", "model", *network)[0] == 0
    for number, options in enumerate((("--still",), ("--contact-sheet",))):
        one, other = tmp_path / f"{number}a.png", tmp_path / f"{number}b.png"
        assert avsal_command("overlay", video, "-o", one, *options, *network)[0] == 0
        saved = ("--saliency", tmp_path / "clip")
        assert avsal_command("overlay", video, "-o", other, *options, *saved)[0] == 0
        assert np.abs(picture(one).astype(int) - picture(other)).mean() < 2


# ---- contact sheets


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_a_sheet_has_twelve_frames_and_their_times(overlay, tmp_path, suffix):
    out = tmp_path / f"out.{suffix}"
    assert overlay("--contact-sheet", "-o", out, "--no-legend")[0] == 0
    drawn = picture(out)
    height, width = drawn.shape[:2]
    assert width == 4 * (160 + 8) + 8  # four columns
    rows = height // (96 + 8)
    assert rows == 3 and height > 3 * (96 + 8) + 8  # a caption below each


def test_a_sheet_of_shots_has_one_frame_of_each(overlay, tmp_path):
    code, said, err = overlay("--contact-sheet", "--per-shot", "--no-legend")
    assert (code, err) == (0, ""), err
    place = tmp_path / "film.saliency-sheet.jpg"
    assert said == f"{place}: 30 frames\n"
    drawn = picture(place)
    assert drawn.shape[1] == 2 * (160 + 8) + 8
    halves = drawn[:, : 160 + 12], drawn[:, 160 + 12 :]
    assert warmth(halves[0])[0] > 60 > warmth(halves[0])[1]
    assert warmth(halves[1])[1] > 60 > warmth(halves[1])[0]


def test_a_sheet_of_a_still_image_is_that_image(avsal_command, tmp_path):
    photo = samples.still(tmp_path / "photo.jpg")
    saved = save_maps(tmp_path / "maps", photo, lambda _i: (0.5, 0.5))
    code, _said, err = avsal_command("overlay", photo, "--contact-sheet", "--saliency", saved)
    assert (code, err) == (0, "")
    assert (tmp_path / "photo.saliency-sheet.jpg").is_file()


@pytest.mark.parametrize("count", [1, 5, 8, 9, 31, 100])
def test_a_long_series_is_thinned_evenly(count):
    kept: Thinned[int] = Thinned(8)
    for number in range(count):
        kept.offer(lambda number=number: number)
    assert kept.count == count
    steps = set(np.diff(kept.items))
    assert len(steps) <= 1 and kept.items[0] == 0
    assert min(count, 4) <= len(kept.items) <= 8


def test_several_inputs_give_several_pictures(avsal_command, film, maps, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.mp4").write_bytes(film.read_bytes())
        save_maps(tmp_path / "saved" / name, tmp_path / "in" / f"{name}.mp4", lambda _i: (0.5, 0.5))
    many = ("overlay", tmp_path / "in", "--saliency", tmp_path / "saved", "-o", tmp_path / "out")
    for options in (("--still",), ("--still", "--per-shot"), ("--contact-sheet",)):
        code, _said, err = avsal_command(*many, *options, "--force")
        assert (code, err) == (0, "")
    assert names(tmp_path / "out") == ["a", "a.jpg", "b", "b.jpg"]
    assert names(tmp_path / "out" / "a") == ["shot-001.jpg", "shot-002.jpg"]


# ---- what does not go together


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--still", "--contact-sheet"), "give only one of them"),
        (("--per-shot",), "needs still or contact-sheet"),
        (("--still", "--fps", "5"), "not an animation"),
        (("-o", "a.mp4", "--width", "320"), "a.mp4: is not an animation"),
        (("-o", "a.gif", "--fps", "0"), "fps 0"),
        (("-o", "a.gif", "--width", "0"), "width 0"),
        (("-o", "a.png"), "--still"),
        (("-o", "a.mp4", "--still"), "does not have a picture's suffix"),
        (("-o", "a.jpg", "--still", "--per-shot"), "a.jpg: --still --per-shot writes a folder"),
    ],
)
def test_wrong_usage_is_one_line(overlay, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    before = names(tmp_path)
    code, _said, err = overlay(*options)
    assert code == 2
    assert says in err and err.count("\n") == 1
    assert names(tmp_path) == before


def test_python_refuses_the_same():
    with pytest.raises(UsageError, match="give only one of them"):
        OverlayForm(still=True, contact_sheet=True)


# ---- results are not inputs


def test_results_of_every_kind_are_no_inputs(tmp_path):
    ours = [
        "a.saliency-still.jpg",
        "a.saliency-sheet.webp",
        "a.saliency-shots/shot-001.jpg",
        "a.measure/thumbnail-shot-1.jpg",
        "a.mp4.saliency.mp4",
        "sub/b.measure/thumbnail-shot-2.jpg",
    ]
    other = ["a.mp4", "c.saliency-shots/shot-001.jpg", "sub/b.mkv", "sub/c.measure/d.jpg"]
    for name in (*ours, *other):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    planned = [str(source.relative_to(tmp_path)) for source, _ in plan_folder(tmp_path, tmp_path)]
    assert sorted(planned) == sorted(other)


# ---- letters


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_outline_of_letters_is_around_them(scale):
    """From OpenCV 5 on thicker letters are wider, so thick ones are no outline of thin ones."""
    drawn = np.full((120, 900, 3), 128, np.uint8)
    drawing._put_text(drawn, "share of gaze inside", (20, 80), scale)
    edge = 2 * max(1, round(scale * 2)) + 1
    white, dark = (np.argwhere(mask) for mask in (drawn[..., 0] > 200, drawn[..., 0] < 60))
    assert np.all(np.abs(white.min(0) - dark.min(0)) <= edge)
    assert np.all(np.abs(white.max(0) - dark.max(0)) <= edge)
