"""Weights of one size made to fit another: tables of relative positions, inflation, flat scales."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

SWIN_WINDOW = (15, 13, 13)  # relative positions of an 8x7x7 window in time, height, width


def fit(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Make an upstream tensor fit the shape that our encoder has, where that has a meaning.

    - MViT's tables of one axis (`rel_pos_*`) are resampled linearly.
    - Swin's tables of a window (`relative_position_bias_table`) are resampled in time and space;
      one of an image network is repeated over time, as the VideoSwin paper does (section 3.3).
    - Kernels of an image network are repeated over time and divided by its length, so that a still
      video gives what the image gave (Carreira and Zisserman 2017, section 2.4).
    - Axes of length 1 come and go.

    Anything else is given back as it is, for the comparison of shapes to report.
    """
    found = tuple(tensor.shape)
    if found == shape:
        return tensor
    if ".rel_pos_" in f".{name}" and found[1:] == shape[1:]:
        return _resample_axis(tensor, shape[0])
    if name.endswith("relative_position_bias_table") and found[1:] == shape[1:]:
        return _resample_window(tensor, shape)
    if len(found) == 4 and len(shape) == 5 and found == (*shape[:2], *shape[3:]):
        return tensor.unsqueeze(2).expand(shape) / shape[2]
    if [n for n in found if n > 1] == [n for n in shape if n > 1]:
        return tensor.reshape(shape)
    return tensor


def _resample_axis(table: torch.Tensor, length: int) -> torch.Tensor:
    """Resample (L, C) to (length, C)."""
    resampled = F.interpolate(table.float().T[None], size=length, mode="linear")
    return resampled[0].T.to(table.dtype)


def _resample_window(table: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Resample (T * H * W, heads) to the published window; one of T = 1 is repeated over time.

    The file does not tell T, H and W: the window is taken to be square, and its length in time to
    be the shortest odd one that leaves an odd square.
    """
    source = _window(table.shape[0])
    if source is None or shape[0] != math.prod(SWIN_WINDOW):
        return table
    volume = table.float().T.reshape(1, -1, *source)
    if source[0] == 1:
        volume = volume.expand(-1, -1, SWIN_WINDOW[0], -1, -1)
    resampled = F.interpolate(volume, size=SWIN_WINDOW, mode="trilinear")
    return resampled.reshape(-1, shape[0]).T.to(table.dtype)


def _window(positions: int) -> tuple[int, int, int] | None:
    """Split a number of relative positions into T, H and W."""
    for length in range(1, positions + 1, 2):
        side = math.isqrt(positions // length)
        if length * side * side == positions and side % 2:
            return length, side, side
    return None
