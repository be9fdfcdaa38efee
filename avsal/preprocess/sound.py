"""Sound at 16 kHz to the network's audio input, the log-spectrogram."""

from __future__ import annotations

import numpy as np

HOP = 160  # samples: 10 ms at 16 kHz
FFT_SIZE = 512  # samples: 32 ms at 16 kHz; also the length of the Hann window
BINS = FFT_SIZE // 2 + 1  # 257 frequencies
COLUMNS = 111  # columns that the network sees: 111 hops are 1.11 s
PADDING = 0.02  # value of columns without sound, also of a video without sound
LOG_FLOOR = 1e-6  # added to the power before the logarithm
STD_FLOOR = 1e-6  # added to a column's standard deviation

# Centring reflects half an FFT on both sides, which needs more samples than that.
MIN_SAMPLES = FFT_SIZE // 2 + 1

# Periodic Hann window, as the published spectrograms have it.
_WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)


def log_spectrogram(samples: np.ndarray, reverse: bool = False) -> np.ndarray:
    """Turn one window's sound into the network's input (Xie et al. 2024, section 4.3).

    Args:
        samples: mono waveform at 16 kHz, shape (n,), values in -1..1. Fewer than 257 samples
            count as no sound.
        reverse: play the samples backwards first (windows of the first 15 frames).

    Returns:
        float32 (1, 257, 111): log power, each column standardised over its frequencies; columns
        past the sound hold 0.02.
    """
    out = np.full((1, BINS, COLUMNS), PADDING, np.float32)
    if samples.size < MIN_SAMPLES:
        return out
    # Only the samples under the first 111 columns matter (and half an FFT for the last one).
    waveform = (samples[::-1] if reverse else samples)[: COLUMNS * HOP + FFT_SIZE]
    # float64: a silent column has no spread, and float32 would divide its rounding error by 1e-6.
    log_power = np.log(power_spectrogram(waveform) + LOG_FLOOR)[:, :COLUMNS]
    centred = log_power - log_power.mean(axis=0)
    out[0, :, : centred.shape[1]] = centred / (log_power.std(axis=0, ddof=1) + STD_FLOOR)
    return out


def power_spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Power of the short-time Fourier transform, (n,) samples -> float64 (257, 1 + n // 160)."""
    padded = np.pad(waveform.astype(np.float64), FFT_SIZE // 2, mode="reflect")
    columns = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP]
    spectrum = np.fft.rfft(columns * _WINDOW, axis=1)
    return np.square(np.abs(spectrum)).T
