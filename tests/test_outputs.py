import json
import os
import tracemalloc
from dataclasses import asdict
from fractions import Fraction

import cv2
import numpy as np
import pytest
import samples
from gaze_maps import save_maps

from avsal.errors import AvsalError, MediaError, OutputError
from avsal.media.frames import FrameInfo
from avsal.prediction.maps import SaliencyFrame
from avsal.prediction.settings import OutputSettings
from avsal.prediction.shots import Shot
from avsal.results import formats, records
from avsal.results.description import DESCRIPTION, FrameRecord, shot_records
from avsal.results.folder import Spool, new_result, read_result


def saliency_frame(index, peak=1.0, size=(24, 40)):
    """A map whose density at the network's size (32 x 48) has one broad hill."""
    from avsal.prediction.maps import renormalised, to_density

    y, x = np.mgrid[:32, :48]
    hill = peak * np.exp(-((x - 10 - index) ** 2 + (y - 16) ** 2) / 60)
    log_density = renormalised(hill.astype(np.float32))
    time = Fraction(index, 25)
    tag = FrameInfo(index, time, time, Fraction(1, 25), size[1], size[0])
    return SaliencyFrame(tag, log_density, to_density(log_density, size))


def header(**output):
    settings = {"format": "png", "scale": "frame", "start": None, "end": None, **output}
    return {"model": "test", "settings": settings, "width": 40, "height": 24}


HEADER = header()


def write(folder, frames, **output):
    with new_result(folder, header(**output), OutputSettings(**output)) as result:
        for frame in frames:
            result.write(frame)
    return json.loads((folder / DESCRIPTION).read_text())


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_frame_scale_uses_all_levels_in_every_frame(tmp_path):
    frames = [saliency_frame(0), saliency_frame(1, peak=3.0)]
    described = write(tmp_path / "out", frames)
    for index, frame in enumerate(frames):
        gray = read(tmp_path / "out" / f"{index:06d}.png")
        assert gray.dtype == np.uint8
        assert (gray.min(), gray.max()) == (0, 255)
        record = described["frames"][index]
        restored = record["min"] + gray / 255 * (record["max"] - record["min"])
        assert np.abs(restored - frame.density).max() <= (record["max"] - record["min"]) / 500


def test_clip_scale_uses_one_range_for_all_frames(tmp_path):
    frames = [saliency_frame(0), saliency_frame(1, peak=3.0)]
    described = write(tmp_path / "out", frames, scale="clip")
    low = min(frame.density.min() for frame in frames)
    high = max(frame.density.max() for frame in frames)
    assert all(r["min"] == pytest.approx(low) for r in described["frames"])
    assert all(r["max"] == pytest.approx(high) for r in described["frames"])
    for index, frame in enumerate(frames):
        gray = read(tmp_path / "out" / f"{index:06d}.png")
        expected = np.rint((frame.density - low) / (high - low) * 255)
        assert np.abs(gray - expected).max() <= 1
    assert read(tmp_path / "out" / "000000.png").max() < 255


def test_probability_scale_is_the_same_for_every_video(tmp_path):
    frame = saliency_frame(0, peak=2.0)
    described = write(tmp_path / "out", [frame], scale="probability", format="png16")
    gray = read(tmp_path / "out" / "000000.png")
    assert gray.dtype == np.uint16
    top = formats.PROBABILITY_TOP / frame.density.size
    assert (described["frames"][0]["min"], described["frames"][0]["max"]) == (0, top)
    assert np.abs(gray / 65535 * top - frame.density).max() <= top / 65535


def test_npy_holds_densities(tmp_path):
    write(tmp_path / "out", [saliency_frame(3)], format="npy")
    density = np.load(tmp_path / "out" / "000003.npy")
    assert density.dtype == np.float32
    assert density.sum() == pytest.approx(1, abs=1e-4)


def test_the_description_tells_time_peak_and_entropy(tmp_path):
    described = write(tmp_path / "out", [saliency_frame(7, peak=4.0)])
    record = described["frames"][0]
    assert described["model"] == "test"
    assert (record["index"], record["pts"], record["time"]) == (7, "7/25", 0.28)
    x, y = record["peak"]
    assert abs(x - (17.5 * 40 / 48)) <= 1.5
    assert abs(y - 12) <= 1.5
    assert 0 < record["entropy"] < np.log2(32 * 48)


