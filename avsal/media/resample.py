"""Resampling sound to 16 kHz.

This uses torchaudio if it can be imported. Because its extension does not load with a CPU-only
build of torch, the same operation is also implemented here; the tests compare both with the same
values.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from types import ModuleType

import numpy as np

SAMPLE_RATE = 16_000  # Hz; the input of every network

SINC_WIDTH = 6  # zero crossings on each side of the resampling filter
ROLLOFF = 0.99  # its cut-off relative to the lower Nyquist frequency
_DENSE_KERNEL_LIMIT = 4_000_000  # coefficients; torchaudio's kernel is (new, orig + 2 width) dense


def torchaudio_module() -> ModuleType | None:
    """Return torchaudio; None if torch is not in use or torchaudio cannot be loaded."""
    if "torch" not in sys.modules:  # loading it would take a second
        return None
    try:
        import torchaudio.functional
    except (ImportError, OSError, RuntimeError):
        return None
    return torchaudio


def resample(waveform: np.ndarray, source_rate: int) -> np.ndarray:
    """Resample a whole mono signal to 16 kHz: windowed sinc, Hann, width 6, rolloff 0.99.

    Args:
        waveform: float32 (n,) at `source_rate` Hz.

    Returns:
        float32 (ceil(n * 16000 / source_rate),).
    """
    if source_rate == SAMPLE_RATE or waveform.size == 0:
        return waveform.astype(np.float32, copy=False)
    orig, new = _reduced(source_rate)
    audio = torchaudio_module()
    if audio is not None and orig * new <= _DENSE_KERNEL_LIMIT:
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        return audio.functional.resample(
            tensor, orig, new, lowpass_filter_width=SINC_WIDTH, rolloff=ROLLOFF
        ).numpy()
    return _sinc_resample(waveform, orig, new)


def _reduced(source_rate: int) -> tuple[int, int]:
    divisor = math.gcd(source_rate, SAMPLE_RATE)
    return source_rate // divisor, SAMPLE_RATE // divisor


def _reach(orig: int, new: int) -> int:
    """Return how many source samples on each side of an output sample its filter covers."""
    return math.ceil(SINC_WIDTH * orig / (min(orig, new) * ROLLOFF))


@lru_cache(maxsize=8)
def _filter_bank(orig: int, new: int) -> np.ndarray:
    """Return a filter for each of the `new` phases of an output sample: (new, 2 reach + 2)."""
    reach = _reach(orig, new)
    cutoff = min(orig, new) * ROLLOFF
    offset = np.arange(-reach, reach + 2)[None, :]  # relative to the source sample at or before
    phase = (np.arange(new) * orig % new)[:, None] / new  # of the output after that sample
    t = np.clip((offset - phase) * cutoff / orig, -SINC_WIDTH, SINC_WIDTH)
    window = np.cos(t * np.pi / SINC_WIDTH / 2) ** 2
    return (np.sinc(t) * window * (cutoff / orig)).astype(np.float32)


def _sinc_resample(waveform: np.ndarray, orig: int, new: int) -> np.ndarray:
    """Evaluate the filter at every output sample; `orig` and `new` must be coprime."""
    bank, reach = _filter_bank(orig, new), _reach(orig, new)
    length = math.ceil(new * waveform.size / orig)
    padded = np.pad(waveform.astype(np.float32, copy=False), (reach, reach + 2))
    neighbours = np.lib.stride_tricks.sliding_window_view(padded, bank.shape[1])
    output = np.arange(length)
    return np.einsum("nk,nk->n", neighbours[output * orig // new], bank[output % new])


class StreamingResampler:
    """Resamples a stream of mono blocks to 16 kHz, as `resample` does on the whole signal.

    It works in whole periods (`orig` source samples are `new` output samples), with the filter's
    reach as context on both sides.

    Args:
        source_rate: Hz.
        skip: output samples at the beginning that may be omitted. The others are the same bit for
            bit, because only whole blocks are omitted.

    Attributes:
        first: the first output sample that is returned.
        omitted: source samples at the beginning that must not be pushed.
    """

    _BLOCK_SECONDS = 1.0

    def __init__(self, source_rate: int, skip: int = 0) -> None:
        if source_rate <= 0:
            raise ValueError(f"source_rate must be positive, got {source_rate}")
        self.source_rate = source_rate
        self._orig, self._new = _reduced(source_rate)
        reach = _reach(self._orig, self._new)
        self._context = math.ceil(reach / self._orig) * self._orig  # source samples, whole periods
        self._block = max(1, round(self._BLOCK_SECONDS * source_rate / self._orig)) * self._orig
        blocks = skip * self._orig // (self._new * self._block)
        self.first = blocks * self._block * self._new // self._orig
        self.omitted = max(0, blocks * self._block - self._context)
        # The left context, which is silence at the beginning, and the samples still to resample.
        self._pending = np.zeros(0 if blocks else self._context, np.float32)
        self._received, self._emitted = self.omitted, self.first
        if self._orig == self._new:  # nothing to resample
            self.first = self.omitted = skip

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Add source samples, float32 (n,), and return the 16 kHz samples that are complete."""
        self._received += samples.size
        if self._orig == self._new:
            return samples.astype(np.float32, copy=False)
        self._pending = np.concatenate([self._pending, samples.astype(np.float32, copy=False)])
        blocks = []
        while self._pending.size >= self._block + 2 * self._context:
            blocks.append(self._convert(self._block))
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def flush(self) -> np.ndarray:
        """Return the remaining samples at the end of the stream."""
        remaining = math.ceil(self._new * self._received / self._orig) - self._emitted
        if self._orig == self._new or remaining <= 0:
            return np.zeros(0, np.float32)
        periods = math.ceil(remaining / self._new)
        missing = periods * self._orig + 2 * self._context - self._pending.size
        self._pending = np.pad(self._pending, (0, max(0, missing)))
        return self._convert(periods * self._orig)[:remaining]

    def _convert(self, count: int) -> np.ndarray:
        """Resample and remove the next `count` source samples, which are whole periods."""
        margin = self._context // self._orig * self._new
        resampled = resample(self._pending[: count + 2 * self._context], self.source_rate)
        result = resampled[margin : margin + count // self._orig * self._new]
        self._pending = self._pending[count:]
        self._emitted += result.size
        return result
