"""The processes that make samples, and the batches that come out of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from avsal.errors import AvsalError
from avsal.training.config import Config
from avsal.training.engine import Engine
from avsal.training.order import Batches
from avsal.training.samples import Inputs, Sample, TrainingSamples, ValidationSamples
from avsal.training.sets import open_sets


class Loading:
    """Training and validation batches of one process of a run.

    Attributes:
        count: training recordings, repeated ones counted each time.
    """

    def __init__(self, config: Config, inputs: Inputs, engine: Engine) -> None:
        """Open all sets; see `open_sets` and `Batches` for errors."""
        recordings = open_sets(config.data.train, "train")
        self.count = len(recordings)
        samples = TrainingSamples(recordings, inputs, config.augment, config.run.seed)
        batch = config.optimiser.batch
        self._batches = Batches(self.count, batch, config.run.seed, engine.rank, engine.world)
        shared = _settings(config.run.workers, engine)
        self._training: DataLoader[Sample] = DataLoader(
            samples, batch_sampler=self._batches, **shared
        )
        scored = ValidationSamples(
            open_sets(config.data.validation, "test"), inputs, config.data.windows
        )
        self.has_validation = len(scored) > 0
        share = Subset(scored, range(engine.rank, len(scored), engine.world))
        self._validation: DataLoader[Sample] = DataLoader(share, batch_size=batch, **shared)
        self._iterators: dict[int, Iterator[Sample]] = {}

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this process in an epoch."""
        return len(self._batches)

    def training(self, epoch: int, start: int) -> Iterator[Sample]:
        """Batches of an epoch, from the one numbered `start` on."""
        self._batches.epoch, self._batches.start = epoch, start
        return self._opened(self._training)

    def validation(self) -> Iterator[Sample]:
        """This process's share of the validation samples."""
        return self._opened(self._validation)

    def close(self) -> None:
        """End the workers; at the interpreter's exit it would be too late, they ignore signals."""
        for iterator in self._iterators.values():
            shut_down = getattr(iterator, "_shutdown_workers", None)
            if shut_down is not None:
                shut_down()
        self._iterators.clear()

    def _opened(self, loader: DataLoader[Sample]) -> Iterator[Sample]:
        iterator = self._iterators[id(loader)] = iter(loader)
        return _with_short_errors(iterator)


def _with_short_errors(batches: Iterator[Sample]) -> Iterator[Sample]:
    """Take the worker's traceback, which loaders add, off avsal's own errors again."""
    try:
        yield from batches
    except AvsalError as error:
        kind = type(error)
        *_, text = str(error).rpartition(f"{kind.__module__}.{kind.__name__}: ")
        raise kind(text.strip()) from None


def _settings(workers: int, engine: Engine) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "worker_init_fn": _start_worker,
        "pin_memory": engine.device.type == "cuda",
        # Its own: loaders draw a number a pass, and the global generator must not notice.
        "generator": torch.Generator(),
    }


def _start_worker(_number: int) -> None:
    """Leave signals to the main process, which still has to save, and take one core each."""
    import cv2

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