def test_an_even_map_has_the_entropy_of_its_pixels():
    frame = saliency_frame(0, peak=0.0)
    assert frame.entropy == pytest.approx(np.log2(32 * 48), abs=1e-3)
    assert frame.saliency.max() <= 1


def test_nothing_stays_of_an_interrupted_result(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        new_result(tmp_path / "out", HEADER, OutputSettings(scale="clip")) as result,
    ):
        result.write(saliency_frame(0))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_result_replaces_an_earlier_one_whole(tmp_path):
    write(tmp_path / "out", [saliency_frame(i) for i in range(3)])
    write(tmp_path / "out", [saliency_frame(0)])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000000.png", DESCRIPTION]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_result_leaves_the_earlier_one(tmp_path):
    write(tmp_path / "out", [saliency_frame(i) for i in range(3)])
    with pytest.raises(RuntimeError), new_result(tmp_path / "out", HEADER, OutputSettings()):
        raise RuntimeError
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_folder_that_is_no_result_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not an earlier result"):
        write(tmp_path / "out", [saliency_frame(0)])
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["notes.txt", "000007.png", "000000.npy", "saliency.mp4", "deep"])
def test_a_result_with_something_else_in_it_is_left_alone(tmp_path, name):
    write(tmp_path / "out", [saliency_frame(0)])
    (tmp_path / "out" / name).mkdir()
    with pytest.raises(OutputError, match=f"holds {name}, so it is not an earlier result"):
        write(tmp_path / "out", [saliency_frame(0)])
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_description_of_another_program_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / DESCRIPTION).write_text('{"frames": []}')
    with pytest.raises(OutputError, match="not an earlier result"):
        write(tmp_path / "out", [saliency_frame(0)])
    assert (tmp_path / "out" / DESCRIPTION).read_text() == '{"frames": []}'


def test_a_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="in the way"):
        write(tmp_path / "out", [saliency_frame(0)])


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def no_space(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", no_space)
    with pytest.raises(OutputError, match="no space left on device"):
        write(tmp_path / "out", [saliency_frame(i) for i in range(20)])
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place_is_one_line(tmp_path):
    # A path below a file cannot be made by anyone, root included.
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "out", [saliency_frame(0)])


def test_levels_of_an_even_map_are_black():
    assert formats.levels(np.full((3, 3), 0.1), 0.1, 0.1, 255).max() == 0


def hills(count=4):
    return [saliency_frame(index, peak=1 + index) for index in range(count)]


@pytest.mark.parametrize("scale", ["frame", "clip", "probability"])
@pytest.mark.parametrize(
    ("format", "tolerance"), [("png", 1 / 500), ("png16", 1e-5), ("npy", 0), ("video", 1 / 20)]
)
def test_every_format_is_read_back_as_densities(tmp_path, format, scale, tolerance):
    frames = hills()
    write(tmp_path / "out", frames, format=format, scale=scale)
    result = read_result(tmp_path / "out")
    assert (result.format, result.width, result.height) == (format, 40, 24)
    for frame, (record, density) in zip(frames, result.densities(), strict=True):
        assert (record.index, record.pts, record.peak) == (frame.index, frame.pts, frame.peak)
        assert density.dtype == np.float32
        clipped = np.clip(frame.density, record.min, record.max)
        assert np.abs(density - clipped).max() <= tolerance * (record.max - record.min)


@pytest.mark.parametrize("size", ["39x23", "video", None])
def test_odd_maps_of_a_video_are_read_without_its_padding(tmp_path, size):
    frames = [saliency_frame(index, size=(23, 39)) for index in range(3)]
    described = header(format="video", **({} if size is None else {"size": size}))
    if size != "39x23":
        described |= {"width": 39, "height": 23}
    with new_result(tmp_path / "out", described, OutputSettings(format="video")) as result:
        for frame in frames:
            result.write(frame)
    for frame, (_record, density) in zip(
        frames, read_result(tmp_path / "out").densities(), strict=True
    ):
        assert density.shape == (23, 39)
        assert np.abs(density - frame.density).max() <= frame.density.max() / 20


def test_maps_are_read_as_they_were_stored(tmp_path):
    for format, dtype in (("png", np.uint8), ("png16", np.uint16), ("npy", np.float32)):
        write(tmp_path / format, hills(1), format=format)
        ((_record, stored),) = read_result(tmp_path / format).maps()
        assert stored.dtype == dtype


