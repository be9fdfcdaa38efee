"""From the network's log-densities to densities over the picture's pixels.

The published order: blur the log-density, exponentiate, resize; scaling to gray levels comes last
and belongs to `avsal.results.formats`.
"""

from __future__ import annotations

from functools import cache, lru_cache
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F

BLUR_SIZE = 11  # pixels of the network's grid
BLUR_SIGMA = 0.3 * ((BLUR_SIZE - 1) * 0.5 - 1) + 0.8  # 2.0 pixels: OpenCV's default for the size


@lru_cache(maxsize=1)
def opencv() -> ModuleType | None:
    """Return OpenCV, or None where it is not installed: torch takes its place."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


@cache
def _gaussian(device: torch.device) -> torch.Tensor:
    """The kernel along one axis; kept, as making it on a GPU would stop the host every time."""
    offset = torch.arange(BLUR_SIZE, dtype=torch.float64, device="cpu") - BLUR_SIZE // 2
    weights = torch.exp(-(offset**2) / (2 * BLUR_SIGMA**2))
    return (weights / weights.sum()).float().to(device)


def blur(maps: torch.Tensor) -> torch.Tensor:
    """Gaussian blur with reflected borders (edge pixel not repeated), (B, h, w) -> (B, h, w)."""
    kernel = _gaussian(maps.device).to(maps)
    half = BLUR_SIZE // 2
    padded = F.pad(maps.unsqueeze(1), (half, half, half, half), mode="reflect")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1))
    return F.conv2d(rows, kernel.view(1, 1, -1, 1)).squeeze(1)


def to_density(log_density: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Densities at the wanted size, each summing to 1.

    Args:
        log_density: (B, h, w), as the network gives it.
        size: (height, width) of the result.

    Returns:
        float32 (B, height, width) on the same device.
    """
    cv2 = opencv() if log_density.device.type == "cpu" else None
    if cv2 is not None:
        densities = [_density(cv2, one, size) for one in log_density.numpy()]
        return torch.from_numpy(np.stack(densities))
    density = blur(log_density.float()).exp().unsqueeze(1)
    if density.shape[-2:] != size:
        density = F.interpolate(density, size=size, mode="bilinear", align_corners=False)
    density = density.squeeze(1)
    return density / density.sum(dim=(1, 2), keepdim=True)


def _density(cv2: ModuleType, log_density: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One map by OpenCV, which on a CPU is several times faster and differs in rounding only."""
    blurred = cv2.GaussianBlur(np.asarray(log_density, np.float32), (BLUR_SIZE, BLUR_SIZE), 0)
    density = cv2.resize(cv2.exp(blurred), size[::-1], interpolation=cv2.INTER_LINEAR)
    with np.errstate(invalid="ignore"):  # a network that gives NaN has NaN densities
        return np.asarray(density / density.sum(dtype=np.float64), np.float32)


def interpolate(before: torch.Tensor, after: torch.Tensor, share: float) -> torch.Tensor:
    """Log-density between two others, renormalised.

    Args:
        before, after: (h, w) log-densities.
        share: place between them, 0 (before) to 1 (after).
    """
    mixed = torch.lerp(before, after, share)
    return mixed - mixed.logsumexp(dim=(0, 1))
