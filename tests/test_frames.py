"""Frames as the network sees them."""

import cv2
import numpy as np
import pytest
import torch

from avsal.models.network import normalise
from avsal.models.variants import VARIANTS
from avsal.prediction.inputs import resize_frame


def test_resizing_and_normalising_agree_with_the_published_transform(parity):
    with np.load(parity / "golden" / "image_transform.npz") as golden:
        for index in (0, 40):
            resized = resize_frame(golden[f"frame.{index}"], (224, 384))
            pixels = torch.from_numpy(resized).permute(2, 0, 1)
            values = normalise(pixels[None])[0].flatten()[golden[f"index.{index}"]]
            assert np.abs(values.numpy() - golden[f"values.{index}"]).max() <= 1e-5


@pytest.mark.parametrize("shape", [(896, 1536), (1080, 1920), (1919, 1081), (2160, 3840)])
def test_halving_large_pictures_first_changes_levels_little(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 4)
    image[shape[0] // 3 : shape[0] // 2, shape[1] // 3 :] = 255  # with hard edges
    size = (224, 384) if shape[1] > shape[0] else (384, 224)
    exact, quick = (resize_frame(image, size, halve=each).astype(int) for each in (False, True))
    assert np.abs(quick - exact).mean() < 0.5
    assert (quick != exact).any()  # it was halved
    assert np.abs(quick - exact).max() <= 12


def test_small_pictures_and_published_networks_are_resized_exactly():
    image = np.random.default_rng(0).integers(0, 256, (895, 1535, 3), dtype=np.uint8)
    assert (resize_frame(image, (224, 384), halve=True) == resize_frame(image, (224, 384))).all()
    assert [name for name, variant in VARIANTS.items() if variant.halves] == ["small-224x384"]
