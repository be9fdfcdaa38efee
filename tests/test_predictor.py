"""Video in, maps out: every frame once, whatever the stride, batch or part asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import copies
import numpy as np
import pytest
import samples
import torch

from avsal import models
from avsal.errors import MediaError, UsageError, WeightsError
from avsal.media import AudioReader, VideoFrame, VideoReader
from avsal.models.network import normalise
from avsal.prediction.inputs import log_spectrogram, resize_frame
from avsal.prediction.model import load_model
from avsal.prediction.settings import MapSize, PredictSettings
from avsal.prediction.shots import difference, thumbnail
from avsal.prediction.torch_engine import TorchEngine
from avsal.prediction.windows import FrameRule, window_for
from avsal.weights import load_weights


@pytest.fixture
def predictor(tiny, tiny_weights):
    return load_model(tiny, tiny_weights, "cpu", "fp32")


def maps(predictor, source, size="model", **settings):
    return list(predictor.predict(source, size=size, **settings))


def slow_way(tiny, weights, frames, sound, targets):
    """The oracle: single windows on the unprepared network; no sharing, threads or batches."""
    network = models.build(tiny).eval()
    network.load_state_dict(load_weights(tiny, weights).state)
    for target in targets:
        window = window_for(target)
        pixels = torch.from_numpy(np.stack([frames[i] for i in window.frames]))
        clip = normalise(pixels.permute(0, 3, 1, 2)).transpose(0, 1)[None]
        start, end = FrameRule(1).sound(window, 32, lambda index: Fraction(index, 25))
        spectrogram = log_spectrogram(sound[start:end], window.reverse)
        with torch.inference_mode():
            yield target, network(clip, torch.from_numpy(spectrogram)[None])[0].numpy()


@pytest.mark.parametrize("with_sound", [True, False])
def test_each_map_is_the_network_s_answer_to_its_window(
    predictor, tiny, tiny_weights, example_clip, with_sound
):
    sound = np.zeros(0, np.float32)
    with VideoReader(example_clip) as video:
        frames = [resize_frame(frame.image, predictor.size) for frame in video]
        if with_sound:
            with AudioReader(example_clip, video.origin) as audio:
                sound = audio.read(0, 16_000 * 10)
    with VideoReader(example_clip) as video, AudioReader(example_clip, video.origin) as audio:
        given = audio if with_sound else None
        settings = PredictSettings(end=1.3, size=MapSize.parse("model"))
        maps = predictor.predict_frames(video, given, settings)
        found = {frame.index: frame for frame in maps}
    for target, expected in slow_way(tiny, tiny_weights, frames, sound, (0, 14, 15, 31)):
        assert np.abs(found[target].log_density - expected).max() < 1e-4, target


def test_the_sound_changes_the_maps(predictor, example_clip):
    heard = next(iter(predictor.predict(example_clip)))
    with VideoReader(example_clip) as video:
        deaf = next(iter(predictor.predict_frames(video)))
    assert np.abs(heard.log_density - deaf.log_density).max() > 1e-2


def test_every_frame_has_a_normalised_density_at_display_size(predictor, example_clip):
    found = maps(predictor, example_clip, end=0.8, size="video")
    assert [frame.index for frame in found] == list(range(20))
    for frame in found:
        assert frame.density.shape == (360, 640)
        assert frame.density.sum() == pytest.approx(1, abs=1e-4)
        assert (frame.saliency.min(), frame.saliency.max()) == (0, 1)
        assert np.exp(frame.log_density).sum() == pytest.approx(1, abs=1e-4)
        assert frame.time == pytest.approx(frame.index / 25)


def test_batches_change_nothing(predictor, example_clip):
    single = maps(predictor, example_clip, end=0.8, batch=1)
    for batch in (2, 5, 64):
        batched = maps(predictor, example_clip, end=0.8, batch=batch)
        for one, other in zip(single, batched, strict=True):
            assert np.abs(one.log_density - other.log_density).max() < 1e-4, batch


def test_a_part_has_the_maps_of_the_whole(predictor, example_clip):
    whole = {frame.index: frame for frame in maps(predictor, example_clip, end=1.6)}
    part = maps(predictor, example_clip, start=1.2, end=1.5)
    assert [frame.index for frame in part] == list(range(30, 38))
    for frame in part:
        assert frame.pts == whole[frame.index].pts
        assert np.abs(frame.log_density - whole[frame.index].log_density).max() < 1e-3


def test_stride_predicts_its_frames_and_interpolates_the_others(predictor, example_clip):
    every = maps(predictor, example_clip, end=1.0)
    strided = maps(predictor, example_clip, end=1.0, stride=4)
    assert [frame.index for frame in strided] == [frame.index for frame in every]
    for index in (0, 4, 20, 24):
        assert np.abs(strided[index].log_density - every[index].log_density).max() < 1e-4
    middle = (strided[4].log_density + strided[8].log_density) / 2
    middle -= np.log(np.exp(middle.astype(np.float64)).sum())
    assert np.abs(strided[6].log_density - middle).max() < 1e-4


def test_no_map_is_mixed_across_a_cut(predictor):
    def frames():
        for index in range(12):
            image = np.full((48, 64, 3), 40 if index < 6 else 200, np.uint8)
            image[10:20, 5:15] = 255 - image[0, 0]
            yield VideoFrame(index, Fraction(index, 25), Fraction(1, 25), image)

    found = list(predictor.predict_frames(frames(), None, PredictSettings(stride=4)))
    maps = [frame.log_density for frame in found]
    assert np.abs(maps[5] - maps[4]).max() < 1e-5
    assert np.abs(maps[6] - maps[8]).max() < 1e-5
    assert np.abs(maps[7] - maps[8]).max() < 1e-5


def chequered(cut: int, count: int) -> list[np.ndarray]:
    """Fields of two colours that change places at a cut, which coarse mean colours cannot tell."""
    fields = np.indices((16, 24)).sum(axis=0) % 2
    colours = np.array([[200, 40, 40], [40, 60, 200]], np.uint8)
    scenes = (np.kron(colours[each], np.ones((4, 4, 1), np.uint8)) for each in (fields, 1 - fields))
    before, after = scenes
    return [before if index < cut else after for index in range(count)]


@pytest.mark.parametrize("cut", [9, 11, 13])
def test_no_map_is_mixed_across_a_cut_between_scenes_of_like_colours(predictor, cut):
    images = chequered(cut, 24)
    small = [thumbnail(image) for image in images]
    assert difference(small[cut - 1], small[cut]) < 1
    frames = [
        VideoFrame(i, Fraction(i, 25), Fraction(1, 25), image) for i, image in enumerate(images)
    ]
    found = list(predictor.predict_frames(frames, None, PredictSettings(stride=4)))
    maps = [frame.log_density for frame in found]
    before = cut - cut % 4
    for index in range(before + 1, before + 4):
        own = before if index < cut else before + 4
        assert np.abs(maps[index] - maps[own]).max() < 1e-5


def test_a_part_at_a_stride_has_the_maps_of_the_whole(predictor, example_clip):
    """Also the interpolated ones at its ends: the network runs on the same frames."""
    whole = {frame.index: frame for frame in maps(predictor, example_clip, end=2.4, stride=4)}
    part = maps(predictor, example_clip, start=1.2, end=1.9, stride=4)
    assert [frame.index for frame in part] == list(range(30, 48))
    for frame in part:
        assert np.abs(frame.log_density - whole[frame.index].log_density).max() < 1e-4


def test_what_is_known_before_the_first_map(predictor, example_clip):
    with predictor.predict(example_clip, start=1.0, end=1.4) as prediction:
        assert (prediction.info.width, prediction.info.height) == (640, 360)
        assert prediction.total == 10
        assert len(list(prediction)) == prediction.total


@pytest.mark.parametrize(("start", "end"), [(None, 0.4), (5.2, 5.6)])
def test_a_file_is_opened_once_for_its_pictures_and_once_for_its_sound(
    predictor, example_clip, monkeypatch, start, end
):
    import av

    opened, open_file = [], av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(a) or open_file(*a, **k))
    maps(predictor, example_clip, start=start, end=end)
    assert len(opened) == 2


@pytest.mark.parametrize("begun", [False, True])
def test_closing_early_closes_the_file(predictor, example_clip, begun, monkeypatch):
    closed = []
    close = VideoReader.close
    monkeypatch.setattr(VideoReader, "close", lambda self: closed.append(self) or close(self))
    prediction = predictor.predict(example_clip)
    if begun:
        next(prediction)
    prediction.close()
    assert closed


@pytest.mark.parametrize("numbers", [(1, 2), (0, 1, 3)])
def test_frames_are_numbered_from_0_without_a_gap(predictor, numbers):
    images = [(index, samples.numbered(index)) for index in numbers]
    frames = [VideoFrame(i, Fraction(i, 25), Fraction(1, 25), image) for i, image in images]
    with pytest.raises(UsageError, match="frame"):
        list(predictor.predict_frames(frames))


def test_sizes(predictor, example_clip):
    for text, shape in (("video", (360, 640)), ("model", (32, 64)), ("50x30", (30, 50))):
        size = MapSize.parse(text)
        (frame,) = maps(predictor, example_clip, end=0.01, size=size)
        assert frame.density.shape == shape


def test_leaving_early_stops_the_reading_thread(predictor, example_clip):
    import threading

    frames = predictor.predict(example_clip)
    next(frames)
    frames.close()
    assert not [t for t in threading.enumerate() if t.name == "avsal-producer"]


def test_a_start_behind_the_end_is_told(predictor, example_clip):
    with pytest.raises(MediaError, match="no frame at or after 60"):
        maps(predictor, example_clip, start=60.0)
    frames = [samples.numbered(index) for index in range(5)]
    with pytest.raises(UsageError, match="frames: no frame at or after 60 s and before 61 s"):
        list(predictor.predict_frames(frames, fps=10, start=60, end=61))
    assert list(predictor.predict_frames([], fps=10)) == []


class OutOfMemoryOnce:
    """Stands in for a device on which more than `most` windows do not fit."""

    def __init__(self, forward, most):
        self.forward, self.most, self.sizes = forward, most, []

    def __call__(self, clip, features, spectrogram):
        self.sizes.append(clip.shape[0])
        if clip.shape[0] > self.most:
            raise torch.OutOfMemoryError
        return self.forward(clip, features, spectrogram)


def test_the_batch_is_halved_when_memory_runs_out(predictor, example_clip, monkeypatch):
    expected = maps(predictor, example_clip, end=0.8)
    network = predictor.engine.network
    limited = OutOfMemoryOnce(network.forward_with_features, 2)
    monkeypatch.setattr(network, "forward_with_features", limited)
    found = maps(predictor, example_clip, end=0.8, batch=8)
    assert limited.sizes[:3] == [8, 4, 2]
    assert max(limited.sizes[3:]) <= 4
    for one, other in zip(expected, found, strict=True):
        assert np.abs(one.log_density - other.log_density).max() < 1e-4


def test_too_little_memory_for_one_window_is_one_line(predictor, example_clip, monkeypatch):
    limited = OutOfMemoryOnce(None, 0)
    monkeypatch.setattr(predictor.engine.network, "forward_with_features", limited)
    with pytest.raises(UsageError, match="--device cpu"):
        maps(predictor, example_clip, end=0.2, batch=4)


def test_features_survive_running_out_of_memory_between_frames(
    predictor, example_clip, monkeypatch
):
    """Frames are taken off the waiting list only when all of them are done."""
    monkeypatch.setattr(TorchEngine, "_frames_at_once", 8)
    expected = maps(predictor, example_clip, end=0.8)
    network = predictor.engine.network
    encode, sizes = network.image_features, []

    def limited(frames):
        sizes.append(len(frames))
        if len(frames) > 4:
            raise torch.OutOfMemoryError
        return encode(frames)

    monkeypatch.setattr(network, "image_features", limited)
    found = maps(predictor, example_clip, end=0.8, batch=4)
    assert sizes[:3] == [8, 4, 4]
    for one, other in zip(expected, found, strict=True):
        assert np.abs(one.log_density - other.log_density).max() < 1e-4


def test_the_retry_begins_when_the_failed_attempt_is_freed(predictor, example_clip, monkeypatch):
    import gc
    import weakref

    network = predictor.engine.network
    forward, alive = network.forward_with_features, []

    def limited(clip, features, spectrogram):
        if len(clip) > 1:
            activations = torch.zeros(1)
            alive.append(weakref.ref(activations))
            raise torch.OutOfMemoryError
        assert not any(reference() is not None for reference in alive)
        return forward(clip, features, spectrogram)

    monkeypatch.setattr(network, "forward_with_features", limited)
    gc.disable()
    try:
        maps(predictor, example_clip, end=0.2, batch=4)
    finally:
        gc.enable()
    assert alive


def test_maps_that_are_no_numbers_are_one_line(predictor, example_clip):
    with torch.no_grad():
        next(predictor.engine.network.readout.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsError, match=r"tiny.*not finite"):
        maps(predictor, example_clip, end=0.2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_cuda_gives_the_same_maps(tiny, tiny_weights, example_clip, precision):
    expected = maps(load_model(tiny, tiny_weights, "cpu", "fp32"), example_clip, end=1.0)
    found = maps(load_model(tiny, tiny_weights, "cuda", precision), example_clip, end=1.0)
    for one, other in zip(expected, found, strict=True):
        cc = np.corrcoef(one.density.ravel(), other.density.ravel())[0, 1]
        assert cc >= 0.999


def test_settings_out_of_range_are_refused(predictor, example_clip):
    for wrong in ({"stride": 0}, {"audio_context": 20}, {"batch": 0}, {"start": -1.0}):
        with pytest.raises(UsageError):
            maps(predictor, example_clip, **wrong)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's peak memory")
def test_memory_does_not_grow_with_the_length_of_the_video(tiny_weights, tmp_path):
    """Peak memory of a process over 5 s and over 20 s of 640x360, sound included."""
    script = textwrap.dedent(f"""
        import re, sys
        from pathlib import Path
        sys.path.append({str(Path(__file__).parent)!r})
        import tiny_network
        from avsal.models.variants import VARIANTS
        from avsal.prediction.model import load_model
        VARIANTS["tiny"] = tiny_network.make()
        predictor = load_model("tiny", {str(tiny_weights)!r}, "cpu", "fp32")
        count = sum(1 for _ in predictor.predict(sys.argv[1], stride=25))
        peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
        print(count, int(peak[1]) // 1024)
    """)
    images = [samples.moving_noise(number, 640, 360) for number in range(25)] * 5
    quick = {"preset": "ultrafast", "crf": "35"}  # 33 kB a frame
    tone = [(Fraction(0), samples.tone(5, 44_100))]
    sound = samples.SoundTrack(tone, 44_100, codec="aac", format="fltp")
    short = samples.write(tmp_path / "short.mp4", samples.Pictures(images, options=quick), sound)
    long = copies.repeated(short, tmp_path / "long.mp4", seconds=5, times=4)
    peaks = []
    # Freed pictures go back to the system at once, not to a heap that may keep 100 MB of them.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    for path, seconds in ((short, 5), (long, 20)):
        command = [sys.executable, "-c", script, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        count, peak = map(int, done.stdout.split())
        assert count == 25 * seconds
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 60, f"MB: {peaks}"
