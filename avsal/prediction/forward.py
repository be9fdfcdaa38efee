"""The network over windows, batch after batch; what depends on a frame alone is computed once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import torch

from avsal.errors import UsageError
from avsal.models.network import SaliencyNetwork
from avsal.prediction.cache import CachedFrame, WindowInput
from avsal.prediction.transfer import to_device
from avsal.preprocess.frames import normalise

T = TypeVar("T")
R = TypeVar("R")

# Frames that go through the image encoder together. From 16 on, and for one alone, oneDNN may take
# a kernel that rounds differently, and a frame's features must not depend on where reading began.
FRAMES_AT_ONCE = 8


class Batches(Generic[T, R]):
    """Calls `work` on parts of a list that the device's memory suffices for.

    Attributes:
        most: length of a part; halved for good whenever the memory does not suffice.
    """

    def __init__(self, work: Callable[[list[T]], list[R]], most: int, device: torch.device) -> None:
        self.most = most
        self._work, self._device = work, device

    def __call__(self, items: list[T]) -> list[R]:
        """Return the results of all items, in order; UsageError if not even one item fits."""
        results: list[R] = []
        while len(results) < len(items):
            left = len(items) - len(results)
            count = self.most - 1 if left == self.most + 1 > 3 else self.most  # leave none alone
            part = items[len(results) : len(results) + count]
            done = self._attempt(part)
            if done is None:
                self._halve(len(part))
            else:
                results += done
        return results

    def _attempt(self, part: list[T]) -> list[R] | None:
        """None where the memory does not suffice. What was computed until then is free again only
        once the exception is gone, so the next attempt must not be made where it is handled."""
        try:
            return self._work(part)
        except torch.OutOfMemoryError:
            return None

    def _halve(self, length: int) -> None:
        if length == 1:
            raise UsageError(
                f"{self._device} has too little free memory for one window; use --device cpu "
                "or --precision fp16"
            )
        self.most = length // 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class Forward:
    """A network on a device, over the windows of one video or of several."""

    def __init__(
        self, network: SaliencyNetwork, device: torch.device, precision: torch.dtype, batch: int
    ) -> None:
        """Take a network.

        Args:
            precision: compute dtype; below float32 by autocast.
            batch: windows in one forward pass.
        """
        self._network = network
        self._device = device
        self._precision = precision
        self._encode = Batches(self._image_features, FRAMES_AT_ONCE, device)
        self._predict = Batches(self._log_densities, batch, device)

    def batches(
        self, windows: Iterable[WindowInput]
    ) -> Iterator[list[tuple[WindowInput, torch.Tensor]]]:
        """Yield batches of windows, each with its (h, w) float32 log-density on the device."""
        waiting = iter(windows)
        while group := list(itertools.islice(waiting, self._predict.most)):
            with torch.inference_mode(), self._autocast():
                self._look_at(group)
                maps = self._predict(group)
            yield list(zip(group, maps, strict=True))

    def _autocast(self) -> torch.autocast:
        half = self._precision != torch.float32
        dtype = self._precision if half else None
        return torch.autocast(self._device.type, dtype=dtype, enabled=half)

    def _look_at(self, group: list[WindowInput]) -> None:
        """Normalise the frames that no earlier window had and compute their image features."""
        seen = dict.fromkeys(frame for inputs in group for frame in inputs.frames)
        new = sorted(
            (frame for frame in seen if frame.features is None), key=lambda frame: frame.tag.index
        )
        for frame, (pixels, features) in zip(new, self._encode(new), strict=True):
            frame.features = features
            if self._network.uses_pixels:
                frame.pixels = pixels

    def _image_features(
        self, frames: list[CachedFrame]
    ) -> list[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]:
        stacked = torch.stack([frame.pixels for frame in frames])
        pixels = normalise(to_device(stacked, self._device))
        features = self._network.image_features(pixels)
        return [
            (pixels[place], tuple(part[place] for part in features)) for place in range(len(frames))
        ]

    def _log_densities(self, group: list[WindowInput]) -> list[torch.Tensor]:
        clips = None
        if self._network.uses_pixels:
            clips = torch.stack(
                [torch.stack([frame.pixels for frame in w.frames], dim=1) for w in group]
            )
        spectrograms = to_device(
            torch.stack([inputs.spectrogram for inputs in group]), self._device
        )
        frames = [frame.features for inputs in group for frame in inputs.frames]
        features = tuple(
            _stack(maps).unflatten(0, (len(group), -1)) for maps in zip(*frames, strict=True)
        )
        return list(self._network.forward_with_features(clips, features, spectrograms).float())


def _stack(maps: Iterable[torch.Tensor]) -> torch.Tensor:
    """Maps (C, h, w) as (N, C, h, w), in channels-last memory as the encoder left them."""
    return torch.stack([features.movedim(0, -1) for features in maps]).movedim(-1, 1)
