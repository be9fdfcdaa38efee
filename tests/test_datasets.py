"""Data sets of frame folders and pictures, read back and compared with what was written."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import stavis_tree
from PIL import Image
from scipy.io import savemat

from avsal.datasets import DatasetSpec, Points, open_dataset
from avsal.datasets.pictures import read_picture
from avsal.errors import DataError
from avsal.media import VideoReader
from avsal.media.frames import info_of
from avsal.prediction.windows import FrameRule, window_for

SIZE = (stavis_tree.HEIGHT, stavis_tree.WIDTH)


@pytest.fixture
def own_tree(tmp_path) -> Path:
    stavis_tree.write_tree(tmp_path, ("SumMe",))
    return tmp_path


def test_points_are_summed_gaussians():
    points = Points.inside(np.array([[0.25, 0.5], [0.9, 0.1], [1.2, 0.5], [np.nan, 0.5]]))
    assert len(points) == 2
    size, sigma = (30, 40), 0.1
    rows, columns = np.mgrid[:30, :40] + 0.5
    expected = sum(
        np.exp(-((columns - x * 40) ** 2 + (rows - y * 30) ** 2) / (2 * (sigma * 40) ** 2))
        for x, y in points.places
    )
    np.testing.assert_allclose(points.density(size, sigma), expected, rtol=1e-4)
    assert sorted(zip(*np.nonzero(points.mask(size)), strict=True)) == [(3, 36), (15, 10)]


def test_stavis_gives_what_was_written(tree):
    videos = open_dataset(DatasetSpec(root=tree, databases=("SumMe",), split="test", fold=2))
    assert [video.name for video in videos] == ["clip_3", "clip_0"]  # as the list of fold 2 says
    written = stavis_tree.TreeVideo("clip_3", 3)
    frames = list(videos[0].frames())
    assert [frame.pts for frame in frames] == [Fraction(i, 10) for i in range(18)]
    others = [
        np.abs(frames[4].image - 1.0 * stavis_tree.picture(written, i)).mean() for i in range(18)
    ]
    assert np.argmin(others) == 4
    union = np.zeros(SIZE, bool)
    for frame, tag in zip(frames, videos[0].tags(), strict=True):
        looked = stavis_tree.fixations(written, frame.index).astype(bool)
        gaze = videos[0].gaze(info_of(frame, Fraction(0)))
        union |= looked
        assert tag == info_of(frame, Fraction(0))
        if frame.index in written.unwatched:
            assert gaze is None
            continue
        np.testing.assert_array_equal(gaze.fixations, looked)
        difference = gaze.density - stavis_tree.density(written, frame.index)
        assert np.abs(difference).mean() < 3
    np.testing.assert_array_equal(videos[0].others(SIZE), union)


def test_stavis_takes_all_databases_with_a_list(tree):
    videos = open_dataset(DatasetSpec(root=tree, split="train", fold=3))
    assert [(v.database, v.name) for v in videos] == [
        ("DIEM", "clip_0"),  # has the same split in every fold
        ("DIEM", "clip_1"),
        ("SumMe", "clip_2"),
        ("SumMe", "clip_3"),
    ]


def test_stavis_sound_is_the_wav(tree):
    video = open_dataset(DatasetSpec(root=tree, databases=("SumMe",), split="train"))[1]
    with video.sound() as sound:
        samples = sound.read(1000, 3000)
    times = np.arange(1000, 3000) / 16_000
    np.testing.assert_allclose(samples, 0.4 * np.sin(2 * np.pi * 400 * times), atol=1e-4)


@pytest.mark.parametrize("place", [0.0, 0.4, 0.99, 1.0])
def test_clip_is_a_window_with_a_full_past(tree, place):
    clip = open_dataset(DatasetSpec(root=tree, databases=("SumMe",)))[0].clip(place, FrameRule(1))
    target = min(15 + int(3 * place), 17)  # 18 frames: three of them have a full past
    assert clip.window == window_for(target)
    assert sorted(set(clip.window.frames)) == list(range(target - 15, target + 1))
    assert clip.target.index == target
    assert clip.target.time == Fraction(target, 10)
    assert clip.time(target + 17) == Fraction(target + 17, 10)


def test_short_video_is_played_backwards(tmp_path):
    video = stavis_tree.TreeVideo("short", 1, frames=9)
    stavis_tree.write_video(tmp_path, "SumMe", video)
    stavis_tree.write_list(tmp_path, "SumMe", "test", 1, [video])
    clip = open_dataset(DatasetSpec(root=tmp_path))[0].clip(0.5, FrameRule(1))
    assert clip.window == window_for(4, last=8)
    assert sorted(set(clip.window.frames)) == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "missing",
    [
        "fold_lists/SumMe_list_test_1_fps.txt",
        "video_frames/SumMe/clip_2/img_00001.jpg",
        "annotations/SumMe/clip_2/maps/eyeMap_00001.jpg",
        "annotations/SumMe/clip_2/fixMap_00001.mat",
    ],
)
def test_stavis_names_the_missing_file(own_tree, missing):
    (own_tree / missing).unlink()
    with pytest.raises(DataError, match=missing):
        open_dataset(DatasetSpec(root=own_tree, databases=("SumMe",)))


def test_stavis_may_lack_a_short_tail(tmp_path, caplog):
    video = stavis_tree.TreeVideo("long", 1, frames=20)
    stavis_tree.write_video(tmp_path, "SumMe", video)
    stavis_tree.write_list(tmp_path, "SumMe", "test", 1, [video])
    folder = tmp_path / "annotations" / "SumMe" / "long"
    (folder / "fixMap_00020.mat").unlink()
    assert open_dataset(DatasetSpec(root=tmp_path))[0].count == 19
    assert "the last 1 of 20 listed frames" in caplog.text
    (folder / "maps" / "eyeMap_00019.jpg").unlink()
    with pytest.raises(DataError, match=r"eyeMap_00019\.jpg: missing"):
        open_dataset(DatasetSpec(root=tmp_path))


def test_stavis_names_the_missing_folder(own_tree):
    shutil.rmtree(own_tree / "video_audio")
    with pytest.raises(DataError, match="video_audio/SumMe: missing"):
        open_dataset(DatasetSpec(root=own_tree, databases=("SumMe",)))


def test_stavis_video_may_be_silent(own_tree, caplog):
    (own_tree / "video_audio" / "SumMe" / "clip_2" / "clip_2.wav").unlink()
    video = open_dataset(DatasetSpec(root=own_tree, databases=("SumMe",)))[0]
    assert "clip_2.wav: missing; the video counts as silent" in caplog.text
    assert not video.has_sound
    assert not list(video.problems())
    with video.sound() as sound:
        assert sound is None


def test_stavis_names_the_malformed_line(own_tree):
    path = own_tree / "fold_lists" / "SumMe_list_test_1_fps.txt"
    path.write_text("clip_0 18 10\nclip_1 many 10\n")
    with pytest.raises(DataError, match=r"fps\.txt:2: 'clip_1 many 10'"):
        open_dataset(DatasetSpec(root=own_tree, databases=("SumMe",)))
    path.write_bytes(b"T\xfcr 18 10\n")
    with pytest.raises(DataError, match=r"fps\.txt: it is not text in UTF-8"):
        open_dataset(DatasetSpec(root=own_tree, databases=("SumMe",)))


def test_no_data_set(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_dataset(DatasetSpec(root=tmp_path / "absent"))
    with pytest.raises(DataError, match="fold_lists: missing"):
        open_dataset(DatasetSpec(root=tmp_path))


def test_problems_lists_every_broken_file(own_tree):
    video = open_dataset(DatasetSpec(root=own_tree, databases=("SumMe",)))[0]
    assert not list(video.problems())
    video.frame_file(3).write_bytes(video.frame_file(3).read_bytes()[:100])
    video.annotations.fixation_file(7).unlink()
    video.annotations.map_file(9).write_bytes(b"no picture")
    video.sound_file.write_bytes(b"RIFF")
    found = "\n".join(video.problems()).splitlines()
    named = ("img_00004.jpg", "fixMap_00008.mat", "eyeMap_00010.jpg", ".wav")
    assert len(found) == len(named)
    assert all(name in line for name, line in zip(named, found, strict=True))


def test_annotations_alone(tree):
    videos = open_dataset(DatasetSpec(root=tree / "annotations"), pictures=False)
    assert len(videos) == 8
    assert (videos[5].database, videos[5].name) == ("SumMe", "clip_1")
    assert not videos[5].has_pictures
    tags = list(videos[5].tags())
    assert len(tags) == 18
    looked = stavis_tree.fixations(stavis_tree.TreeVideo("clip_1", 1), 6).astype(bool)
    np.testing.assert_array_equal(videos[5].gaze(tags[6]).fixations, looked)
    with pytest.raises(DataError, match="annotations alone"):
        next(videos[5].frames())
    (one,) = open_dataset(
        DatasetSpec(root=tree / "annotations" / "SumMe" / "clip_1"), pictures=False
    )
    assert (one.name, one.count) == ("clip_1", 18)
    with pytest.raises(DataError, match="missing"):
        open_dataset(DatasetSpec(root=tree / "fold_lists"), pictures=False)


def test_gaze_on_pictures_alone(tmp_path):
    """Maps made elsewhere are scored without the pictures."""
    write_gray(tmp_path / "maps" / "b" / "x.png", np.eye(*PICTURE, dtype=np.uint8))
    (still,) = open_dataset(DatasetSpec(root=tmp_path), pictures=False)
    assert (still.name, still.size, still.has_pictures) == ("b/x", PICTURE, False)
    with pytest.raises(DataError, match="images: missing"):
        open_dataset(DatasetSpec(root=tmp_path))


PLACES = np.array([[0.25, 0.5], [0.75, 0.25], [0.5, 0.9]], np.float32)
PICTURE = (24, 32)  # H, W


def write_picture(path: Path, level: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*PICTURE, 3), level, np.uint8))


def write_gray(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values)


def salicon_gaze(places: np.ndarray) -> dict:
    """One observer's fixations as SALICON stores them: pixels counted from 1."""
    height, width = PICTURE
    kind = [("location", "O"), ("timestamp", "O"), ("fixations", "O")]
    gaze = np.zeros((1, 1), dtype=kind)
    pixels = np.floor(places * (width, height)) + 1
    gaze[0, 0] = (np.zeros((0, 2)), np.zeros((0, 1)), pixels)
    return {"gaze": gaze, "resolution": np.array([[height, width]])}


