"""Many files in a row: still images together, everything in order, failures in their place."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import samples

from avsal.errors import MediaError, UsageError
from avsal.prediction.model import load_model, predict_files
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results import jobs


@pytest.fixture
def predictor(tiny, tiny_weights):
    return load_model(tiny, tiny_weights, "cpu", "fp32")


@pytest.fixture
def folder(tmp_path):
    """Five pictures of several sizes, a video among them, and a file that is none."""
    for number, size in enumerate([(64, 48), (96, 64), (64, 48), (40, 80), (64, 48)]):
        samples.still(tmp_path / f"{number}.png", samples.numbered(40 * number, *size))
    samples.constant_rate(tmp_path / "2.mp4", frames=20)
    samples.text(tmp_path / "3.jpg")
    return tmp_path


def test_every_file_gets_what_it_gets_alone_in_order(predictor, folder):
    sources = sorted(folder.iterdir())
    given = []
    for source, prediction in predict_files(predictor, sources, PredictSettings(batch=3)):
        given.append(source)
        if source.name == "3.jpg":
            assert isinstance(prediction, MediaError)
            continue
        alone = predictor.predict(source)
        assert prediction.info == alone.info
        for one, other in zip(prediction, alone, strict=True):
            assert one.info == other.info
            assert np.abs(one.log_density - other.log_density).max() < 1e-4
            assert one.density.shape == other.density.shape
    assert given == sources


def test_a_file_that_is_replaced_while_it_waits_is_not_current(predictor, tmp_path):
    sources = [samples.still(tmp_path / f"{number}.png") for number in range(4)]
    settings = PredictSettings(batch=1)
    job = jobs.MapJob(predictor, settings, OutputSettings("npy"))
    for number, (source, prediction) in enumerate(predict_files(predictor, sources, settings)):
        if number == 0:  # the others have been read ahead
            samples.still(sources[1], samples.numbered(200, 96, 64))
        out = tmp_path / "out" / source.stem
        job.write(prediction, out)
    current = [job.is_current(tmp_path / "out" / source.stem, source) for source in sources]
    assert current == [True, False, True, True]


def test_still_images_go_through_the_network_together(predictor, folder, monkeypatch):
    network = predictor.engine.network
    forward, batches = network.forward_with_features, []
    monkeypatch.setattr(
        network,
        "forward_with_features",
        lambda clip, *rest: batches.append(len(clip)) or forward(clip, *rest),
    )
    pictures = sorted(folder.glob("*.png"))
    found = predict_files(predictor, pictures, PredictSettings(batch=3))
    assert sum(len(list(prediction)) for _, prediction in found) == 5
    assert batches == [3, 2]


def test_a_network_that_fails_fails_every_image_of_its_batch(predictor, folder, monkeypatch):
    def fail(*_inputs):
        raise UsageError("no memory")

    monkeypatch.setattr(predictor.engine.network, "forward_with_features", fail)
    pictures = sorted(folder.glob("*.png"))
    assert {str(error) for _, error in predict_files(predictor, pictures)} == {"no memory"}


def test_a_start_past_a_still_image_is_told_for_each(predictor, folder):
    pictures = sorted(folder.glob("*.png"))
    for _, prediction in predict_files(predictor, pictures, PredictSettings(start=1.0)):
        with pytest.raises(MediaError, match="no frame at or after"):
            next(prediction)


def test_leaving_early_stops_the_reading_thread(predictor, folder):
    found = predict_files(predictor, sorted(folder.iterdir()))
    next(found)
    found.close()
    assert not [t for t in threading.enumerate() if t.name == "avsal-producer"]
