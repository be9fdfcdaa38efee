"""From recordings to batches: order, windows, views, and the sets that runs name."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import text
from stavis_tree import write_tree
from training_state import same

from avsal.datasets.stavis import StavisVideo, open_stavis
from avsal.datasets.videos import open_mapped
from avsal.errors import DataError, MediaError
from avsal.media import AudioReader
from avsal.media.frames import info_of
from avsal.models import VARIANTS
from avsal.training.batches import BatchOrder, inspect, open_sets
from avsal.training.checkpoint import identities
from avsal.training.config import AugmentSettings
from avsal.training.loop import train
from avsal.training.samples import Inputs, TrainingSamples, draw_augmentation, no_augmentation

pytestmark = pytest.mark.usefixtures("one_thread")


def inputs(height: int, width: int, **changes: object) -> Inputs:
    """What a published network of another size is given."""
    return Inputs(replace(VARIANTS["s3d-224x224"], height=height, width=width, **changes))


def test_order_of_an_epoch():
    """Every epoch shuffles anew; processes share it without overlap; a start leaves out."""
    ranks = [BatchOrder(11, 2, 7, rank, world=2) for rank in range(2)]
    seen = {key for batches in ranks for batch in batches for key in batch}
    assert len(seen) == 8
    assert {epoch for epoch, _ in seen} == {0}
    one = BatchOrder(11, 2, 7)
    first = list(one)
    one.epoch = 1
    second = list(one)
    assert [[i for _, i in batch] for batch in first] != [[i for _, i in batch] for batch in second]
    one.start = 3
    assert list(one) == second[3:]
    with pytest.raises(DataError, match="3 training samples do not fill a batch of 2"):
        BatchOrder(3, 2, 7, world=2)


def test_samples_depend_on_their_key_alone(tree):
    recordings = open_stavis(tree, ("DIEM",), "train")
    augment = AugmentSettings(flip=0.5, crop=0.4, colour=0.3)
    samples = TrainingSamples(recordings, inputs(64, 96), augment, seed=3)
    again = TrainingSamples(recordings, inputs(64, 96), augment, seed=3)
    later = again[4, 1]
    assert same(samples[2, 1], again[2, 1])
    assert not torch.equal(later["clip"], samples[2, 1]["clip"])
    assert float(later["map"].sum()) == pytest.approx(1, abs=1e-5)


def test_windows_are_those_of_the_paper(tree):
    """16 frames that end with the target, whose map is the truth; sound of 17 frames' time."""
    recording = open_stavis(tree, ("DIEM",), "train")[0]
    samples = TrainingSamples([recording], inputs(48, 64), AugmentSettings(), seed=0)
    targets = set()
    for epoch in range(12):
        sample = samples[epoch, 0]
        last = sample["clip"][:, -1].permute(1, 2, 0).numpy()
        target = next(i for i in range(18) if np.array_equal(recording.image(i), last))
        first = sample["clip"][:, 0].permute(1, 2, 0).numpy()
        assert np.array_equal(first, recording.image(target - 15))
        truth = recording.gaze(info_of(recording.frame(target), recording.origin)).density
        np.testing.assert_allclose(sample["map"].numpy(), truth / truth.sum(), atol=1e-6)
        targets.add(target)
    assert targets == {15, 16, 17}
    assert bool(sample["heard"])


@pytest.mark.parametrize("still", [False, True])
def test_views_move_the_map_with_the_picture(still):
    """A bright square in the picture and in the map stays one square in every view."""
    image = np.zeros((60, 90, 3), np.uint8)
    image[20:32, 30:48] = 255
    settings = AugmentSettings(flip=0.5, crop=0.3, pan=0.3)
    moved = 0
    for seed in range(20):
        view = draw_augmentation(settings, np.random.default_rng(seed), 16, still)
        frames = [view.frame(image, place, (60, 90)) for place in range(16)]
        saliency = view.map(image[..., 0], (60, 90))
        np.testing.assert_allclose(frames[-1][0], saliency, atol=1.0)
        moved += not np.array_equal(frames[0], frames[-1])
    assert (moved > 15) == still


