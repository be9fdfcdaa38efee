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
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import samples
from gaze_maps import save_maps
from media_checks import frames_of, sound_of, times_of

import avsal
from avsal.crops import editors
from avsal.crops.export import write_export
from avsal.crops.file import PathFile, read_crops, read_head, write_path
from avsal.crops.planning import Crop
from avsal.crops.settings import Picture
from avsal.errors import AvsalError, MediaError, UsageError

RATE = 25
WIDTH, HEIGHT = 160, 90


def column_ramp():
    """A picture whose gray tells the column."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = np.arange(40, 40 + WIDTH, dtype=np.uint8)[:, None]
    return image


def box_of(index):
    """Shot 0 rests, shot 1 moves and then rests, shot 2 rests; even numbers, as 4:2:0 likes."""
    if index < 10:
        return 20, 0, 50, 90
    return (2 * min(index - 10, 6), 0, 50, 90) if index < 20 else (104, 0, 50, 90)


def made(place, count=30, rate=Fraction(RATE), picture=None, first=0, times=None, **head):
    """A path file of `count` frames; the crops are `box_of` unless `boxes` tells others."""
    boxes = head.pop("boxes", box_of)
    times = times or [(first + i) / rate for i in range(count)]
    crops = (
        Crop(first + i, time, *map(float, boxes(i)), min(2, i // 10), 0.5)
        for i, time in enumerate(times)
    )
    size = head.pop("size", (50, 90))
    source = {"name": head.pop("name", "ramp.mp4")}
    described = PathFile(picture or Picture(WIDTH, HEIGHT), "5:9", size, source=source, **head)
    write_path(place, described, crops)
    return place


@pytest.fixture
def path(tmp_path):
    return made(tmp_path / "ramp.reframe.json")


@pytest.fixture
def video(tmp_path):
    pictures = samples.Pictures([column_ramp()] * 30, rate=RATE)
    return samples.write(tmp_path / "ramp.mp4", pictures)


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


# ---- FFmpeg


def command_of(place):
    (line,) = [row for row in place.read_text().splitlines() if row.startswith("# ffmpeg")]
    return shlex.split(line.removeprefix("# "))


def filtered(place, images):
    """Images through the filters of an exported command line, by FFmpeg's own library."""
    chain = command_of(place)[command_of(place).index("-vf") + 1]
    graph = av.filter.Graph()
    step = Fraction(1, RATE)
    source = graph.add_buffer(width=WIDTH, height=HEIGHT, format="rgb24", time_base=step)
    filters = [source]
    for text in chain.split(","):
        name, _equals, arguments = text.partition("=")
        arguments = arguments.replace(place.name, str(place))
        filters.append(graph.add(name.partition("@")[0], arguments, name=name))
    filters += [graph.add("format", "rgb24"), graph.add("buffersink")]
    for one, following in itertools.pairwise(filters):
        one.link_to(following)
    graph.configure()
    for index, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        frame.pts, frame.time_base = index, step
        graph.push(frame)
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
    path = made(
        tmp_path / "a.reframe.json",
        name="film.ts",
        picture=Picture(64, 48),
        size=(26, 48),
        boxes=lambda _index: (10, 0, 26, 48),
        first=begin,
        times=times[begin : begin + count],
        **part,
    )
    place = tmp_path / "a.sendcmd"
    write_export(path, place)
    out = run_ffmpeg(place)
    moved = [time - times[begin] for time in times[begin : begin + count]]
    assert times_of(out) == moved
    sound = sound_of(out)
    assert abs(len(sound) / 16000 - count / 25) < 0.05
    loud = np.flatnonzero(np.abs(sound) > np.abs(sound).max() / 2)
    assert abs(loud[0] / 16000 - (0.5 if begin == 0 else 0)) < 0.06  # clicks at every half second


# ---- editors


def needs(*packages):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def fcpxml_clips(place):
    root = ElementTree.parse(place).getroot()
    return root, root.findall("library/event/project/sequence/spine/asset-clip")


def seconds(text):
    return Fraction(text.removesuffix("s"))


