"""The data of a run: opening its sets, reading everything for a dry run, and making batches."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from avsal.datasets import open_dataset
from avsal.datasets.recording import Recording
from avsal.errors import AvsalError, DataError
from avsal.prediction.threads import BoundedPool
from avsal.training.config import Config, SetSettings, expand
from avsal.training.engine import Engine
from avsal.training.samples import Inputs, Key, Sample, TrainingSamples, collated

Parts = list[Sample]  # of a batch, see `collated`


@dataclass(frozen=True)
class Report:
    """Result of a dry run for the training or the validation sets.

    Attributes:
        split: "train" or "validation".
        recordings: number of videos and pictures.
        stills: how many of them are pictures.
        heard: how many of them have sound.
        shapes: number of recordings by the tensors of their sample, such as
            "clip (3, 16, 224, 384) uint8".
        problems: one line each.
    """

    split: str
    recordings: int
    stills: int
    heard: int
    shapes: dict[str, int]
    problems: tuple[str, ...]


def inspect(
    config: Config, progress: Callable[[str, int, int], None] = lambda split, done, total: None
) -> Iterator[Report]:
    """Read all data of a run once, and make a sample of each recording.

    Args:
        progress: called with the split's name, the recordings done and their total.

    Raises:
        DataError: a whole set cannot be opened.
    """
    for split, sets, stavis_split in (
        ("train", config.data.train, "train"),
        ("validation", config.data.validation, "test"),
    ):
        recordings = {id(recording): recording for recording in open_sets(sets, stavis_split)}
        if recordings:
            yield _inspect(config, split, list(recordings.values()), partial(progress, split))


def _inspect(
    config: Config, split: str, recordings: list[Recording], progress: Callable[[int, int], None]
) -> Report:
    inputs = Inputs(config.variant, alone=config.run.task == "image")
    samples = TrainingSamples(recordings, inputs, config.augment, config.run.seed)
    problems: dict[str, None] = {}  # in order, each once
    counts: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    workers = max(1, config.run.workers)
    with BoundedPool(workers, 2 * workers, "avsal-inspect") as pool:
        read = pool.map(partial(_read, samples), range(len(recordings)))
        for done, (new_problems, properties, shape) in enumerate(read, start=1):
            problems.update(dict.fromkeys(new_problems))
            counts.update(properties)
            shapes.update(shape)
            progress(done, len(recordings))
    return Report(
        split, len(recordings), counts["still"], counts["sound"], dict(shapes), tuple(problems)
    )


def _read(samples: TrainingSamples, index: int) -> tuple[list[str], list[str], list[str]]:
    """Problems of a recording, which of "still" and "sound" it is or has, and its sample's shape.

    The shape is missing if no sample can be made.
    """
    problems: list[str] = []
    properties: list[str] = []
    recording = samples.recordings[index]
    try:
        problems += recording.problems()
        properties += ["still"] * recording.still + ["sound"] * recording.has_sound
        return problems, properties, [_shapes(samples[0, index])]
    except AvsalError as error:
        return [*problems, str(error)], properties, []


def _shapes(sample: Sample) -> str:
    return ", ".join(
        f"{name} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in sample.items()
        if tensor.dim()
    )


def open_sets(sets: tuple[SetSettings, ...], split: str) -> list[Recording]:
    """List the recordings of sets, those of repeated sets several times.

    Args:
        split: "train" or "test", the STAViS list for sets that name none.

    Raises:
        DataError: a folder, a list or a file is missing or malformed.
    """
    opened: list[Recording] = []
    for one in sets:
        paths = {name: expand(value) for name, value in one if isinstance(value, Path)}
        recordings = open_dataset(one.model_copy(update=paths), split)
        if not recordings:
            root = paths["root"]
            raise DataError(f"{root}: the lists leave nothing of this set; check names, without")
        opened += recordings * one.repeat
    return opened


class BatchOrder:
    """Keys of the batches of one process, a `batch_sampler` for a DataLoader.

    The order differs from epoch to epoch and is the same in all processes. Set `epoch` and `start`,
    the number of batches to skip, before iterating. Samples that do not fill a batch of every
    process are left to another epoch.
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
            yield [(self.epoch, int(index)) for index in batch]


class _SamplesOrErrors(Dataset[Sample | AvsalError]):
    """Samples, or errors as values: raised in a worker, they would return with a traceback."""

    def __init__(self, samples: TrainingSamples) -> None:
        self._samples = samples

    def __getitem__(self, key: Key) -> Sample | AvsalError:
        try:
            return self._samples[key]
        except AvsalError as error:
            return error


def _collated_or_error(samples: list[Sample | AvsalError]) -> Parts | AvsalError:
    errors = [sample for sample in samples if isinstance(sample, AvsalError)]
    return errors[0] if errors else collated(cast(Parts, samples))


class Batches:
    """The training batches of one process of a run."""

    def __init__(
        self, recordings: Sequence[Recording], config: Config, inputs: Inputs, engine: Engine
    ) -> None:
        """Start no workers yet; see `BatchOrder` for errors."""
        samples = TrainingSamples(recordings, inputs, config.augment, config.run.seed)
        count, batch = len(recordings), config.optimiser.batch
        self._order = BatchOrder(count, batch, config.run.seed, engine.rank, engine.world)
        self._loader: DataLoader[Any] | None = DataLoader(
            _SamplesOrErrors(samples),
            batch_sampler=self._order,
            collate_fn=_collated_or_error,
            num_workers=config.run.workers,
            persistent_workers=config.run.workers > 0,
            worker_init_fn=_start_worker,
            pin_memory=engine.device.type == "cuda",
            # Loaders draw a number per epoch, which must not change the global generator.
            generator=torch.Generator(),
        )
        self._iterator: Iterator[Parts | AvsalError] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of this process in an epoch."""
        return len(self._order)

    def training(self, epoch: int, start: int) -> Iterator[Parts]:
        """Batches of an epoch from number `start` on; see `samples.collated`.

        Raises:
            DataError, MediaError: a recording cannot be read.
        """
        assert self._loader is not None, "not closed"
        self._order.epoch, self._order.start = epoch, start
        self._iterator = iter(self._loader)
        # No local variable refers to the iterator, so that `close` can end it.
        while self._iterator is not None:
            parts = next(self._iterator, None)
            if parts is None:
                return
            if isinstance(parts, AvsalError):
                raise parts
            yield parts

    def close(self) -> None:
        """End the workers by dropping the loader.

        At the interpreter's exit it would be too late, as they ignore signals.
        """
        self._loader = self._iterator = None


def _start_worker(_number: int) -> None:
    """Leave signals to the main process, which still has to save, and use one core."""
    import cv2

    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)
    cv2.setNumThreads(0)
