"""What a network is given: pixels at its size, and log-spectrograms."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import cv2
import numpy as np

from avsal.models.variants import Variant

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
CELL = 32  # pixels; heights and widths are multiples of it
SIDES = range(5, 18)  # cells of a height or width; longer pictures are squeezed
TOLERANCE = 0.05  # of the area
HALVED_FROM = 4  # times the network's size; half of it is still twice that size
Size = tuple[int, int]  # (height, width)
Resize = Callable[[np.ndarray], np.ndarray]  # of pictures, uint8 (H, W, 3), to a network's size


def resize_frame(image: np.ndarray, size: tuple[int, int], halve: bool = False) -> np.ndarray:
    """Resize as the networks were trained: bilinear with antialiasing, aspect ratio not kept.

    Pillow does it, because the published transform is Pillow's and other libraries round
    differently by a level here and there.

    Args:
        image: uint8 (H, W, 3) RGB.
        size: (height, width).
        halve: halve the picture first, by the mean of 2x2 pixels, as long as it is at least
            `HALVED_FROM` times as high and as wide as `size`. Full HD takes less than half of the
            time, and values differ by half a level on average, at hard edges by several.

    Returns:
        uint8 (height, width, 3), a copy.
    """
    if image.shape[:2] == size:
        return np.array(image)
    from PIL import Image

    height, width = size
    while halve and min(image.shape[0] / height, image.shape[1] / width) >= HALVED_FROM:
        half = image.shape[1] // 2, image.shape[0] // 2
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)


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


def input_size(variant: Variant, height: int, width: int, sample_aspect: Fraction) -> Size:
    """Return the size that a picture has in a network.

    Args:
        height, width: of the picture in pixels.
        sample_aspect: width to height of a displayed pixel.
    """
    if not variant.follows_shape:
        return variant.size
    return size_near(math.prod(variant.size), float(sample_aspect * width / height))


def size_near(area: int, ratio: float) -> Size:
    """Return the size whose shape is nearest to a picture's.

    Args:
        area: pixels; the size has as many, within 5 %.
        ratio: the picture's width to its height, as it is displayed.
    """
    cells = area / CELL**2
    sizes = [
        (height, width)
        for height, width in product(SIDES, SIDES)
        if abs(height * width - cells) <= TOLERANCE * cells
    ]
    height, width = min(sizes, key=lambda size: abs(math.log(size[1] / size[0] / ratio)))
    return height * CELL, width * CELL