def visible(clip, time, picture, size):
    """The part of the source picture that a clip shows at a time, as Final Cut Pro places it.

    The picture is fitted into the frame, scaled about its centre and moved by per cent of the
    frame's height.
    """
    transform = clip.find("adjust-transform")
    values = dict(transform.attrib)
    for param in transform.findall("param"):
        keys = [(seconds(k.get("time")), k.get("value")) for k in param.iter("keyframe")]
        values[param.get("name")] = [value for at, value in keys if at <= time][-1]
    (right, up), (scale, _) = (map(float, values[name].split()) for name in ("position", "scale"))
    wide, high = picture.width * float(picture.sample_aspect), picture.height
    factor = scale * min(size[0] / wide, size[1] / high)  # source to frame
    centre_x = wide / 2 - right / 100 * size[1] / factor
    centre_y = high / 2 + up / 100 * size[1] / factor
    width, height = size[0] / factor, size[1] / factor
    aspect = float(picture.sample_aspect)
    return (centre_x - width / 2) / aspect, centre_y - height / 2, width / aspect, height


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3)])
def test_fcpxml_shows_the_crop_of_every_frame(tmp_path, aspect):
    picture = Picture(WIDTH, HEIGHT, aspect)
    size = (round(50 * aspect / 2) * 2, 90)
    zoomed = [(60, 30, 25, 45), None, (104, 0, 50, 90)]
    boxes = [zoomed[i // 10] or box_of(i) for i in range(30)]
    path = made(tmp_path / "a.reframe.json", picture=picture, size=size, boxes=boxes.__getitem__)
    write_export(path, tmp_path / "a.fcpxml")
    _root, clips = fcpxml_clips(tmp_path / "a.fcpxml")
    assert len(clips) == 3
    for index, box in enumerate(boxes):
        clip = clips[index // 10]
        time = Fraction(index, RATE)
        assert seconds(clip.get("start")) <= time
        assert time < seconds(clip.get("start")) + seconds(clip.get("duration"))
        assert visible(clip, time, picture, size) == pytest.approx(box, abs=0.6)


def test_fcpxml_has_the_structure_of_version_1_8(path, tmp_path):
    write_export(path, tmp_path / "a.fcpxml")
    root, clips = fcpxml_clips(tmp_path / "a.fcpxml")
    assert (tmp_path / "a.fcpxml").read_text().splitlines()[1] == "<!DOCTYPE fcpxml>"
    assert [child.tag for child in root] == ["resources", "library"]
    resources = {item.get("id"): item for item in root.find("resources")}
    assert [item.tag for item in resources.values()] == ["format", "format", "asset"]
    sequence = root.find("library/event/project/sequence")
    result = resources[sequence.get("format")]
    assert (result.get("width"), result.get("height")) == ("50", "90")
    assert (result.get("frameDuration"), sequence.get("duration")) == ("1/25s", "6/5s")
    asset = resources[clips[0].get("ref")]
    assert asset.get("src") == (tmp_path / "ramp.mp4").as_uri()
    offset = Fraction(0)
    for clip in clips:
        assert clip.get("ref") == asset.get("id")
        assert seconds(clip.get("offset")) == offset
        assert [child.tag for child in clip] == ["adjust-conform", "adjust-transform"]
        offset += seconds(clip.get("duration"))
    assert offset == seconds(sequence.get("duration"))
    keys = [len(list(clip.iter("keyframe"))) for clip in clips]
    assert keys == [0, 7, 0]  # only where it moves


def test_fcpxml_is_read_by_opentimelineio(path, tmp_path):
    needs("opentimelineio", "otio_fcpx_xml_adapter")
    import opentimelineio as otio

    write_export(path, tmp_path / "a.fcpxml")
    (timeline,) = otio.adapters.read_from_file(str(tmp_path / "a.fcpxml"))
    check_timeline(timeline, tmp_path)


def check_timeline(timeline, folder):
    clips = list(timeline.video_tracks()[0])
    for number, clip in enumerate(clips):
        assert clip.source_range.start_time.value == 10 * number
        assert clip.source_range.duration.value == 10
        assert clip.source_range.start_time.rate == RATE
        assert clip.media_reference.target_url == (folder / "ramp.mp4").as_uri()
    assert len(clips) == 3
    return clips


def test_edl_is_read_by_opentimelineio(path, tmp_path):
    needs("opentimelineio", "otio_cmx3600_adapter")
    import opentimelineio as otio

    write_export(path, tmp_path / "a.edl")
    timeline = otio.adapters.read_from_file(str(tmp_path / "a.edl"), rate=RATE)
    clips = check_timeline(timeline, tmp_path)
    assert timeline.name == "ramp 5:9"
    assert [clip.name for clip in clips] == ["ramp.mp4"] * 3
    comments = [clip.metadata["cmx_3600"]["comments"][0] for clip in clips]
    assert comments[1:] == [
        "SHOT 2 CROP X Y W H: 0 0 50 90 THEN MOVES",
        "SHOT 3 CROP X Y W H: 104 0 50 90",
    ]


@pytest.mark.parametrize(
    ("rate", "written", "timecode"),
    [
        (Fraction(30000, 1001), "FCM: DROP FRAME", "00:01:00;02"),
        (Fraction(24000, 1001), "FCM: NON-DROP FRAME", "00:01:15:00"),
        (Fraction(12), "FCM: NON-DROP FRAME", "00:02:30:00"),
    ],
)
def test_edl_of_other_rates(tmp_path, rate, written, timecode):
    needs("opentimelineio", "otio_cmx3600_adapter")
    path = made(tmp_path / "a.reframe.json", count=1800, rate=rate)
    write_export(path, tmp_path / "a.edl")
    lines = (tmp_path / "a.edl").read_text().splitlines()
    assert lines[1] == written
    assert lines[-4].split()[-1] == timecode


def test_otio_is_read_by_opentimelineio(path, video, tmp_path):
    needs("opentimelineio")
    import opentimelineio as otio

    write_export(path, tmp_path / "a.otio")
    timeline = otio.adapters.read_from_file(str(tmp_path / "a.otio"))
    clips = check_timeline(timeline, tmp_path)
    assert timeline.audio_tracks() == []  # the video has no sound
    keys = [dict(key) for key in clips[1].effects[0].metadata["avsal"]["keys"]]
    assert keys[0] == {"frame": 10, "x": 0, "y": 0, "w": 50, "h": 90}
    assert (keys[6]["frame"], keys[6]["x"]) == (16, 12)
    assert keys[-1]["frame"] == 16  # it rests from there on
    video.unlink()
    write_export(path, tmp_path / "a.otio")
    timeline = otio.adapters.read_from_file(str(tmp_path / "a.otio"))
    assert [len(track) for track in timeline.audio_tracks()] == [1]  # it may have some


def test_parts_and_variable_rates_on_a_timeline(tmp_path):
    path = made(tmp_path / "a.reframe.json", first=50, start=2.0)
    write_export(path, tmp_path / "a.fcpxml")
    _root, clips = fcpxml_clips(tmp_path / "a.fcpxml")
    assert [clip.get("start") for clip in clips] == ["2s", "12/5s", "14/5s"]
    assert [clip.get("offset") for clip in clips] == ["0s", "2/5s", "4/5s"]
    times = [Fraction(n, 50) + (n > 9) * Fraction(1, 3) for n in range(30)]
    path = made(tmp_path / "b.reframe.json", times=times)
    write_export(path, tmp_path / "b.fcpxml")
    _root, clips = fcpxml_clips(tmp_path / "b.fcpxml")
    starts = [float(seconds(clip.get("start"))) for clip in clips]
    assert starts == pytest.approx([0, float(times[10]), float(times[20])], abs=0.011)


@pytest.mark.parametrize(
    ("rate", "known"),
    [
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (Fraction(24), Fraction(24)),
        (Fraction(10), Fraction(30)),
        (Fraction(12), Fraction(24)),
        (Fraction(15), Fraction(30)),
        (Fraction(33), Fraction(50)),
        (Fraction(120), Fraction(60)),
    ],
)
def test_rates_that_editors_know(rate, known):
    assert editors.timeline_rate([n / rate for n in range(50)]) == known
    rounded = [Fraction(round(1000 * n / rate), 1000) for n in range(500)]  # as Matroska does
    assert editors.timeline_rate(rounded) == known
    assert editors.timeline_rate([Fraction(0)]) == 25


# ---- the commands


def test_reframe_exports_what_avsal_export_does(avsal_command, video, tmp_path, monkeypatch):
    maps = save_maps(tmp_path / "maps", video, lambda i: (0.2 + 0.02 * i, 0.5))
    out = tmp_path / "out.mp4"
    options = ("--saliency", maps, "--motion", "follow", "--export", tmp_path / "a.fcpxml")
    assert avsal_command("reframe", video, "-o", out, *options)[0] == 0
    path = tmp_path / "out.reframe.json"
    arguments = ("--to", tmp_path / "b.fcpxml", "--video", video)
    assert avsal_command("export", path, *arguments) == (0, f"{tmp_path / 'b.fcpxml'}\n", "")
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
        (("export", tmp_path / "no.reframe.json", "--to", tmp_path / "a.csv"), 1, "missing"),
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
