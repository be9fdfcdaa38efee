"""Data sets of video files with tables of gaze, and packed files."""

from __future__ import annotations

import pickle
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import stavis_tree

from avsal.datasets import DatasetSpec, Points, open_dataset, tag_of
from avsal.datasets.packing import Packing, pack
from avsal.errors import DataError
from avsal.preprocess.rules import FrameRule
from avsal.preprocess.windows import window_for

SIZE = (stavis_tree.HEIGHT, stavis_tree.WIDTH)


def write_gaze(path: Path, rows: list[str], header: str = "time,x,y,observer") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_gaze_on_a_video(example_clip, tmp_path):
    rows = ["0.5,320,90,anna", "0.51,80,45,ben", "1.9,10,10,anna", "0.505,,,ben"]
    table = write_gaze(tmp_path / "gaze.csv", rows)
    (video,) = open_dataset(DatasetSpec(example_clip, fixations=table, degree=12.0))
    tag = next(tag for tag in video.tags() if tag.time <= Fraction(1, 2) < tag.time + tag.duration)
    gaze = video.gaze(tag)
    places = np.array([[320, 90], [80, 45]]) / (tag.width, tag.height)
    expected = Points.inside(places)
    np.testing.assert_array_equal(gaze.fixations, expected.mask((tag.height, tag.width)))
    np.testing.assert_allclose(
        gaze.density, expected.density((tag.height, tag.width), 12 / tag.width), atol=1e-6
    )
    assert gaze.points.observers.tolist() == [0, 1]
    assert video.gaze(next(video.tags())) is None
    assert video.others((tag.height, tag.width)).sum() == 3


def test_fractions_semicolons_and_durations(example_clip, tmp_path):
    table = write_gaze(tmp_path / "g.csv", ["0.2;0.5;0.25;0.3"], "Time;X;Y;duration")
    (video,) = open_dataset(DatasetSpec(example_clip, fixations=table))
    watched = [float(tag.time) for tag in video.tags() if video.gaze(tag) is not None]
    step = 1 / float(video.info.rate)
    assert 0.2 - step < watched[0] <= 0.2
    assert 0.5 - step < watched[-1] <= 0.5


def test_clip_of_a_video_file(example_clip, tmp_path):
    table = write_gaze(tmp_path / "g.csv", ["0.2,0.5,0.25"], "time,x,y")
    (video,) = open_dataset(DatasetSpec(example_clip, fixations=table))
    count = sum(1 for _ in video.tags())
    for place in (0.0, 0.5, 1.0):
        clip = video.clip(place, FrameRule(16, 1))
        target = clip.window.target
        assert clip.window == window_for(target)
        assert sorted(set(clip.window.frames)) == list(range(target - 15, target + 1))
        assert abs(target - (15 + place * (count - 16))) <= 1
    with video.sound() as sound:
        assert sound.read(0, 1600).size == 1600


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["1,2"], "time,x", "missing y"),
        (["1,2,left"], "time,x,y", "csv:2: '1,2,left' is not a row of numbers"),
        ([], "time,x,y", "no rows"),
    ],
)
def test_malformed_tables(example_clip, tmp_path, rows, header, message):
    table = write_gaze(tmp_path / "gaze.csv", rows, header)
    with pytest.raises(DataError, match=message):
        open_dataset(DatasetSpec(example_clip, fixations=table))


def test_table_of_several_videos(example_clip, tmp_path):
    (tmp_path / "a.mp4").write_bytes(example_clip.read_bytes())
    rows = ["a.mp4,0.1,0.2,0.3", "b.mp4,0.1,0.2,0.3"]
    table = write_gaze(tmp_path / "gaze.csv", rows, "video,time,x,y")
    with pytest.raises(DataError, match=r"b\.mp4: missing"):
        open_dataset(DatasetSpec(tmp_path, fixations=table))
    (tmp_path / "b.mp4").write_bytes(example_clip.read_bytes())
    assert [v.name for v in open_dataset(DatasetSpec(tmp_path, fixations=table))] == [
        "a.mp4",
        "b.mp4",
    ]


def test_packed_holds_everything(tree, tmp_path):
    originals = open_dataset(DatasetSpec(tree, ("SumMe",)))
    path = tmp_path / "small.npz"
    pack(originals, path, SIZE, SIZE)
    packed = open_dataset(DatasetSpec(path))
    assert [(p.name, p.database, p.rate) for p in packed] == [
        (o.name, o.database, o.rate) for o in originals
    ]
    for before, after in zip(originals, packed, strict=True):
        for first, second in zip(before.frames(), after.frames(), strict=True):
            assert np.abs(first.image.astype(int) - second.image).mean() < 4  # JPEG twice
            tag = tag_of(first, Fraction(0))
            wanted, found = before.gaze(tag), after.gaze(tag)
            assert (wanted is None) == (found is None)
            if wanted is not None:
                np.testing.assert_array_equal(found.fixations, wanted.fixations)
                scaled = wanted.density / wanted.density.max()
                np.testing.assert_allclose(found.density / 255**2, scaled, atol=0.005)
        np.testing.assert_array_equal(after.others(SIZE), before.others(SIZE))
        with before.sound() as sound, after.sound() as small:
            np.testing.assert_allclose(small.read(0, 9000), sound.read(0, 9000), atol=2**-15)


def test_packed_sound_is_converted_where_it_is_read(tree, tmp_path):
    """A sample of training wants a second of it, whatever the recording's length."""
    path = tmp_path / "long.npz"
    pack(open_dataset(DatasetSpec(tree, ("SumMe",)))[:1], path, SIZE, SIZE)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["samples"] = np.arange(5_000_000).astype(np.int16)
    arrays["sample_ends"] = np.array([5_000_000])
    np.savez(path, **arrays)
    (recording,) = open_dataset(DatasetSpec(path))
    tracemalloc.start()
    with recording.sound() as sound:
        read = sound.read(4_000_000, 4_016_000)
    assert recording.has_sound
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000
    np.testing.assert_array_equal(read, arrays["samples"][4_000_000:4_016_000] / 2**15)


def test_packed_teacher_and_travel(tree, tmp_path):
    """A teacher's maps take the place of recorded gaze; other processes load the file again."""
    (video,) = open_dataset(DatasetSpec(tree, ("DIEM",)))[:1]
    packing = Packing(size=(32, 48), map_size=(8, 12))
    teacher = np.linspace(0, 3, 96, dtype=np.float32).reshape(8, 12)
    packing.add(video, lambda recording: ((tag, teacher) for tag in list(recording.tags())[5:]))
    path = tmp_path / "teacher.npz"
    packing.write(path)
    (packed,) = pickle.loads(pickle.dumps(open_dataset(DatasetSpec(path))))
    tags = list(packed.tags())
    assert (tags[0].height, tags[0].width) == (32, 48)
    gaze = packed.gaze(tags[7])
    np.testing.assert_allclose(gaze.density / gaze.density.max(), teacher / 3, atol=0.005)
    assert gaze.fixations is not None
    without_map = packed.gaze(tags[3])  # the fixations are still there
    assert without_map.size == (32, 48)


def test_not_a_packed_file(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, names=["a"])
    with pytest.raises(DataError, match="no packed data set"):
        open_dataset(DatasetSpec(path))
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match="no packed data set"):
        open_dataset(DatasetSpec(path))
