"""Frames as the network sees them."""

import numpy as np
import torch

from avsal.models.network import normalise
from avsal.prediction.inputs import resize_frame


def test_resizing_and_normalising_agree_with_the_published_transform(parity):
    with np.load(parity / "golden" / "image_transform.npz") as golden:
        for index in (0, 40):
            resized = resize_frame(golden[f"frame.{index}"], (224, 384))
            pixels = torch.from_numpy(resized).permute(2, 0, 1)
            values = normalise(pixels[None])[0].flatten()[golden[f"index.{index}"]]
            assert np.abs(values.numpy() - golden[f"values.{index}"]).max() <= 1e-5
