"""Crop paths for other programs, each read back by a parser that is not avsal's."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import itertools
import shlex
import shutil
import subprocess
from fractions import Fraction

import av
import crop_paths
import numpy as np
import pytest
import samples
from crop_paths import HEIGHT, RATE, WIDTH, box_of, column_ramp, fcpxml_clips, made
from gaze_maps import save_maps
from media_checks import click_times, frames_of, sound_of, times_of

import avsal
from avsal.crops import editors
from avsal.crops.export import write_export
from avsal.crops.file import read_crops, read_head
from avsal.crops.settings import Picture
from avsal.errors import AvsalError, MediaError, UsageError

path, video = crop_paths.path, crop_paths.video  # fixtures


# ---- CSV


def test_csv_has_the_times_and_boxes(path, tmp_path):
    write_export(path, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for index, row in enumerate(rows):
        assert int(row["index"]) == index
        assert float(row["time"]) == index / RATE
        assert tuple(float(row[name]) for name in ("x", "y", "width", "height")) == box_of(index)
        assert (int(row["shot"]), float(row["kept"])) == (index // 10, 0.5)
    assert len(rows) == 30


def test_times_are_those_of_the_container_that_is_given(video, tmp_path):
    path = made(tmp_path / "ramp.reframe.json", origin=Fraction(0))
    stream = samples.remuxed(video, tmp_path / "ramp.ts")
    write_export(path, tmp_path / "a.csv", stream)
    with (tmp_path / "a.csv").open(newline="") as file:
        times = [float(row["time"]) for row in csv.DictReader(file)]
    assert times == pytest.approx([float(time) for time in times_of(stream)], abs=1e-6)
    assert times[0] > 0


# ---- FFmpeg


def command_of(place):
    (line,) = [row for row in place.read_text().splitlines() if row.startswith("# ffmpeg")]
    return shlex.split(line.removeprefix("# "))


def filtered(place, images, pixels="rgb24"):
    """Images through the filters of an exported command line, by FFmpeg's own library.

    Args:
        pixels: the pixel format in which they enter.
    """
    chain = command_of(place)[command_of(place).index("-vf") + 1]
    graph = av.filter.Graph()
    step = Fraction(1, RATE)
    source = graph.add_buffer(width=WIDTH, height=HEIGHT, format=pixels, time_base=step)
    filters = [source]
    for text in chain.split(","):
        name, _equals, arguments = text.partition("=")
        arguments = arguments.replace(place.name, str(place))
        filters.append(graph.add(name.partition("@")[0], arguments, name=name))
    filters += [graph.add("format", "rgb24"), graph.add("buffersink")]
    for one, following in itertools.pairwise(filters):
        one.link_to(following)
    graph.configure()
    for index, image in enumerate([*images, None]):
        frame = image
        if image is not None:
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = index, step
        graph.push(frame)
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                yield graph.pull().to_ndarray()


def test_ffmpeg_s_filters_cut_every_frame_out(path, tmp_path):
    place = tmp_path / "a.sendcmd"
    write_export(path, place)
    for index, image in enumerate(filtered(place, [column_ramp()] * 30)):
        x, _y, width, _height = box_of(index)
        assert image.shape == (90, 50, 3)
        assert np.array_equal(image[0, :, 0], np.arange(40 + x, 40 + x + width)), index


def test_ffmpeg_s_filters_zoom_and_add_bars(tmp_path):
    """Boxes of half the size, and boxes that are too wide, which leave bars."""
    boxes = [(60, 30, 25, 45), (0, 0, 150, 90), (60, 0, 50, 90)]
    path = made(tmp_path / "a.reframe.json", boxes=lambda index: boxes[index // 10])
    place = tmp_path / "a.sendcmd"
    write_export(path, place)
    shown = list(filtered(place, [column_ramp()] * 30))
    assert {image.shape for image in shown} == {(90, 50, 3)}
    gray = [image[..., 0].astype(int) for image in shown]
    expected = 40 + 60 + (np.arange(50) + 0.5) / 2 - 0.5
    assert np.abs(gray[5][45] - expected).max() < 2
    assert gray[15][:29].max() < 20
    assert gray[15][61:].max() < 20
    assert np.abs(gray[15][45][2:-2] - (40 + (np.arange(50) + 0.5) * 3 - 0.5)[2:-2]).max() < 3
    assert np.array_equal(gray[25][45], np.arange(100, 150))


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv422p10le"])
def test_odd_places_keep_the_colours_of_every_depth(tmp_path, pixels):
    """FFmpeg's crop lands between two bytes of coarse colours of more than 8 bits."""
    path = made(tmp_path / "a.reframe.json", boxes=lambda index: (2 * index + 1, 0, 50, 90))
    place = tmp_path / "a.sendcmd"
    write_export(path, place)
    flat = np.full((HEIGHT, WIDTH, 3), (200, 60, 90), np.uint8)
    for image in filtered(place, [flat] * 30, pixels):
        assert np.abs(image.astype(int) - flat[0, 0]).max() < 6