def test_no_augmentation_is_the_prediction_input():
    from avsal.prediction.inputs import resize_frame

    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    view = draw_augmentation(AugmentSettings(), np.random.default_rng(1), 16, still=True)
    assert view == no_augmentation(16)
    assert np.array_equal(
        view.frame(image, 3, (64, 96)), resize_frame(image, (64, 96)).transpose(2, 0, 1)
    )


def test_colour_changes_stay_within_their_range():
    image = np.full((4, 4, 3), (100, 120, 140), np.uint8)
    view = draw_augmentation(AugmentSettings(colour=0.2), np.random.default_rng(5), 1, still=True)
    changed = view.frame(image, 0, (4, 4)).astype(float)
    assert not np.array_equal(changed, image.transpose(2, 0, 1))
    assert abs(changed.mean() - 120) <= 0.2 * 120 + 1


def test_dry_run_reports_broken_files(avsal_command, make_config, tmp_path, tiny):
    write_tree(tmp_path / "tree", ("SumMe",))
    make_config(data=tmp_path / "tree")
    config = tmp_path / "config.toml"
    code, out, _ = avsal_command("train", config, "--dry-run")
    assert code == 0
    assert "train: 2 recordings, 0 of them pictures, 2 with sound, 0 problems" in out
    assert "clip (3, 16, 32, 64) uint8" in out

    frames = tmp_path / "tree/video_frames/SumMe/clip_0"
    (frames / "img_00007.jpg").write_bytes(b"no picture")
    maps = tmp_path / "tree/annotations/SumMe/clip_1"
    (maps / "fixMap_00009.mat").unlink()
    code, out, _ = avsal_command("train", config, "--dry-run")
    assert code == 1
    assert "img_00007.jpg" in out
    assert "fixMap_00009.mat" in out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_counts_a_single_recording(avsal_command, make_config, tmp_path, tiny):
    write_tree(tmp_path / "tree", ("SumMe",))
    names = tmp_path / "names.txt"
    names.write_text("clip_0\n")
    one = f"[{{root='{tmp_path / 'tree'}', names='{names}'}}]"
    make_config(data=tmp_path / "tree")
    arguments = (tmp_path / "config.toml", "--dry-run", "--set", f"data.train={one}")
    _, out, _ = avsal_command("train", *arguments)
    assert "train: 1 recording, 0 of them pictures, 1 with sound, 0 problems" in out


def test_a_video_that_cannot_be_read_stops_a_run_before_it_begins(make_config, tmp_path):
    video = tmp_path / "videos" / "text.mp4"
    video.parent.mkdir()
    text(video)
    (tmp_path / "maps" / "text").mkdir(parents=True)
    config = make_config(f"data.train=[{{root='{video.parent}', maps='{tmp_path / 'maps'}'}}]")
    with pytest.raises(MediaError, match=r"text\.mp4"):
        train(config)
    scored = f"data.validation=[{{root='{video.parent}', maps='{tmp_path / 'maps'}'}}]"
    with pytest.raises(MediaError, match=r"text\.mp4"):
        train(make_config(scored))
    report = next(inspect(config))
    assert (report.recordings, report.stills, report.heard) == (1, 0, 0)
    assert "text.mp4" in report.problems[0]


