"""Tensors to a GPU and back without keeping the host waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a tensor to a device; to a GPU from page-locked memory, without waiting."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Fetched:
    """Tensors on their way to the host.

    On a GPU they travel in a stream of their own, while the next batch is computed.
    """

    def __init__(self, tensors: Iterable[torch.Tensor], copies: torch.cuda.Stream | None) -> None:
        """Start the copies.

        Args:
            copies: the stream for it; None for tensors that are on the host.
        """
        self._tensors = list(tensors)
        self._arrived: torch.cuda.Event | None = None
        if copies is not None:
            copies.wait_stream(torch.cuda.current_stream(copies.device))
            with torch.cuda.stream(copies):
                self._tensors = [_to_host(tensor, copies) for tensor in self._tensors]
                self._arrived = copies.record_event()

    def wait(self) -> list[torch.Tensor]:
        """The tensors on the host."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensors


def _to_host(tensor: torch.Tensor, copies: torch.cuda.Stream) -> torch.Tensor:
    host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    tensor.record_stream(copies)  # its memory is not given away before the copy is done
    return host


def behind(items: Iterable[T], count: int) -> Iterator[T]:
    """Give each item once `count` more have been taken, and at the end the rest."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