def test_a_crop_that_never_moves_needs_no_commands(tmp_path):
    path = made(tmp_path / "a.reframe.json", boxes=lambda _index: (30, 0, 50, 90))
    place = tmp_path / "a.sendcmd"
    write_export(path, place)
    for image in filtered(place, [column_ramp()] * 3):
        assert np.array_equal(image[0, :, 0], np.arange(70, 120))


def run_ffmpeg(place):
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not installed")
    program, *arguments = command_of(place)
    quiet = [program, "-v", "error", "-nostdin", "-y"]
    done = subprocess.run([*quiet, *arguments], cwd=place.parent, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return place.parent / arguments[-1].removeprefix("file:")


def cropped(film, times, first=0, **part):
    """What FFmpeg makes of a film of numbered pictures, cropped to a still box from `first` on."""
    path = made(
        film.with_name("a.reframe.json"),
        name=film.name,
        picture=Picture(64, 48),
        size=(26, 48),
        boxes=lambda _index: (10, 0, 26, 48),
        first=first,
        times=times,
        **part,
    )
    place = film.with_name("a.sendcmd")
    write_export(path, place)
    return run_ffmpeg(place)


@pytest.mark.parametrize("name", ["ramp", "it's, [1]; a:b\\c=d", "a:b", "-r"])
def test_the_command_line_runs_as_it_is(video, tmp_path, name):
    video = video.rename(video.with_stem(name))
    path = made(tmp_path / "a.reframe.json", name=video.name)
    write_export(path, tmp_path / f"{name}.sendcmd")
    out = run_ffmpeg(tmp_path / f"{name}.sendcmd")
    assert out.name == f"{name}.5x9.mp4"
    assert times_of(out) == times_of(video)
    own = avsal.reframe(video, tmp_path / "own.mp4", path=path)
    for ours, theirs in zip(frames_of(own), frames_of(out), strict=True):
        assert np.abs(ours.image.astype(int) - theirs.image).mean() < 2


def test_interlaced_pictures_become_whole_ones(tmp_path):
    film = samples.interlaced(tmp_path / "film.mkv")
    with av.open(str(film)) as container:
        times = [Fraction(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    shown = [frame.image[..., 0].astype(int) for frame in frames_of(film)]
    height, width = shown[0].shape
    path = made(
        tmp_path / "film.reframe.json",
        name=film.name,
        picture=Picture(width, height),
        size=(width, height),
        boxes=lambda _index: (0, 0, width, height),
        times=times,
    )
    write_export(path, tmp_path / "film.sendcmd")
    cropped = frames_of(run_ffmpeg(tmp_path / "film.sendcmd"))
    for ours, theirs in zip(shown, cropped, strict=True):
        assert np.abs(ours - theirs.image[..., 0]).mean() < 4


@pytest.mark.parametrize("part", [{}, {"start": 1.0, "end": 1.8}])
def test_sound_and_pictures_stay_together(tmp_path, part):
    """Also where the container's times begin late, as a transport stream's do, and of a part."""
    wave = samples.clicks(3, 44100, [0.5, 1.0, 1.5, 2.0, 2.5], channels=2)
    sound = samples.SoundTrack([(Fraction(0), wave)], 44100, "stereo", "aac")
    pictures = samples.Pictures([samples.numbered(i) for i in range(75)], rate=RATE)
    stream = samples.joined(tmp_path / "film.ts", [pictures], [sound])
    times = times_of(stream)
    begin, count = (25, 20) if part else (0, len(times))
    assert times[0] >= 1
    out = cropped(stream, times[begin : begin + count], begin, **part)
    moved = [time - times[begin] for time in times[begin : begin + count]]
    assert times_of(out) == moved
    sound = sound_of(out)
    assert abs(len(sound) / 16000 - count / 25) < 0.05
    loud = np.flatnonzero(np.abs(sound) > np.abs(sound).max() / 2)
    assert abs(loud[0] / 16000 - (0.5 if begin == 0 else 0)) < 0.06  # clicks at every half second


@pytest.mark.parametrize("part", [{}, {"start": 1.0}])
def test_times_between_the_ticks_of_the_rate_are_kept(tmp_path, part):
    """A variable rate of about 29.97, whose first frame is not on a tick either."""
    unit = Fraction(1, 5994)
    times = [(859 + 200 * i + 37 * (i % 3)) * unit for i in range(60)]
    pictures = samples.Pictures([samples.numbered(i) for i in range(60)], times, time_base=unit)
    film = samples.write(tmp_path / "film.mp4", pictures)
    times = times_of(film)  # MP4 rounds the first one
    begin = 30 if part else 0
    out = times_of(cropped(film, times[begin:], begin, **part))
    moved = [time - times[begin] for time in times[begin:]]
    assert [float(time) for time in out] == pytest.approx(list(map(float, moved)), abs=1e-3)


def test_sound_that_begins_before_the_pictures_is_kept(tmp_path):
    """As in videos that were cut without encoding them again."""
    wave = samples.clicks(2, 44100, [0.5, 1.0, 1.5])
    sound = samples.SoundTrack([(Fraction(0), wave)], 44100, "mono", "aac")
    times = [1 + Fraction(i, 25) for i in range(20)]
    pictures = samples.Pictures([samples.numbered(i) for i in range(20)], times=times)
    film = samples.write(tmp_path / "film.mp4", pictures, sound)
    out = cropped(film, times_of(film))
    assert times_of(out) == times_of(film)
    assert click_times(sound_of(out)) == pytest.approx([0, 0.5], abs=0.06)  # from the first frame
    with av.open(str(out)) as container:
        assert next(container.decode(audio=0)).time < 0.1


# ---- the commands


def test_reframe_exports_what_avsal_export_does(avsal_command, video, tmp_path, monkeypatch):
    maps = save_maps(tmp_path / "maps", video, lambda i: (0.2 + 0.02 * i, 0.5))
    out = tmp_path / "out.mp4"
    options = ("--saliency", maps, "--motion", "follow", "--export", tmp_path / "a.fcpxml")
    assert avsal_command("reframe", video, "-o", out, *options)[0] == 0
    path = tmp_path / "out.reframe.json"
    arguments = ("--to", tmp_path / "b.fcpxml", "--video", video)
    assert avsal_command("export", path, *arguments) == (
        0,
        f"{tmp_path / 'b.fcpxml'}: 30 frames\n",
        "",
    )
    assert (tmp_path / "a.fcpxml").read_bytes() == (tmp_path / "b.fcpxml").read_bytes()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    write_export(path, "other/a.sendcmd", "ramp.mp4")
    assert str(video) in command_of(tmp_path / "other" / "a.sendcmd")
    head = read_head(path)
    assert len(list(read_crops(path, head.picture))) == 30


def test_what_cannot_be_exported_is_one_line(avsal_command, video, path, tmp_path, monkeypatch):
    other = samples.constant_rate(tmp_path / "other.mp4", 2)
    before = sorted(tmp_path.iterdir())
    missing = set()
    find = importlib.util.find_spec
    monkeypatch.setattr(editors, "find_spec", lambda name: None if name in missing else find(name))
    cases = [
        (("export", path, "--to", tmp_path / "a.xml"), 2, ".fcpxml"),
        (("export", path, "--to", path), 2, "the input itself"),
        (("export", path, "--to", tmp_path / "new" / ".." / path.name), 2, "the input itself"),
        (("export", tmp_path / "no.reframe.json", "--to", tmp_path / "a.csv"), 1, "no such file"),
        (("export", tmp_path / "onxx"), 1, "onxx: no such file or folder; give a folder of maps"),
        (("export", other, "--to", tmp_path / "a.csv"), 1, "give a folder of maps or a .reframe"),
        (("export", path), 2, "--to"),
        (("export", path, "--to", tmp_path / "a.edl", "--video", tmp_path / "no.mp4"), 1, "no.mp4"),
        (("export", path, "--to", tmp_path / "a.edl", "--video", other), 1, "64x48"),
        (("reframe", video, "--export", tmp_path / "a.mov"), 2, ".sendcmd"),
        (("reframe", tmp_path, "--export", tmp_path / "a.csv"), 2, "avsal export"),
    ]
    for arguments, expected, text in cases:
        code, out, err = avsal_command(*arguments)
        assert (code, out, err.count("\n")) == (expected, "", 1), arguments
        assert text in err
    missing.add("opentimelineio")
    for suffix in (".edl", ".otio"):
        code, _out, err = avsal_command("export", path, "--to", tmp_path / f"a{suffix}")
        assert (code, err.count("\n")) == (2, 1)
        assert "avsal[editors]" in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_path_without_frames_and_names_that_break_lines(tmp_path):
    with pytest.raises(MediaError, match="no frames"):
        write_export(made(tmp_path / "a.reframe.json", count=0), tmp_path / "a.csv")
    path = made(tmp_path / "b.reframe.json", name="two\nlines.mp4")
    with pytest.raises(UsageError, match="control characters"):
        write_export(path, tmp_path / "b.sendcmd")
    write_export(path, tmp_path / "b.fcpxml")
    root, _clips = fcpxml_clips(tmp_path / "b.fcpxml")
    assert root.find("resources/asset").get("name") == "two?lines.mp4"


def test_keys_of_addresses_stay_out(tmp_path):
    path = made(tmp_path / "a.reframe.json", name="https://me:word@host/a%20b.mp4?key=1")
    for suffix in (".sendcmd", ".fcpxml"):
        write_export(path, tmp_path / f"a{suffix}")
        text = (tmp_path / f"a{suffix}").read_text()
        assert "https://host/a%20b.mp4" in text
        assert "word" not in text
        assert "key=1" not in text


def test_hostile_paths_raise_nothing_unexpected(tmp_path):
    """Names and numbers that anyone may have written into a path file."""
    names = ("\0x", "..", "/", "", "a" * 300, "\udcff.mp4", 5, {"a": 1}, "a.reframe.json")
    cases = [{"name": name} for name in names] + [
        {"times": [Fraction(n * step) for n in range(3)]} for step in (0, 10**5, 10**14)
    ]
    cases += [{"boxes": lambda _i, w=w: (0, 0, w, 0.001), "count": 3} for w in (0.001, 160)]
    cases += [{"first": 10**14, "count": 3}, {"count": 1}]
    for case in cases:
        path = made(tmp_path / "a.reframe.json", **{"count": 3, **case})
        for suffix in (".csv", ".sendcmd", ".fcpxml", ".edl", ".otio"):
            if importlib.util.find_spec("opentimelineio") is None and suffix in (".edl", ".otio"):
                continue
            with contextlib.suppress(AvsalError):
                write_export(path, tmp_path / f"a{suffix}")
                assert (tmp_path / f"a{suffix}").stat().st_size
