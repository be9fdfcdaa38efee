"""Crop paths for editors, read back by parsers that are not avsal's own."""

from __future__ import annotations

import importlib.util
from fractions import Fraction

import crop_paths
import pytest
import samples
from crop_paths import HEIGHT, RATE, WIDTH, box_of, fcpxml_clips, made, seconds

from avsal.crops import editors
from avsal.crops.export import write_export
from avsal.crops.settings import Picture
from avsal.media import probe

path, video = crop_paths.path, crop_paths.video  # fixtures


def needs(*packages):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


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


@pytest.mark.parametrize(
    ("rate", "timecode", "last", "start"),
    [
        (Fraction(25), "01:00:10:05", "01:00:11:10", 90255),
        (Fraction(24000, 1001), "10:00:00:23", "10:00:02:05", 864023),
        (Fraction(30000, 1001), "01:00:59;28", "01:01:01;00", 109690),
        (Fraction(30000, 1001), "01:00:59:28", "01:01:00:28", 109798),
    ],
)
def test_a_timecode_names_the_frames_of_the_video(tmp_path, rate, timecode, last, start):
    needs("opentimelineio", "otio_cmx3600_adapter")
    import opentimelineio as otio

    pictures = samples.Pictures([crop_paths.column_ramp()] * 30, rate=rate, timecode=timecode)
    video = samples.write(tmp_path / "ramp.mov", pictures)
    assert probe(video).timecode == timecode
    path = made(tmp_path / "ramp.reframe.json", rate=rate, name=video.name)
    places = {suffix: tmp_path / f"a.{suffix}" for suffix in ("edl", "otio", "fcpxml")}
    for place in places.values():
        write_export(path, place)
    events = [line.split() for line in places["edl"].read_text().splitlines() if "AX" in line]
    assert (events[0][4], events[-1][5], events[0][6][:8]) == (timecode, last, "00:00:00")
    assert ("FCM: DROP" in places["edl"].read_text()) == (";" in timecode)
    clips = otio.adapters.read_from_file(str(places["otio"])).video_tracks()[0]
    assert clips[1].source_range.start_time.value == start + 10
    assert clips[1].media_reference.available_range.start_time.value == start
    root, clips = fcpxml_clips(places["fcpxml"])
    assert seconds(root.find("resources/asset").get("start")) == start / rate
    assert [seconds(clip.get("start")) for clip in clips[:2]] == [start / rate, (start + 10) / rate]
    assert seconds(next(clips[1].iter("keyframe")).get("time")) == (start + 10) / rate
    assert clips[0].get("tcFormat") == ("DF" if ";" in timecode else "NDF")


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


@pytest.mark.parametrize("begin", [0, Fraction(7, 5)])
def test_a_part_of_a_video_with_a_variable_rate_begins_where_it_is(tmp_path, begin):
    """Ten frames in 0.4 s, then one every 0.12 s: frame 15 is at 1.08 s."""
    times = [begin + n * Fraction(1, 25) for n in range(10)]
    times += [times[-1] + n * Fraction(3, 25) for n in range(1, 13)]
    part = times[15:]
    path = made(tmp_path / "a.reframe.json", first=15, times=part, start=1.0, origin=times[0])
    write_export(path, tmp_path / "a.fcpxml")
    _root, (clip, *_others) = fcpxml_clips(tmp_path / "a.fcpxml")
    assert seconds(clip.get("start")) == part[0] - times[0] == Fraction(27, 25)


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