def test_a_missing_data_set_is_named(make_config, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        train(make_config(data=tmp_path / "nowhere"))


def test_videos_with_a_teachers_maps(make_config, example_clip, tmp_path):
    """A folder of videos and of maps as `avsal predict` writes them; frames may lack one."""
    videos, maps = tmp_path / "videos", tmp_path / "maps" / example_clip.stem
    videos.mkdir()
    maps.mkdir(parents=True)
    (videos / example_clip.name).symlink_to(example_clip)
    for index in range(15, 40):
        np.save(maps / f"{index:06d}.npy", np.full((6, 8), index, np.float32) / 40)
    config = make_config(f"data.train=[{{root='{videos}', maps='{tmp_path / 'maps'}'}}]")
    (recording,) = open_sets(config.data.train, "train")
    samples = TrainingSamples([recording], inputs(64, 96), AugmentSettings(), seed=0)
    sample = samples[0, 0]
    assert sample["clip"].shape == (3, 16, 64, 96)
    assert float(sample["map"].std()) == pytest.approx(0, abs=1e-8)
    assert bool(sample["heard"])
    with pytest.raises(DataError, match="maps of"):
        open_sets(make_config(f"data.train=[{{root='{videos}', maps='{videos}'}}]").data.train, "")


def test_a_window_s_sound_is_read_without_keeping_what_comes_before(tree, monkeypatch):
    recording = open_stavis(tree, ("DIEM",), "train")[0]
    calls: list[tuple[str, int]] = []
    release, read = AudioReader.release, AudioReader.read
    monkeypatch.setattr(
        AudioReader,
        "release",
        lambda self, before: (calls.append(("release", before)), release(self, before))[1],
    )
    monkeypatch.setattr(
        AudioReader,
        "read",
        lambda self, start, end: (calls.append(("read", start)), read(self, start, end))[1],
    )
    samples = TrainingSamples([recording], inputs(48, 64), AugmentSettings(), seed=0)
    starts = set()
    for epoch in range(8):
        calls.clear()
        assert samples[epoch, 0]["heard"]
        (released, before), (asked, start) = calls
        assert (released, asked, before) == ("release", "read", start)
        starts.add(start)
    assert len(starts) > 1


def test_only_the_frames_that_the_network_sees_are_decoded(tree, monkeypatch):
    recording = open_stavis(tree, ("DIEM",), "train")[0]
    decoded: list[int] = []
    image = StavisVideo.image
    monkeypatch.setattr(
        StavisVideo, "image", lambda self, index: (decoded.append(index), image(self, index))[1]
    )
    in_time = inputs(48, 64, frames=4, spacing="0.3")
    samples = TrainingSamples([recording], in_time, AugmentSettings(), seed=0)
    assert samples[0, 0]["clip"].shape == (3, 4, 48, 64)
    target = max(decoded)
    assert sorted(decoded) == [target - 9, target - 6, target - 3, target]
    decoded.clear()
    alone = replace(inputs(48, 64), alone=True)
    assert (
        TrainingSamples([recording], alone, AugmentSettings(), seed=0)[0, 0]["clip"].shape[1] == 1
    )
    assert len(decoded) == 1


def test_maps_of_the_format_video_cannot_be_trained_on(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "maps" / "film").mkdir(parents=True)
    (tmp_path / "videos" / "film.mp4").write_bytes(b"video")
    for name in ("saliency.mp4", "saliency.json"):
        (tmp_path / "maps" / "film" / name).touch()
    with pytest.raises(DataError, match=r"maps.film: holds no map .* --format png or npy"):
        open_mapped(tmp_path / "videos", tmp_path / "maps")


def test_maps_of_videos_that_differ_in_their_suffix(tmp_path):
    """Results of `avsal predict` have the suffix in their names, too, if they need it."""
    (tmp_path / "videos").mkdir()
    for name in ("film.mov", "film.mp4", "talk.mp4"):
        (tmp_path / "videos" / name).touch()
    for name in ("film.mov", "film", "talk"):
        (tmp_path / "maps" / name).mkdir(parents=True)
    found = open_mapped(tmp_path / "videos", tmp_path / "maps")
    pairs = [(each.name, each.path.name, each.maps.name) for each in found]
    assert pairs == [
        ("film.mov", "film.mov", "film.mov"),
        ("film", "film.mp4", "film"),
        ("talk", "talk.mp4", "talk"),
    ]
    (tmp_path / "maps" / "film.mov").rmdir()
    with pytest.raises(DataError, match=r"film: may hold the maps of film\.mov or of film\.mp4"):
        open_mapped(tmp_path / "videos", tmp_path / "maps")


def test_data_with_file_names_of_any_bytes_can_be_told_apart(tmp_path):
    videos, maps = tmp_path / "videos", tmp_path / "maps" / "film"
    videos.mkdir()
    maps.mkdir(parents=True)
    (videos / "film.mp4").write_bytes(b"video")
    before = identities(open_mapped(videos, maps.parent))
    try:
        (maps / os.fsdecode(b"\xff.npy")).touch()
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    after = identities(open_mapped(videos, maps.parent))
    assert [name for name, _digest in after] == ["videos/film"]
    assert after != before
