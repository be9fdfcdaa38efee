"""A network computed by PyTorch, batch after batch of windows.

What depends on a frame alone is computed once.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from avsal.errors import UsageError
from avsal.models.folding import convert_weights, prepare_for_inference
from avsal.models.network import Features, SaliencyNetwork, normalise
from avsal.prediction.device import automatic_batch, precision_name
from avsal.prediction.frames import CachedFrame, PredictedBatch, WindowInput
from avsal.prediction.inputs import log_spectrogram

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


class TorchEngine:
    """A network that PyTorch computes, on a CPU or on CUDA.

    Attributes:
        name: "torch".
        device, precision: as the command line names them.
        network: in its inference form.
    """

    name = "torch"

    def __init__(
        self, network: SaliencyNetwork, device: torch.device, precision: torch.dtype
    ) -> None:
        """Take a loaded network.

        Args:
            network: in the state in which `load_state_dict` leaves it; put into inference form.
            precision: compute dtype; below float32 by autocast.
        """
        prepared = prepare_for_inference(network.eval())
        self.network = convert_weights(prepared, precision).to(device)
        self.device, self.precision = str(device), precision_name(precision)
        self._device, self._dtype = device, precision

    def automatic_batch(self, pixels: int) -> int:
        """Number of windows of a size, in pixels, that fit into the device's memory at once."""
        on_cpu = self.network.variant.cpu_batch
        return automatic_batch(self._device, pixels, self._dtype, on_cpu)

    def batches(self, windows: Iterable[WindowInput], batch: int) -> Iterator[PredictedBatch]:
        """Yield batches of at most `batch` windows, each with its (h, w) float32 log-density.

        On a GPU a batch is fetched while the next one is computed.
        """
        encode = Batches(self._image_features, self._frames_at_once, self._device)
        predict = Batches(self._log_densities, batch, self._device)
        waiting, ahead = iter(windows), deque[tuple[list[WindowInput], _Fetched]]()
        most_ahead = 1 if self._device.type == "cuda" else 0
        while group := list(itertools.islice(waiting, predict.most)):
            with torch.inference_mode(), self._autocast():
                self._look_at(group, encode)
                ahead.append((group, _Fetched(predict(group))))
            if len(ahead) > most_ahead:
                yield _arrived(*ahead.popleft())
        yield from itertools.starmap(_arrived, ahead)

    @property
    def _frames_at_once(self) -> int:
        """Frames that go through the image encoder together: a frame's features must not depend on
        where reading began, and a window's first frames come 16 at once, later ones alone, which
        oneDNN computes by other kernels for MobileNet-V2."""
        variant = self.network.variant
        alone = variant.cpu_batch == 1 and variant.image == "mobilenet_v2"
        return 1 if alone else FRAMES_AT_ONCE

    def _autocast(self) -> torch.autocast:
        half = self._dtype != torch.float32
        dtype = self._dtype if half else None
        return torch.autocast(self._device.type, dtype=dtype, enabled=half)

    def _look_at(self, group: list[WindowInput], encode: Batches[Any, Any]) -> None:
        """Normalise the frames that no earlier window had and compute their image features."""
        seen = dict.fromkeys(frame for inputs in group for frame in inputs.frames)
        new = sorted(
            (frame for frame in seen if frame.features is None), key=lambda frame: frame.info.index
        )
        for frame, features in zip(new, encode(new), strict=True):
            frame.features = features

    def _image_features(
        self, frames: list[CachedFrame]
    ) -> list[tuple[torch.Tensor | None, Features]]:
        """The frames' normalised pixels, None where only features are needed, and features."""
        stacked = torch.from_numpy(np.stack([frame.pixels for frame in frames]))
        pixels = normalise(_to_device(stacked.permute(0, 3, 1, 2).contiguous(), self._device))
        features = self.network.image_features(pixels)
        kept = self.network.uses_pixels
        return [
            (pixels[index] if kept else None, tuple(part[index] for part in features))
            for index in range(len(frames))
        ]

    def _log_densities(self, group: list[WindowInput]) -> list[torch.Tensor]:
        clips = None
        frames = [frame.features for inputs in group for frame in inputs.frames]
        if self.network.uses_pixels:
            clips = torch.stack(
                [torch.stack([frame.features[0] for frame in w.frames], dim=1) for w in group]
            )
        sounds = np.stack([_or_silence(inputs.spectrogram) for inputs in group])
        spectrograms = _to_device(torch.from_numpy(sounds), self._device)
        features = tuple(
            _stack(maps).unflatten(0, (len(group), -1))
            for maps in zip(*(features for _pixels, features in frames), strict=True)
        )
        return list(self.network.forward_with_features(clips, features, spectrograms).float())


class _Fetched:
    """Maps on their way to the host; from a GPU without keeping the host waiting."""

    def __init__(self, maps: list[torch.Tensor]) -> None:
        self._maps = maps
        self._event: torch.cuda.Event | None = None
        if maps and maps[0].device.type == "cuda":
            self._maps = [_to_host(each) for each in maps]
            self._event = torch.cuda.current_stream(maps[0].device).record_event()

    def wait(self) -> list[np.ndarray]:
        """The maps on the host."""
        if self._event is not None:
            self._event.synchronize()
        return [each.numpy() for each in self._maps]


def _arrived(group: list[WindowInput], fetched: _Fetched) -> PredictedBatch:
    return list(zip(group, fetched.wait(), strict=True))


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    return host


def _to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a tensor to a device; to a GPU from page-locked memory, without waiting."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _or_silence(spectrogram: np.ndarray | None) -> np.ndarray:
    return log_spectrogram(np.zeros(0, np.float32)) if spectrogram is None else spectrogram


def _stack(maps: Iterable[torch.Tensor]) -> torch.Tensor:
    """Maps (C, h, w) as (N, C, h, w), in channels-last memory as the encoder left them."""
    return torch.stack([features.movedim(0, -1) for features in maps]).movedim(-1, 1)
