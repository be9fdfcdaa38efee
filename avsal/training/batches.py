"""From the tables of the settings to batches: sets of recordings, their order, worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from avsal.datasets import DatasetSpec, open_dataset
from avsal.datasets.recording import Recording
from avsal.errors import AvsalError, DataError
from avsal.training.config import Config, SetSettings, expand
from avsal.training.engine import Engine
from avsal.training.samples import Inputs, Key, Sample, TrainingSamples, ValidationSamples


def open_sets(sets: tuple[SetSettings, ...], split: str) -> list[Recording]:
    """List the recordings of sets, those of repeated sets several times.

    Args:
        split: the STAViS list of sets that name none, "train" or "test".

    Raises:
        DataError: a folder, a list or a file is missing or malformed.
    """
    return [item for one in sets for item in open_set(one, split) * one.repeat]


def open_set(settings: SetSettings, split: str) -> list[Recording]:
    """List the recordings of one set once; see `open_sets`."""
    root = expand(settings.root)
    recordings = open_dataset(
        DatasetSpec(
            root,
            settings.databases,
            settings.split or split,
            settings.fold,
            _path(settings.names),
            _path(settings.without),
            _path(settings.maps),
            _path(settings.fixations),
            settings.units,
            settings.degree or None,
        )
    )
    if not recordings:
        raise DataError(f"{root}: the lists leave nothing of this set; check names and without")
    return recordings


def _path(text: str) -> Path | None:
    return expand(text) if text else None


class BatchOrder:
    """Keys of the batches of one process; every epoch has its own order, the same in all processes.

    A `batch_sampler` for a DataLoader. Set `epoch` and `start`, the number of batches to leave out,
    before going through it. What does not fill a batch of every process waits for another epoch.
    """

    def __init__(self, count: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        """Take the number of samples.

        Raises:
            DataError: there are fewer samples than a batch needs.
        """
        self._count, self._batch, self._seed = count, batch, seed
        self._rank, self._world = rank, world
        self.epoch = 0
        self.start = 0
        if len(self) == 0:
            raise DataError(
                f"{count} training samples do not fill a batch of {batch} in "
                f"{world} processes; lower optimiser.batch or set data.train repeat"
            )

    def __len__(self) -> int:
        return self._count // (self._batch * self._world)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._count)
        whole = order[: len(self) * self._world * self._batch]
        for batch in whole.reshape(-1, self._world, self._batch)[self.start :, self._rank]:
            yield [(self.epoch, int(place)) for place in batch]


class Batches:
    """Training and validation batches of one process of a run.

    Attributes:
        count: training recordings, repeated ones counted each time.
    """

    def __init__(self, config: Config, inputs: Inputs, engine: Engine) -> None:
        """Open all sets; see `open_sets` and `BatchOrder` for errors.

        Raises:
            MediaError: a video cannot be read.
        """
        recordings = open_sets(config.data.train, "train")
        for recording in recordings:  # opened now: a bad file must not stop a run in its middle
            _ = recording.still
        self.count = len(recordings)
        samples = TrainingSamples(recordings, inputs, config.augment, config.run.seed)
        batch = config.optimiser.batch
        self._order = BatchOrder(self.count, batch, config.run.seed, engine.rank, engine.world)
        shared = _settings(config.run.workers, engine)
        self._training: DataLoader[Sample] = DataLoader(
            samples, batch_sampler=self._order, **shared
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
        return len(self._order)

    def training(self, epoch: int, start: int) -> Iterator[Sample]:
        """Batches of an epoch, from the one numbered `start` on."""
        self._order.epoch, self._order.start = epoch, start
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
