"""Data sets of video files with tables of gaze."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avsal.datasets import DatasetSpec, Points, open_dataset
from avsal.errors import DataError
from avsal.prediction.windows import FrameRule, window_for


def write_gaze(path: Path, rows: list[str], header: str = "time,x,y,observer") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_gaze_on_a_video(example_clip, tmp_path):
    rows = ["0.5,320,90,anna", "0.51,80,45,ben", "1.9,10,10,anna", "0.505,,,ben"]
    table = write_gaze(tmp_path / "gaze.csv", rows)
    (video,) = open_dataset(DatasetSpec(root=example_clip, fixations=table, degree=12.0))
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


def test_a_list_may_name_videos_without_their_suffix(example_clip, tmp_path):
    table = write_gaze(tmp_path / "gaze.csv", ["0.5,320,90,anna"])
    (tmp_path / "list.txt").write_text(f"{example_clip.stem}\n")
    spec = DatasetSpec(root=example_clip, fixations=table)
    assert len(open_dataset(spec.model_copy(update={"names": tmp_path / "list.txt"}))) == 1
    assert open_dataset(spec.model_copy(update={"without": tmp_path / "list.txt"})) == []


def test_a_video_that_is_not_there_is_named(tmp_path):
    table = write_gaze(tmp_path / "gaze.csv", ["a.mp4,0.5,320,90"], "video,time,x,y")
    with pytest.raises(DataError, match="absent: no such file or folder"):
        open_dataset(DatasetSpec(root=tmp_path / "absent", fixations=table))


def test_fractions_semicolons_and_durations(example_clip, tmp_path):
    table = write_gaze(tmp_path / "g.csv", ["0.2;0.5;0.25;0.3"], "Time;X;Y;duration")
    (video,) = open_dataset(DatasetSpec(root=example_clip, fixations=table))
    watched = [float(tag.time) for tag in video.tags() if video.gaze(tag) is not None]
    step = 1 / float(video.info.rate)
    assert 0.2 - step < watched[0] <= 0.2
    assert 0.5 - step < watched[-1] <= 0.5


def test_clip_of_a_video_file(example_clip, tmp_path):
    table = write_gaze(tmp_path / "g.csv", ["0.2,0.5,0.25"], "time,x,y")
    (video,) = open_dataset(DatasetSpec(root=example_clip, fixations=table))
    count = sum(1 for _ in video.tags())
    for place in (0.0, 0.5, 1.0):
        clip = video.clip(place, FrameRule(1))
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
        open_dataset(DatasetSpec(root=example_clip, fixations=table))


def test_table_of_several_videos(example_clip, tmp_path):
    (tmp_path / "a.mp4").write_bytes(example_clip.read_bytes())
    rows = ["a.mp4,0.1,0.2,0.3", "b.mp4,0.1,0.2,0.3"]
    table = write_gaze(tmp_path / "gaze.csv", rows, "video,time,x,y")
    with pytest.raises(DataError, match=r"b\.mp4: missing"):
        open_dataset(DatasetSpec(root=tmp_path, fixations=table))
    (tmp_path / "b.mp4").write_bytes(example_clip.read_bytes())
    assert [v.name for v in open_dataset(DatasetSpec(root=tmp_path, fixations=table))] == [
        "a.mp4",
        "b.mp4",
    ]
