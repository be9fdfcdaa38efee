"""The network over one video, window after window, sharing what windows have in common."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch

from avsal import models
from avsal.errors import UsageError
from avsal.prediction.feed import WindowInput
from avsal.preprocess.frames import normalise
from avsal.preprocess.windows import CLIP_FRAMES, PAST_FRAMES, seen_frames


class FeatureCache:
    """The network over one video: keeps each frame's features for the windows that contain it."""

    def __init__(
        self, network: models.MSPI, device: torch.device, precision: torch.dtype, batch: int
    ) -> None:
        self._network = network
        self._device = device
        self._precision = precision
        self._batch = batch
        self._pixels: dict[int, torch.Tensor] = {}
        self._features: dict[int, tuple[torch.Tensor, ...]] = {}
        self._waiting: dict[int, torch.Tensor] = {}  # frames that no window has looked at yet

    def batches(
        self, windows: Iterable[WindowInput]
    ) -> Iterator[list[tuple[WindowInput, torch.Tensor]]]:
        """Yield batches of windows, each with its (h, w) log-density on the device."""
        waiting = iter(windows)
        while group := list(itertools.islice(waiting, self._batch)):
            yield list(zip(group, self._forward(group), strict=True))

    def _forward(self, group: list[WindowInput]) -> list[torch.Tensor]:
        """Run a batch; halve it as long as the device's memory does not suffice."""
        try:
            with torch.inference_mode(), self._autocast():
                self._add_frames(group)
                maps = list(self._log_densities(group).float())
        except torch.OutOfMemoryError:
            if len(group) == 1:
                raise UsageError(
                    f"{self._device} has too little free memory for one window; use --device cpu "
                    "or --precision fp16"
                ) from None
            torch.cuda.empty_cache()
            self._batch = len(group) // 2
            halves = group[: self._batch], group[self._batch :]
            return [log_density for half in halves for log_density in self._forward(half)]
        self._forget(group[-1].window.target + 1 - PAST_FRAMES)
        return maps

    def _autocast(self) -> torch.autocast:
        half = self._precision != torch.float32
        dtype = self._precision if half else None
        return torch.autocast(self._device.type, dtype=dtype, enabled=half)

    def _add_frames(self, group: list[WindowInput]) -> None:
        """Normalise frames and compute what the image encoder says of each, once."""
        for inputs in group:
            self._waiting |= inputs.new_frames
        seen = {index for inputs in group for index in self._seen(inputs)}
        missing = sorted(seen - self._features.keys())
        for start in range(0, len(missing), CLIP_FRAMES):
            indices = missing[start : start + CLIP_FRAMES]
            stacked = torch.stack([self._waiting[index] for index in indices])
            pixels = normalise(stacked.to(self._device, non_blocking=True))
            features = self._network.image_features(pixels) if self._network.uses_images else ()
            for place, index in enumerate(indices):
                self._features[index] = tuple(part[place] for part in features)
                if self._network.uses_pixels:
                    self._pixels[index] = pixels[place]
                del self._waiting[index]

    def _log_densities(self, group: list[WindowInput]) -> torch.Tensor:
        clips = None
        if self._network.uses_pixels:
            clips = torch.stack([self._clip(inputs) for inputs in group])
        spectrograms = torch.stack([inputs.spectrogram for inputs in group]).to(self._device)
        features = self._stacked_features(group)
        return self._network.forward_with_features(clips, features, spectrograms)

    def _seen(self, inputs: WindowInput) -> tuple[int, ...]:
        return seen_frames(inputs.window, self._network.frames)

    def _clip(self, inputs: WindowInput) -> torch.Tensor:
        return torch.stack([self._pixels[index] for index in self._seen(inputs)], dim=1)

    def _stacked_features(self, group: list[WindowInput]) -> tuple[torch.Tensor, ...]:
        """The frames' features, (B, T, C, h, w) each."""
        frames = [self._features[index] for inputs in group for index in self._seen(inputs)]
        return tuple(
            _stack(maps).unflatten(0, (len(group), -1)) for maps in zip(*frames, strict=True)
        )

    def _forget(self, before: int) -> None:
        self._waiting = {i: frame for i, frame in self._waiting.items() if i >= before}
        self._pixels = {i: pixels for i, pixels in self._pixels.items() if i >= before}
        self._features = {i: parts for i, parts in self._features.items() if i >= before}


def _stack(maps: Iterable[torch.Tensor]) -> torch.Tensor:
    """Maps (C, h, w) as (N, C, h, w), in channels-last memory as the encoder left them."""
    return torch.stack([each.movedim(0, -1) for each in maps]).movedim(-1, 1)