def only_gaze(recording):
    return recording.gaze(next(recording.tags()))


def test_salicon_folders(tmp_path):
    for name in ("a", "b"):
        write_picture(tmp_path / "images" / "val" / f"{name}.jpg")
        write_gray(
            tmp_path / "maps" / "val" / f"{name}.png", np.eye(*PICTURE, dtype=np.uint8) * 200
        )
        (tmp_path / "fixations" / "val").mkdir(parents=True, exist_ok=True)
        savemat(tmp_path / "fixations" / "val" / f"{name}.mat", salicon_gaze(PLACES))
    first, second = open_dataset(DatasetSpec(root=tmp_path))
    assert (first.name, first.still, second.name) == ("val/a.jpg", True, "val/b.jpg")
    gaze = only_gaze(first)
    np.testing.assert_array_equal(gaze.fixations, Points(PLACES).mask(PICTURE))
    np.testing.assert_array_equal(gaze.density, np.eye(*PICTURE) * 200)
    assert gaze.points.observers.tolist() == [0, 0, 0]
    (tmp_path / "maps" / "val" / "b.png").unlink()
    with pytest.raises(DataError, match=r"maps/val/b\.\*"):
        open_dataset(DatasetSpec(root=tmp_path))


def test_mit1003_folders(tmp_path):
    write_picture(tmp_path / "ALLSTIMULI" / "i1.jpeg")
    density = np.arange(PICTURE[0] * PICTURE[1]).reshape(PICTURE) % 200
    write_gray(tmp_path / "ALLFIXATIONMAPS" / "i1_fixMap.png", density)
    marks = Points(PLACES).mask(PICTURE)
    write_gray(tmp_path / "ALLFIXATIONMAPS" / "i1_fixPts.png", marks * np.uint8(255))
    (still,) = open_dataset(DatasetSpec(root=tmp_path))
    np.testing.assert_array_equal(only_gaze(still).fixations, marks)
    np.testing.assert_array_equal(only_gaze(still).density, density)
    assert still.others(PICTURE) is None  # there is no other picture


