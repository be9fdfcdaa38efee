"""The teacher: UNISAL (Droste, Jiao and Noble, ECCV 2020; Apache-2.0), for stills and videos.

Its code and weights are loaded from the unpacked wheel of pyautoflip 0.2.1. They are used to make
training data; nothing of them is copied here or part of avsal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice, product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from avsal.models.network import normalise
from avsal.weights import sha256_of

PLACE = Path("pyautoflip", "3rd_party_libs", "unisal")  # in the unpacked wheel
WEIGHTS = Path("training_runs", "pretrained_unisal", "weights_best.pth")
WEIGHTS_SHA256 = "4a9157411f1741d588b15670d15295e998805648b8b6348599fe447298338481"
STILLS, VIDEOS = "SALICON", "DHF1K"  # the data sets whose normalisation and priors are used

GRID = 32  # side of its coarsest cell in pixels
SIDES = range(7, 14)  # cells
CELLS = (84, 120)  # of a picture: from 7x12 (DHF1K in training, 224x384) to the authors' largest
RATE = 6.0  # frames per second in the training of its recurrent network: every 5th of 30

Size = tuple[int, int]  # (height, width)


def weights_file(wheel: Path) -> Path:
    """Return the path of the weights in an unpacked wheel.

    Raises:
        ValueError: they are not the expected ones.
    """
    path = wheel / PLACE / WEIGHTS
    if (found := sha256_of(path)) != WEIGHTS_SHA256:
        raise ValueError(f"{path}: sha256 is {found}; unpack the wheel of pyautoflip 0.2.1")
    return path


def best_size(size: Size) -> Size:
    """Return the input size whose aspect ratio is nearest to a picture's, as the authors do.

    4:3 gives 288x384 and 16:9 gives 224x384, the sizes of SALICON and DHF1K in its training.
    """
    ratio = size[0] / size[1]

    def misfit(cells: Size) -> float:
        other = cells[0] / cells[1]
        return max(ratio / other, other / ratio)

    fitting = [each for each in product(SIDES, SIDES) if CELLS[0] <= each[0] * each[1] <= CELLS[1]]
    height, width = min(fitting, key=misfit)
    return height * GRID, width * GRID


@dataclass(frozen=True)
class Teacher:
    """The loaded network."""

    network: Any

    @classmethod
    def load(cls, wheel: Path) -> Teacher:
        """Load from an unpacked wheel.

        Raises:
            ValueError: the weights are not the expected ones.
        """
        state = torch.load(weights_file(wheel), map_location="cpu", weights_only=True)
        model = _import_model(wheel / PLACE / "unisal")
        network = model.UNISAL(cnn_cfg={"pretrained": False})
        network.load_state_dict(state)
        return cls(network.eval())

    @torch.inference_mode()
    def static(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        """Predict the density of a still.

        Args:
            image: uint8 (H, W, 3) RGB.
            size: input size; None means the best one.

        Returns:
            float32 (H, W), sums to 1.
        """
        frames = _tensor([image], size or best_size(image.shape[:2]))
        out = self.network(frames, target_size=image.shape[:2], source=STILLS, static=True)
        return out[0, 0, 0].exp().numpy()

    @torch.inference_mode()
    def video(self, images: Iterable[np.ndarray], rate: float) -> Iterator[np.ndarray]:
        """Predict the densities of all frames of a video, in constant memory.

        As in the authors' code, every n-th frame belongs to one of n interleaved sequences, which
        are computed as one batch here.

        Args:
            images: uint8 (H, W, 3) RGB each.
            rate: frames per second.

        Yields:
            float32 (h, w) of the network's input size, sums to 1.
        """
        hidden, source = None, iter(images)
        while step := list(islice(source, max(1, round(rate / RATE)))):
            frames = _tensor(step, best_size(step[0].shape[:2]))
            if hidden is not None:  # the last step may have fewer frames
                hidden = [state[: len(step)] for state in hidden]
            out, hidden = self.network(
                frames, h0=hidden or [None], return_hidden=True, source=VIDEOS, static=False
            )
            yield from out[:, 0, 0].exp().numpy()


def _tensor(images: list[np.ndarray], size: Size) -> torch.Tensor:
    """One frame of each sequence: float32 (N, 1, 3, h, w)."""
    height, width = size
    small = [
        np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
        for image in images
    ]
    return normalise(torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2))[:, None]


def _import_model(package: Path) -> Any:
    """Import its module `model` without the package, which imports libraries for training."""
    parent = ModuleType("unisal")
    parent.__path__ = [str(package)]
    sys.modules["unisal"] = parent
    return import_module("unisal.model")
