"""Resampling and spectrogram against the published preprocessing's golden numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch  # noqa: F401  where it is in use, torchaudio is too
from scipy import signal

from avsal.media import resample as resampling
from avsal.media.resample import StreamingResampler, resample
from avsal.prediction.inputs import log_spectrogram


@pytest.fixture(params=["torchaudio", "own"])
def backend(request, monkeypatch):
    """Both ways: through torchaudio where it can be imported, and through avsal's own code."""
    if request.param == "own":
        monkeypatch.setattr(resampling, "torchaudio_module", lambda: None)
    elif resampling.torchaudio_module() is None:
        pytest.skip("torchaudio cannot be imported next to this torch")
    return request.param


@pytest.fixture(scope="module")
def golden(parity):
    with np.load(parity / "golden" / "audio_features.npz") as file:
        return dict(file)


def keys(golden, source):
    return [key for key in golden if key.startswith((f"{source}.forward", f"{source}.flipped"))]


@pytest.mark.parametrize("source", ["clip", "mono"])
def test_features_agree_with_the_goldens(golden, source, backend):
    waveform = golden[f"{source}.pcm"].astype(np.float32).mean(axis=0) / 32768
    fps = float(golden[f"{source}.fps"])
    samples = resample(waveform, int(golden[f"{source}.sr"]))
    assert keys(golden, source)
    for key in keys(golden, source):
        start = int(key.rsplit(".", 1)[1])
        part = samples[round(16000 * start / fps) : round(16000 * (start + 33) / fps)]
        features = log_spectrogram(part, reverse="flipped" in key)
        difference = np.abs(features - golden[key])
        assert difference.max() <= 5e-2, key
        assert difference.mean() <= 5e-4, key


@pytest.mark.parametrize("samples", [0, 1, 256])
def test_too_little_sound_is_no_sound(samples):
    features = log_spectrogram(np.ones(samples, np.float32))
    assert features.shape == (1, 257, 111)
    assert np.all(features == np.float32(0.02))


def test_the_shortest_sound_fills_its_columns():
    features = log_spectrogram(np.random.default_rng(0).normal(size=257).astype(np.float32))
    assert not np.any(features[0, :, 0] == np.float32(0.02))
    assert np.all(features[0, :, 2:] == np.float32(0.02))


def test_silence_gives_zero_not_amplified_rounding():
    assert np.abs(log_spectrogram(np.zeros(20_000, np.float32))).max() < 1e-6


def test_columns_are_standardised():
    noise = np.random.default_rng(1).normal(size=30_000).astype(np.float32)
    features = log_spectrogram(noise)[0].astype(np.float64)
    assert features.shape == (257, 111)
    assert np.abs(features.mean(axis=0)).max() < 1e-6
    assert np.abs(features.std(axis=0, ddof=1) - 1).max() < 1e-4


def test_only_the_shown_columns_decide():
    noise = np.random.default_rng(2).normal(size=60_000).astype(np.float32)
    cut = log_spectrogram(noise[: 111 * 160 + 512])
    assert np.array_equal(log_spectrogram(noise), cut)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000, 44056])
def test_resampling_keeps_a_tone_and_removes_what_aliases(rate, backend):
    times = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 1000 * times).astype(np.float32)
    result = resample(tone, rate)
    assert result.size == math.ceil(16000 * rate / rate)
    expected = np.sin(2 * np.pi * 1000 * np.arange(result.size) / 16000)
    middle = slice(400, -400)
    assert np.abs(result - expected)[middle].max() < 0.01
    if rate >= 32000:
        alias = np.sin(2 * np.pi * 12_000 * times).astype(np.float32)
        assert np.abs(resample(alias, rate))[middle].max() < 0.02


def test_own_resampler_equals_direct_evaluation_of_the_filter():
    """An oracle without phases or blocks: the filter's formula at every pair of samples."""
    rate, source = 11025, np.random.default_rng(3).normal(size=700).astype(np.float32)
    cutoff = min(rate, 16000) * 0.99
    length = math.ceil(16000 * source.size / rate)
    times = np.arange(length)[:, None] / 16000 - np.arange(source.size)[None] / rate
    t = np.clip(times * cutoff, -6, 6)
    kernel = np.sinc(t) * np.cos(t * np.pi / 12) ** 2 * cutoff / rate
    orig, new = resampling._reduced(rate)
    assert np.abs(resampling._sinc_resample(source, orig, new) - kernel @ source).max() < 1e-5


def test_resampling_resembles_another_library():
    noise = signal.lfilter([0.2] * 5, [1], np.random.default_rng(4).normal(size=48_000))
    ours = resample(noise.astype(np.float32), 48_000)
    theirs = signal.resample_poly(noise, 1, 3)
    assert np.corrcoef(ours[100:-100], theirs[100:-100])[0, 1] > 0.995


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 47999])
def test_a_stream_of_blocks_gives_what_the_whole_gives(rate, backend):
    rng = np.random.default_rng(rate)
    waveform = rng.normal(size=3 * rate + 123).astype(np.float32)
    stream, parts, start = StreamingResampler(rate), [], 0
    while start < waveform.size:
        size = int(rng.integers(1, 20_000))
        parts.append(stream.push(waveform[start : start + size]))
        start += size
    parts.append(stream.flush())
    whole = resample(waveform, rate)
    streamed = np.concatenate(parts)
    assert streamed.shape == whole.shape
    assert np.abs(streamed - whole).max() < 1e-6


def test_a_stream_without_samples_ends_empty():
    stream = StreamingResampler(44100)
    assert stream.push(np.zeros(0, np.float32)).size == 0
    assert stream.flush().size == 0