def test_masks_as_arrays(tmp_path):
    marks = Points(PLACES).mask(PICTURE)
    write_picture(tmp_path / "images" / "a.png")
    (tmp_path / "fixations").mkdir()
    np.save(tmp_path / "fixations" / "a.npy", marks)
    (still,) = open_dataset(DatasetSpec(root=tmp_path))
    np.testing.assert_array_equal(only_gaze(still).fixations, marks)
    np.testing.assert_allclose(only_gaze(still).density, Points.of_mask(marks).density(PICTURE))


def write_table(root: Path, count: int = 13) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = np.column_stack(
        [
            np.repeat(np.arange(count), 6),
            np.tile(np.arange(3), 2 * count),
            rng.random((6 * count, 2)),
        ]
    ).astype(np.float32)
    names = [f"{number:02}.jpg" for number in range(count)]
    for name in names:
        write_picture(root / "images" / name)
    np.savez(root / "fixations.npz", names=names, orig_size=[PICTURE[::-1]] * count, fix=rows)
    return rows


def test_table_of_fixations(tmp_path):
    rows = write_table(tmp_path)
    stills = open_dataset(DatasetSpec(root=tmp_path, degree=4.0))
    assert len(stills) == 13
    own = Points.inside(rows[12:18, 2:4])
    gaze = only_gaze(stills[2])
    np.testing.assert_array_equal(gaze.fixations, own.mask(PICTURE))
    np.testing.assert_allclose(gaze.density, own.density(PICTURE, 4 / 32))
    assert gaze.points.observers.tolist() == [0, 1, 2, 0, 1, 2]
    others = stills[2].others(PICTURE)
    assert 40 < others.sum() <= 60  # ten pictures of six fixations, few of which coincide
    # What is marked belongs to other pictures, and is the same every time.
    assert not (
        others & ~Points.inside(np.delete(rows, np.s_[12:18], 0)[:, 2:4]).mask(PICTURE)
    ).any()
    again = open_dataset(DatasetSpec(root=tmp_path))[2]
    np.testing.assert_array_equal(again.others(PICTURE), others)


