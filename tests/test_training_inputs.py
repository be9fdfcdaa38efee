"""What the default network learns from and is validated on is what prediction gives it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import film

from avsal.datasets.recording import Recording
from avsal.datasets.stills import open_stills
from avsal.datasets.videos import open_videos
from avsal.media.audio import AudioReader
from avsal.media.video import VideoReader
from avsal.models import VARIANTS
from avsal.prediction.frames import FrameCache, WindowInput, read_ahead
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import MapSize, PredictSettings
from avsal.prediction.torch_engine import TorchEngine
from avsal.training.config import AugmentSettings, LossSettings
from avsal.training.engine import Engine
from avsal.training.objectives import AudioVisual
from avsal.training.samples import Inputs, TrainingSamples, collated, no_augmentation
from avsal.training.validation import network_maps, validate

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = replace(VARIANTS["small-224x384"], height=160, width=192)
PLACES = (0.0, 0.13, 0.5, 0.99)


@pytest.fixture(scope="module")
def recording(example_clip, tmp_path_factory) -> Recording:
    """A video with gaze in every frame."""
    table = tmp_path_factory.mktemp("gaze") / "gaze.csv"
    rows = (f"{number / 25},0.4,0.5\n{number / 25},0.6,0.3\n" for number in range(150))
    table.write_text("time,x,y\n" + "".join(rows))
    return open_videos(example_clip, table)[0]


@pytest.fixture(scope="module")
def objective() -> AudioVisual:
    torch.manual_seed(3)
    objective = AudioVisual(SMALL, ("image", "audio"), LossSettings())
    with torch.no_grad():  # untrained maps are nearly flat
        objective.network.decoder.score.weight.mul_(30)
    return objective


def predicted_windows(path: Path) -> dict[int, WindowInput]:
    """What prediction gives the network, by target."""
    settings = PredictSettings(stride=SMALL.stride)
    with Engine("cpu") as engine:
        network = AudioVisual(SMALL, (), LossSettings()).network
        predictor = Predictor(SMALL, TorchEngine(network, engine.device, engine.precision))
    rule = predictor.rule(settings)
    with VideoReader(path) as video, AudioReader(path, video.origin) as audio:
        resize = predictor.resizing(video.info.height, video.info.width, video.info.sample_aspect)
        frames = read_ahead(video, video.origin, resize, 8)
        return {
            given.info.index: given for given in FrameCache(settings, rule, audio).windows(frames)
        }


def test_a_sample_is_what_prediction_sees_and_hears(recording, example_clip):
    inputs, windows = Inputs(SMALL), predicted_windows(example_clip)
    for place in PLACES:
        clip = recording.clip(place, inputs.rule)
        wanted = windows[clip.window.target]
        assert clip.window == wanted.window
        sample = inputs.sample(
            recording, clip, np.ones((4, 4), np.float32), no_augmentation(inputs.frames)
        )
        pixels = torch.from_numpy(np.stack([frame.pixels for frame in wanted.frames])).permute(
            3, 0, 1, 2
        )
        assert torch.equal(sample["clip"], pixels)
        assert sample["map"].shape == pixels.shape[-2:]
        assert np.array_equal(sample["spectrogram"].numpy(), wanted.spectrogram)


@pytest.mark.parametrize("rate", [12, 50])
def test_frames_have_the_same_distance_in_time_at_every_rate(tmp_path, rate):
    path = tmp_path / "v.mp4"
    film(path, 2.0, rate)
    table = tmp_path / "gaze.csv"
    table.write_text("time,x,y\n0,0.5,0.5\n")
    (recording,) = open_videos(path, table)
    clip = recording.clip(0.9, Inputs(SMALL).rule)
    times = [float(clip.time(index)) for index in clip.window.frames]
    np.testing.assert_allclose(np.diff(times), 0.16, atol=0.05)


@pytest.mark.slow
def test_validation_scores_the_maps_of_prediction(recording, objective, example_clip):
    """Smoothed over time, as `avsal predict` has them."""
    with Engine("cpu") as engine:
        before = {name: each.clone() for name, each in objective.state_dict().items()}
        maps = network_maps(objective, engine)
        found = [maps(recording, place) for place in PLACES]
        after = objective.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        settings = PredictSettings(size=MapSize("model"))
        network = AudioVisual(SMALL, (), LossSettings()).network
        network.load_state_dict(objective.network.state_dict(), strict=False)
        predictor = Predictor(SMALL, TorchEngine(network, engine.device, engine.precision))
        whole = {f.info.index: f.density for f in predictor.predict(example_clip, settings)}
    for tag, density in found:
        assert density.shape == whole[tag.index].shape
        np.testing.assert_allclose(density, whole[tag.index], rtol=1e-3, atol=1e-9)


def test_validation_listens_after_every_frame(recording, objective):
    class StoppedError(Exception):
        pass

    heard = []

    def between() -> None:
        heard.append(True)
        if len(heard) == 2:
            raise StoppedError

    with Engine("cpu") as engine, pytest.raises(StoppedError):
        validate(objective, [recording, recording], 3, engine, between)


def test_pictures_of_several_shapes_are_several_parts_of_a_batch(image_set, recording):
    stills, inputs = open_stills(image_set), Inputs(VARIANTS["small-224x384"])
    samples = TrainingSamples([stills[0], recording, stills[1]], inputs, AugmentSettings(), 0)
    parts = collated([samples[0, index] for index in range(3)])
    assert [len(part["map"]) for part in parts] == [2, 1]
    assert parts[0]["clip"].shape[3:] != parts[1]["clip"].shape[3:]
