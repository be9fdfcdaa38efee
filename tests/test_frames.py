"""Frames as the network sees them."""

import numpy as np

from avsal.preprocess.frames import normalise, resize_frame


def test_resizing_and_normalising_agree_with_the_published_transform(parity):
    with np.load(parity / "golden" / "image_transform.npz") as golden:
        for index in (0, 40):
            resized = resize_frame(golden[f"frame.{index}"], (224, 384))
            values = normalise(resized[None])[0].flatten()[golden[f"index.{index}"]]
            assert np.abs(values.numpy() - golden[f"values.{index}"]).max() <= 1e-5
