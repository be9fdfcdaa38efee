"""`avsal overlay` as a person types it."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
import samples


@pytest.fixture
def film(tmp_path):
    """One second of picture and sound, with a rate that keeps the tests fast."""
    return samples.film(tmp_path / "film.mp4", seconds=1.0, rate=10)


@pytest.fixture
def overlay(avsal_command, tiny, tiny_weights):
    """`avsal overlay ...` with the tiny network."""
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    return lambda *arguments: avsal_command("overlay", *arguments, *network)


@pytest.fixture
def maps(avsal_command, tiny, tiny_weights, film, tmp_path):
    """A result of the film from 0.3 to 0.8 s; options may change its kind."""

    def predict(*options):
        network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
        stretch = ("--start", "0.3", "--end", "0.8")
        assert avsal_command("predict", film, "-o", tmp_path, *stretch, *options, *network)[0] == 0
        return tmp_path / "film"

    return predict


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def one_line(text):
    lines = [line for line in text.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def overlay_of(path):
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        stream = container.streams.audio[0] if container.streams.audio else None
        sound = sum(frame.samples for frame in container.decode(audio=0)) if stream else 0
        size = (container.streams.video[0].width, container.streams.video[0].height)
        return times, sound / stream.rate if stream else 0, size


def test_overlay_keeps_sound_times_and_duration(avsal_command, tiny, film, tmp_path):
    out = tmp_path / "heat.mp4"
    code, _out, err = avsal_command(
        "overlay", film, "-o", out, "--model", tiny, "--weights", "untrained", "--side-by-side"
    )
    assert code == 0, err
    times, sound, size = overlay_of(out)
    source_times, source_sound, (width, height) = overlay_of(film)
    assert times == pytest.approx(source_times, abs=1e-3)
    assert sound == pytest.approx(source_sound, abs=0.05)
    assert size == (2 * width, height)


def test_overlay_takes_ready_maps(avsal_command, maps, film, tmp_path):
    out = tmp_path / "heat.mkv"
    saved = ("--saliency", maps("--format", "png16"))
    code, _out, err = avsal_command("overlay", film, "-o", out, *saved, "--contours")
    assert code == 0, err
    times, sound, _size = overlay_of(out)
    assert len(times) == 5
    assert sound == pytest.approx(0.5, abs=0.1)


def test_overlay_of_an_image_is_an_image(avsal_command, tiny, tmp_path):
    source = samples.still(tmp_path / "photo.jpg")
    out = tmp_path / "heat.png"
    code, _out, err = avsal_command(
        "overlay", source, "-o", out, "--model", tiny, "--weights", "untrained"
    )
    assert code == 0, err
    assert cv2.imread(str(out)).shape == cv2.imread(str(source)).shape


@pytest.mark.parametrize("suffix", ["txt", "png", "avi.part"])
def test_overlay_refuses_impossible_outputs_before_the_network_runs(
    avsal_command, film, tmp_path, suffix
):
    code, _out, err = avsal_command("overlay", film, "-o", tmp_path / f"x.{suffix}")
    assert code == 2
    assert f"x.{suffix}" in one_line(err)


@pytest.mark.parametrize("folders", [(), ("new", "..")])
def test_overlay_never_overwrites_its_input(avsal_command, film, folders):
    """Nor by way of a folder that is made for the result."""
    before, out = film.read_bytes(), film.parent.joinpath(*folders, film.name)
    code, _out, err = avsal_command("overlay", film, "-o", out)
    assert code == 2
    assert "input itself" in one_line(err)
    assert film.read_bytes() == before


def test_overlay_of_a_bad_file_leaves_nothing(avsal_command, tmp_path):
    bad = samples.text(tmp_path / "bad.mp4")
    code, _out, err = avsal_command("overlay", bad, "-o", tmp_path / "heat.mp4")
    assert code == 1
    assert str(bad) in one_line(err)
    assert names(tmp_path) == ["bad.mp4"]


def test_without_output_the_overlay_lies_beside_the_video(overlay, film, tmp_path):
    code, out, err = overlay(film)
    assert (code, err) == (0, "")
    place = tmp_path / "film.saliency.mp4"
    assert out.strip() == f"{place}: 10 frames"
    assert len(overlay_of(place)[0]) == 10
    assert names(tmp_path) == ["film.mp4", place.name]


def test_an_earlier_overlay_is_replaced_by_force_only(overlay, film, tmp_path):
    place = tmp_path / "film.saliency.mp4"
    place.write_text("mine")
    code, _out, err = overlay(film)
    assert code == 2
    assert "--force" in one_line(err)
    assert place.read_text() == "mine"
    assert overlay(film, "--force")[0] == 0
    assert len(overlay_of(place)[0]) == 10


def test_an_image_gets_an_image_of_its_kind_beside_it(overlay, tmp_path):
    source = samples.still(tmp_path / "photo.jpg")
    assert overlay(source)[0] == 0
    drawn = cv2.imread(str(tmp_path / "photo.saliency.jpg"))  # JPEG stays JPEG
    assert drawn.shape == cv2.imread(str(source)).shape
    assert overlay(samples.still(tmp_path / "plain.bmp"))[0] == 0
    assert (tmp_path / "plain.saliency.png").is_file()


@pytest.mark.parametrize("format", ["png", "npy", "video"])
def test_overlay_of_saved_maps_is_that_of_the_network(overlay, maps, film, tmp_path, format):
    """Whatever the maps were written to, within the video codec's loss."""
    stretch = ("--start", "0.3", "--end", "0.8")
    assert overlay(film, "-o", tmp_path / "net.mp4", "--crf", "0", *stretch)[0] == 0
    folder, saved = maps("--format", format), tmp_path / "saved.mp4"
    code, _out, err = overlay(film, "-o", saved, "--crf", "0", "--saliency", folder)
    assert code == 0, err
    for one, other in zip(frames_of(tmp_path / "net.mp4"), frames_of(saved), strict=True):
        assert np.abs(one - other).mean() < 2


