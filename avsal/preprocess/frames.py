"""Frames to the network's pixels: resized as it was trained, normalised."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels scaled to 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)


def resize_frame(image: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Resize as the network was trained: bilinear with antialiasing, aspect ratio not kept.

    Pillow does it, because the published transform is Pillow's and other libraries round
    differently by a level here and there.

    Args:
        image: uint8 (H, W, 3) RGB.
        size: (height, width).

    Returns:
        uint8 (3, height, width).
    """
    if image.shape[:2] == size:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
    from PIL import Image

    height, width = size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def normalise(frames: torch.Tensor) -> torch.Tensor:
    """Pixels 0..255 to the network's range, uint8 (N, 3, h, w) -> float32 of the same shape."""
    mean, std = _statistics(frames.device)
    return (frames.float() / 255 - mean) / std


@cache
def _statistics(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation (3, 1, 1), kept: making them on a GPU would stop the host every time."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float32, device=device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float32, device=device).view(3, 1, 1)
    return mean, std
