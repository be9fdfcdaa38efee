"""A video predicted in stretches has the result of one predicted whole, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import samples

from avsal import media
from avsal.errors import MediaError
from avsal.prediction.model import load_model
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results import jobs
from avsal.results.folder import read_result
from avsal.results.jobs import MapJob, Stretch


@pytest.fixture
def predictor(tiny, tiny_weights, one_thread):
    return load_model(tiny, tiny_weights, "cpu", "fp32")


def whole(predictor, source, folder, settings, output):
    prediction = predictor.predict(source, settings)
    MapJob(predictor, settings, output).write(prediction, folder)


def in_stretches(predictor, source, folder, settings, output, length):
    job = MapJob(predictor, settings, output)
    parts = job.stretches(source, length)
    folder.mkdir()
    counts = [job.predict_stretch(source, part, folder, folder) for part in reversed(parts)]
    assert counts[::-1] == [part.maps for part in parts]
    assert jobs.put_together(folder, parts) == sum(counts)
    return len(parts)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return samples.film(tmp_path_factory.mktemp("clip") / "a.mp4")  # 50 frames, sound


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (PredictSettings(batch=4), 4),
        (PredictSettings(batch=3, stride=2, start=0.5, end=1.7), 2),
    ],
)
def test_the_result_is_that_of_the_whole(predictor, tmp_path, clip, settings, count):
    output = OutputSettings("npy")
    whole(predictor, clip, tmp_path / "whole", settings, output)
    parts = in_stretches(predictor, clip, tmp_path / "parts", settings, output, 12)
    assert parts == count
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("batch", "stride"), [(2, 1), (3, 2), pytest.param(4, 1, marks=pytest.mark.slow)]
)
def test_smoothed_maps_are_those_of_the_whole(predictor, tmp_path, batch, stride):
    """The maps before and after a stretch, which its own are smoothed with, are whole batches."""
    clip = samples.film(tmp_path / "a.mp4", seconds=1.2)  # 30 frames
    constants = {"smoothing": "0.1", "smoothing_ahead": "0.07"}
    predictor.variant = replace(predictor.variant, spacing="0.04", **constants)
    settings, output = PredictSettings(batch=batch, stride=stride), OutputSettings("npy")
    whole(predictor, clip, tmp_path / "whole", settings, output)
    parts = in_stretches(predictor, clip, tmp_path / "parts", settings, output, 12)
    assert parts >= 2
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    predictor.variant = replace(predictor.variant, smoothing_ahead=None)
    whole(predictor, clip, tmp_path / "rough", settings, output)
    assert contents(tmp_path / "rough") != contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [None, "0.1"])
def test_shots_are_those_of_the_whole(predictor, tmp_path, ahead):
    """Cuts before, at and after the ends of stretches, two of them too close to be two."""
    if ahead:
        constants = {"smoothing": "0.1", "smoothing_ahead": ahead}
        predictor.variant = replace(predictor.variant, spacing="0.04", **constants)
    random = np.random.default_rng(0)
    images, cuts = [], (0, 11, 24, 27, 37, 48, 60)
    for first, after in pairwise(cuts):
        scene = np.kron(random.integers(0, 255, (3, 4, 3), np.uint8), np.ones((16, 16, 1), "u1"))
        images += [scene] * (after - first)
    source = samples.write(tmp_path / "cuts.mp4", samples.Pictures(images))
    settings, output = PredictSettings(batch=4), OutputSettings("npy")
    whole(predictor, source, tmp_path / "whole", settings, output)
    in_stretches(predictor, source, tmp_path / "parts", settings, output, 12)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    shots = read_result(tmp_path / "whole").shots()
    assert [shot.first for shot in shots] == [0, 11, 24, 37, 48]
    assert [shot.last for shot in shots] == [10, 23, 36, 47, 59]
    assert shots[1].start == Fraction(11, 25)
    assert shots[-1].end == Fraction(60, 25)


def test_every_frame_has_a_map_where_times_vary(predictor, tmp_path):
    steps = (k * Fraction(1 + k % 3, 50) for k in range(30))
    source = samples.variable_rate(tmp_path / "a.mp4", sorted(set(steps)))
    settings, output = PredictSettings(), OutputSettings("npy")
    frames = media.probe(source).frames
    folder = tmp_path / "parts"
    folder.mkdir()
    job = MapJob(predictor, settings, output)
    parts = job.stretches(source, 8)
    assert len(parts) > 1
    for part in parts:
        job.predict_stretch(source, part, folder, folder)
    assert jobs.put_together(folder, parts) == frames
    assert len(list(folder.glob("*.npy"))) == frames


def test_maps_that_need_each_other_stay_together(predictor, clip):
    outputs = (OutputSettings("png", "clip"), *map(OutputSettings, ("video", "csv", "parquet")))
    for output in outputs:
        assert len(MapJob(predictor, PredictSettings(), output).stretches(clip, 10)) == 1


def test_stretches_begin_with_a_batch_and_cover_every_frame_once():
    info = SimpleNamespace(rate=Fraction(30000, 1001))
    settings = PredictSettings(start=0.5)  # frame 15
    parts = jobs._stretches(info, settings, maps=1000, length=96, stride=2)
    assert (parts[0].start, parts[-1].stop) == (None, None)
    assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert sum(part.maps for part in parts) == 1000
    for place, part in enumerate(parts[1:], 1):
        assert round(part.start * float(info.rate) + 0.5, 6) == 14 + 96 * place


def test_stretches_that_do_not_join_are_refused(predictor, tmp_path, clip):
    job = MapJob(predictor, PredictSettings(), OutputSettings("npy"))
    parts = [Stretch(0, None, 0.1), Stretch(1, 0.2, 0.3)]
    for part in parts:
        job.predict_stretch(clip, part, tmp_path, tmp_path)
    with pytest.raises(MediaError, match="frame 5 follows frame 2"):
        jobs.put_together(tmp_path, parts)


def test_stretches_of_machines_that_compute_differently_do_not_join(predictor, tmp_path, clip):
    job = MapJob(predictor, PredictSettings(), OutputSettings("npy"))
    parts = [Stretch(0, None, 0.1), Stretch(1, 0.1, 0.2)]
    for part in parts:
        job.predict_stretch(clip, part, tmp_path, tmp_path)
    last = max(tmp_path.glob(".stretch-*"))
    last.write_text(last.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    with pytest.raises(MediaError, match="predicted in different ways by different machines"):
        jobs.put_together(tmp_path, parts)


def test_a_wrong_header_gives_a_stretch_without_frames(predictor, tmp_path, clip):
    beyond, job = Stretch(1, 7.0, None), MapJob(predictor, PredictSettings(), OutputSettings())
    with pytest.raises(MediaError, match="no frame at or after"):
        job.predict_stretch(clip, beyond, tmp_path, tmp_path)