def frames_of(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return [frame.astype(float) for frame in frames]


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ((), 5),
        (("--start", "0.5"), 3),
        (("--end", "0.5"), 2),
        (("--start", "0.1", "--end", "0.4"), 1),
    ],
)
def test_start_and_end_choose_among_saved_maps(overlay, maps, film, tmp_path, options, frames):
    out = tmp_path / "heat.mp4"
    code, _out, err = overlay(film, "-o", out, "--saliency", maps(), *options)
    assert code == 0, err
    times, sound, _size = overlay_of(out)
    assert len(times) == frames
    assert sound == pytest.approx(frames / 10, abs=0.1)


def test_a_stretch_without_saved_maps_is_one_line(overlay, maps, film, tmp_path):
    out = tmp_path / "heat.mp4"
    for stretch in (("--start", "0.75"), ("--start", "0.9")):
        code, _out, err = overlay(film, "-o", out, "--saliency", maps(), *stretch)
        assert code in (1, 2)
        one_line(err)
        assert not out.exists()


@pytest.mark.parametrize(
    ("seconds", "rate", "says"),
    [(0.6, 10, "there is no frame 6"), (1.0, 25, "the next map at 0.300 s")],
)
def test_maps_of_another_video_are_refused(overlay, maps, tmp_path, seconds, rate, says):
    other = samples.film(tmp_path / "other.mp4", seconds=seconds, rate=rate)
    code, _out, err = overlay(other, "-o", tmp_path / "heat.mp4", "--saliency", maps())
    assert code == 1
    assert f"are of another video than {other}" in one_line(err)
    assert says in one_line(err)
    assert not (tmp_path / "heat.mp4").exists()


def test_maps_of_a_shorter_video_and_of_another_shape_are_refused(
    overlay, film, avsal_command, tiny, tiny_weights, tmp_path
):
    short = samples.film(tmp_path / "short.mp4", seconds=0.4, rate=10)
    high = samples.Pictures([samples.numbered(0, 48, 64)] * 4, rate=10)
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    assert avsal_command("predict", short, "-o", tmp_path, *network)[0] == 0
    saved = ("--saliency", tmp_path / "short", "-o", tmp_path / "heat.mp4")
    code, _out, err = overlay(film, *saved)
    assert code == 1
    assert "frame 4 has no map" in one_line(err)
    code, _out, err = overlay(samples.write(tmp_path / "high.mp4", high), *saved)
    assert code == 1
    assert "give the maps of this video" in one_line(err)
    assert not (tmp_path / "heat.mp4").exists()


@pytest.mark.parametrize("scale", ["frame", "clip", "probability"])
def test_colours_of_density_do_not_depend_on_the_scale_of_saved_maps(
    overlay, maps, film, tmp_path, scale
):
    saved = maps("--format", "png16", "--scale", scale)
    drawn = []
    for name, given in (
        ("direct.mkv", ("--start", "0.3", "--end", "0.8")),
        ("saved.mkv", ("--saliency", saved)),
    ):
        options = ("-o", tmp_path / name, "--crf", "0", "--color-by", "density")
        assert overlay(film, *given, *options)[0] == 0
        with av.open(str(tmp_path / name)) as container:
            frames = container.decode(video=0)
            drawn.append(np.array([frame.to_ndarray(format="rgb24") for frame in frames], int))
    assert np.abs(drawn[0] - drawn[1]).mean() < 0.1