def test_the_default_blur(tmp_path):
    rows = write_table(tmp_path, 1)
    (still,) = open_dataset(DatasetSpec(root=tmp_path))
    expected = Points.inside(rows[:, 2:4]).density(PICTURE, 0.035)
    np.testing.assert_array_equal(only_gaze(still).density, expected)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_names(tmp_path, encoding):
    write_table(tmp_path)
    wanted, unwanted = tmp_path / "some.txt", tmp_path / "without.txt"
    wanted.write_text("03.jpg\n# held out\n07\n", encoding)
    unwanted.write_text("\n".join(f"{number:02}.jpg" for number in range(12)))
    chosen = open_dataset(DatasetSpec(root=tmp_path, names=wanted))
    assert [still.name for still in chosen] == ["03.jpg", "07.jpg"]
    rest = open_dataset(DatasetSpec(root=tmp_path, without=unwanted))
    assert [still.name for still in rest] == ["12.jpg"]
    wanted.write_text("03.jpg\nabsent.jpg\n")
    with pytest.raises(DataError, match=r"absent\.jpg is not in"):
        open_dataset(DatasetSpec(root=tmp_path, names=wanted))


def test_names_to_omit_that_are_not_there_are_told(tmp_path, caplog):
    """A misspelt name would train on what was to be kept for validation."""
    write_table(tmp_path)
    unwanted = tmp_path / "without.txt"
    unwanted.write_text("03\n04.JPG\n05.png\n06.jpg\n")
    rest = open_dataset(DatasetSpec(root=tmp_path, without=unwanted))
    assert len(rest) == 11
    assert f"without.txt: not in {tmp_path}, so not omitted: 04.JPG, 05.png" in caplog.text


@pytest.mark.parametrize("form", ["RGB", "RGBA", "LA", "P", "I;16", "L"])
def test_pictures_are_those_of_predict(tmp_path, form):
    """Transparent ones are over black, and 16 bits are not clipped."""
    levels = np.linspace(0, 255, 32 * 48).astype(np.uint8).reshape(32, 48)
    picture = Image.fromarray(np.dstack([levels, levels[::-1], levels, levels.T.reshape(32, 48)]))
    if form == "I;16":
        picture = Image.fromarray(levels.astype(np.uint16) * 257)
    picture.convert(form).save(tmp_path / "a.png")
    with VideoReader(tmp_path / "a.png") as reader:
        (frame,) = reader
    found = read_picture(tmp_path / "a.png").astype(int)
    np.testing.assert_allclose(found, frame.image, atol=1)  # 16 bits are rounded


def test_photographs_are_turned_as_they_are_shown(tmp_path):
    """Gaze is recorded on what was shown, and `avsal predict` turns pictures, too."""
    upright = np.zeros((60, 40, 3), np.uint8)
    upright[:20, :, 0] = 250
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "images" / "a.png", exif=exif)
    write_gray(tmp_path / "maps" / "a.png", np.eye(60, 40, dtype=np.uint8))
    (still,) = open_dataset(DatasetSpec(root=tmp_path))
    np.testing.assert_array_equal(still.image(0), upright)


def test_maps_of_16_bits_keep_them(tmp_path):
    levels = np.linspace(0, 65535, PICTURE[0] * PICTURE[1]).astype(np.uint16).reshape(PICTURE)
    write_picture(tmp_path / "images" / "a.png")
    write_gray(tmp_path / "maps" / "a.png", levels)
    (still,) = open_dataset(DatasetSpec(root=tmp_path))
    gaze = only_gaze(still)
    np.testing.assert_array_equal(gaze.density, levels)
    assert gaze.fixations is None
