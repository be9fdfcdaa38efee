"""Sound at 16 kHz to the network's audio input, the log-spectrogram."""

from __future__ import annotations

import numpy as np
import torch

from avsal.media.resample import torchaudio_module

HOP = 160  # samples: 10 ms at 16 kHz
FFT_SIZE = 512  # samples: 32 ms at 16 kHz; also the length of the Hann window
BINS = FFT_SIZE // 2 + 1  # 257 frequencies
COLUMNS = 111  # columns that the network sees: 111 hops are 1.11 s
PADDING = 0.02  # value of columns without sound, also of a video without sound
LOG_FLOOR = 1e-6  # added to the power before the logarithm
STD_FLOOR = 1e-6  # added to a column's standard deviation

# Centring reflects half an FFT on both sides, which needs more samples than that.
MIN_SAMPLES = FFT_SIZE // 2 + 1


def log_spectrogram(samples: np.ndarray, reverse: bool = False) -> torch.Tensor:
    """Turn one window's sound into the network's input (paper Section 4.3).

    Args:
        samples: mono waveform at 16 kHz, shape (n,), values in -1..1. Fewer than 257 samples
            count as no sound.
        reverse: play the samples backwards first (windows of the first 15 frames).

    Returns:
        float32 tensor (1, 257, 111): log power, each column standardised over its frequencies;
        columns past the sound hold 0.02.
    """
    out = torch.full((1, BINS, COLUMNS), PADDING, dtype=torch.float32, device="cpu")
    if samples.size < MIN_SAMPLES:
        return out
    waveform = torch.from_numpy(np.ascontiguousarray(samples[::-1] if reverse else samples))
    # Only the samples under the first 111 columns matter (and half an FFT for the last one).
    waveform = waveform[: COLUMNS * HOP + FFT_SIZE]
    # float64: a silent column has no spread, and float32 would divide its rounding error by 1e-6.
    log_power = torch.log(power_spectrogram(waveform.float()) + LOG_FLOOR)[:, :COLUMNS].double()
    centred = log_power - log_power.mean(dim=0)
    columns = centred / (log_power.std(dim=0) + STD_FLOOR)
    out[0, :, : columns.shape[1]] = columns.float()
    return out


def power_spectrogram(waveform: torch.Tensor) -> torch.Tensor:
    """Power of the short-time Fourier transform, (n,) samples -> (257, 1 + n // 160)."""
    window = torch.hann_window(FFT_SIZE, dtype=torch.float32, device="cpu")
    audio = torchaudio_module()
    if audio is not None:
        return audio.functional.spectrogram(
            waveform, 0, window, FFT_SIZE, HOP, FFT_SIZE, power=2.0, normalized=False
        )
    spectrum = torch.stft(waveform, FFT_SIZE, HOP, window=window, return_complex=True)
    return spectrum.abs().square()