def rewritten(folder, change):
    """A result whose saliency.json was changed by hand, its layout included."""
    write(folder, hills(3))
    described = json.loads((folder / DESCRIPTION).read_text())
    text = change(described) or json.dumps(described)
    (folder / DESCRIPTION).write_text(text)
    return folder


@pytest.mark.parametrize("size", [(17_000, 64), (11_648, 8_736)])
def test_maps_of_the_largest_pictures_are_read_back(tmp_path, size):
    """A panorama, and a photograph of 100 megapixels."""
    change = dict(zip(("width", "height"), size, strict=True))
    folder = rewritten(tmp_path / "out", lambda described: described.update(change))
    result = read_result(folder)
    assert (result.width, result.height) == size
    assert len(list(result.densities())) == 3


def test_a_description_may_have_another_layout(tmp_path):
    folder = rewritten(tmp_path / "out", lambda _described: None)
    assert [record.index for record, _map in read_result(folder).maps()] == [0, 1, 2]


HOSTILE = {
    "no JSON": lambda d: "{",
    "a list": lambda d: "[1]",
    "nothing": lambda d: " ",
    "no frames": lambda d: json.dumps({**d, "frames": 5}),
    "frames of numbers": lambda d: json.dumps({**d, "frames": [1, 2]}),
    "frames of text": lambda d: json.dumps({**d, "frames": ["a"]}),
    "empty frames": lambda d: json.dumps({**d, "frames": [{}]}),
    "a name for a number": lambda d: d["frames"][1].update(index="../../etc/passwd"),
    "a negative index": lambda d: d["frames"][0].update(index=-1),
    "the same frame again": lambda d: d["frames"][1].update(index=0),
    "NaN": lambda d: d["frames"][1].update(time=float("nan")),
    "Infinity": lambda d: d["frames"][1].update(max=float("inf")),
    "a huge exponent": lambda d: json.dumps(d).replace('"0"', '"1e999999999"'),
    "a huge integer": lambda d: json.dumps(d).replace('"entropy": ', '"entropy": 1' + "0" * 400),
    "a zero denominator": lambda d: d["frames"][1].update(pts="1/0"),
    "depth": lambda d: json.dumps(d).replace('"frames": [', '"frames": [' + "[" * 10**5),
    "depth in the header": lambda d: '{"a": ' + "[" * 10**5 + "]" * 10**5 + ', "frames": []}',
    "settings of text": lambda d: d.update(settings="png"),
    "an unknown format": lambda d: d["settings"].update(format="gif"),
    "a list as format": lambda d: d["settings"].update(format=[]),
    "cut off": lambda d: json.dumps(d)[:-20],
    "not UTF-8": lambda d: json.dumps(d, ensure_ascii=False).replace("test", "\udcff"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_description_is_one_line(tmp_path, kind):
    def change(described):
        return HOSTILE[kind](described)

    write(tmp_path / "out", hills(3))
    path = tmp_path / "out" / DESCRIPTION
    described = json.loads(path.read_text())
    text = change(described) or json.dumps(described)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MediaError) as caught:
        list(read_result(tmp_path / "out").densities())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", ["png", "npy", "video"])
def test_a_pipe_in_place_of_a_map_or_the_description_is_no_hang(tmp_path, format):
    write(tmp_path / "out", hills(2), format=format)
    victim = next(p for p in sorted((tmp_path / "out").iterdir()) if p.name != DESCRIPTION)
    for path in (victim, tmp_path / "out" / DESCRIPTION):
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(MediaError, match=path.name):
            list(read_result(tmp_path / "out").maps())


def test_maps_of_another_kind_are_one_line(tmp_path):
    write(tmp_path / "png", hills(2))
    cv2.imwrite(str(tmp_path / "png" / "000001.png"), np.zeros((4, 4), np.uint16))
    write(tmp_path / "npy", hills(2), format="npy")
    np.save(tmp_path / "npy" / "000001.npy", np.zeros((4, 4, 3), np.float32))
    write(tmp_path / "gone", hills(2))
    (tmp_path / "gone" / "000001.png").unlink()
    write(tmp_path / "short", hills(2), format="video")
    write(tmp_path / "long", hills(3), format="video")
    video = tmp_path / "long" / formats.VIDEO_NAME
    (tmp_path / "short" / formats.VIDEO_NAME).replace(tmp_path / "long" / formats.VIDEO_NAME)
    for name, file in {
        "png": "000001",
        "npy": "000001",
        "gone": "000001",
        "long": video.name,
    }.items():
        with pytest.raises(AvsalError, match=file):
            list(read_result(tmp_path / name).densities())


def test_the_file_in_a_result_is_not_its_folder(tmp_path):
    film = samples.film(tmp_path / "film.mp4", seconds=0.2)
    save_maps(tmp_path / "maps", film, lambda _i: (0.5, 0.5))
    with pytest.raises(MediaError, match=f"one video's maps; give {tmp_path}/maps$"):
        read_result(tmp_path / "maps" / DESCRIPTION)


@pytest.mark.slow
def test_reading_needs_no_memory_for_the_whole(tmp_path):
    """A description of 60,000 frames, 8 MB, is read within 2 MB."""
    record = json.loads(json.dumps(asdict(FrameRecord.of(saliency_frame(0), 0, 1)), default=str))
    frames = [{**record, "index": index} for index in range(60_000)]
    tmp_path.joinpath(DESCRIPTION).write_text(json.dumps({**HEADER, "frames": frames}))
    del frames
    tracemalloc.start()
    assert sum(1 for _record in read_result(tmp_path).records()) == 60_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_shots_follow_the_frames(tmp_path):
    cuts = [(2, Fraction(2, 25)), (6, Fraction(6, 25)), (11, Fraction(11, 25))]
    with new_result(tmp_path / "out", HEADER, OutputSettings()) as result:
        for index in range(12):
            result.write(saliency_frame(index))
        result.after = {"shots": shot_records(result.shots(cuts))}
    read = read_result(tmp_path / "out")
    assert len(list(read.records())) == 12
    whole = Shot(0, 11, Fraction(0), Fraction(12, 25))
    # One cut is too near the beginning to count; all that are listed are sure.
    assert read.shots() == [
        Shot(0, 5, Fraction(0), Fraction(6, 25)),
        Shot(6, 10, Fraction(6, 25), Fraction(11, 25)),
        Shot(11, 11, Fraction(11, 25), Fraction(12, 25)),
    ]
    described = json.loads((tmp_path / "out" / DESCRIPTION).read_text())
    described["shots"] = [{"first": 0, "last": 11, "start": "0", "end": "12/25"}]
    (tmp_path / "out" / DESCRIPTION).write_text(json.dumps(described))
    assert read.shots() == [whole]
    del described["shots"]
    (tmp_path / "out" / DESCRIPTION).write_text(json.dumps(described))
    assert read.shots() is None
    for wrong in (5, ["a"], [{"first": 0}], [{"first": -1, "last": 1, "start": "0", "end": "1"}]):
        (tmp_path / "out" / DESCRIPTION).write_text(json.dumps({**described, "shots": wrong}))
        with pytest.raises(MediaError, match="damaged"):
            read.shots()


def test_frames_that_wait_for_the_clip_s_scale_need_no_memory(tmp_path):
    """Their places in the video once took 100 MB for two hours."""
    spool = Spool(tmp_path)
    frame = saliency_frame(0)
    tracemalloc.start()
    for index in range(5_000):
        time = Fraction(index, 30)
        tag = FrameInfo(index, time, time, Fraction(1, 30), 40, 24)
        spool.add(SaliencyFrame(tag, frame.log_density[:1, :1], frame.density))
    assert tracemalloc.get_traced_memory()[0] < 200_000
    tracemalloc.stop()
    spool.close()


def test_frames_of_the_spool_are_those_that_were_given(tmp_path):
    spool = Spool(tmp_path)
    frames = [saliency_frame(index, size=(24 + index, 40)) for index in range(3)]
    for frame in frames:
        spool.add(frame)
    for given, again in zip(frames, spool.frames(), strict=True):
        assert again.info == given.info
        assert np.array_equal(again.log_density, given.log_density)
        assert np.array_equal(again.density, given.density)
    spool.close()


@pytest.mark.parametrize("after", [",\n nonsense\n}", "\n}}\n", ",\n NaN: 1}", ", {"])
def test_damage_behind_the_records_is_one_line(tmp_path, after):
    path = tmp_path / DESCRIPTION
    path.write_text('{"a": 1,\n "frames": [\n  {"index": 0}\n ]' + after)
    with pytest.raises(MediaError, match="damaged, or not written by avsal predict"):
        records.RecordsFile(path, "avsal predict").after()
