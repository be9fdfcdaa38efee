"""Frames to the size that a network sees."""

from __future__ import annotations

import numpy as np


def resize_frame(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize as the networks were trained: bilinear with antialiasing, aspect ratio not kept.

    Pillow does it, because the published transform is Pillow's and other libraries round
    differently by a level here and there.

    Args:
        image: uint8 (H, W, 3) RGB.
        size: (height, width).

    Returns:
        uint8 (height, width, 3), a copy.
    """
    if image.shape[:2] == size:
        return np.array(image)
    from PIL import Image

    height, width = size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)
