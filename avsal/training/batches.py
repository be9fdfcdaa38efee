"""The data of a run: its recordings, checked, and batches of them."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from avsal.datasets import DatasetSpec, open_dataset
from avsal.datasets.recording import Recording
from avsal.errors import AvsalError, DataError
from avsal.prediction.threads import BoundedPool
from avsal.training.config import Config, SetSettings, expand
from avsal.training.engine import Engine
from avsal.training.objectives import inputs_of
from avsal.training.samples import Inputs, Key, Sample, TrainingSamples, collated

PATHS = ("root", "names", "without", "maps", "fixations")  # settings of a set that are paths

# What a worker makes of a batch: its parts, or what is wrong with the data.
Parts = list[Sample]


@dataclass(frozen=True)
class Report:
    """What a dry run found in the training or the validation sets.

    Attributes:
        split: "train" or "validation".
        recordings: videos and pictures.
        stills: how many of them are pictures.
        heard: how many of them have sound.
        shapes: the tensors of a sample, as "clip (3, 16, 224, 384) uint8", and of how many
            recordings the sample is so.
        problems: one line for each thing that is broken.
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
    """Read every frame, map, fixation and sound of a run once, and make a sample of each recording.

    Args:
        progress: takes the split's name, recordings done and all recordings.

    Raises:
        DataError: a whole set cannot be opened.
    """
    data = config.data
    for split, sets, part in (
        ("train", data.train, "train"),
        ("validation", data.validation, "test"),
    ):
        recordings = list(
            {id(recording): recording for recording in open_sets(sets, part)}.values()
        )
        if recordings:
            yield _read_all(config, split, recordings, partial(progress, split))


def _read_all(
    config: Config, split: str, recordings: list[Recording], progress: Callable[[int, int], None]
) -> Report:
    inputs = inputs_of(config)
    samples = TrainingSamples(recordings, inputs, config.augment, config.run.seed)
    problems: dict[str, None] = {}  # each once
    shapes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    workers = max(1, config.run.workers)
    with BoundedPool(workers, 2 * workers, "avsal-inspect") as pool:
        read = partial(_read, samples)
        everything = pool.map(read, range(len(recordings)))
        for done, (found, shape, kind) in enumerate(everything, start=1):
            problems.update(dict.fromkeys(found))
            shapes.update([shape] if shape else [])
            kinds.update(kind)
            progress(done, len(recordings))
    return Report(
        split,
        len(recordings),
        kinds["still"],
        kinds["heard"],
        dict(shapes),
        tuple(problems),
    )


def _read(samples: TrainingSamples, index: int) -> tuple[list[str], str, dict[str, int]]:
    """Problems of a recording, what a sample of it looks like, and whether it is still or heard."""
    problems: list[str] = []
    shape, kind = "", dict[str, int]()
    recording = samples.recordings[index]
    try:
        problems += recording.problems()
        kind = {"still": int(recording.still), "heard": int(recording.has_sound)}
        shape = _shapes(samples[0, index])
    except AvsalError as error:
        problems.append(str(error))
    return problems, shape, kind


def _shapes(sample: Sample) -> str:
    return ", ".join(
        f"{name} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in sample.items()
        if tensor.dim()
    )


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
    given = settings.model_dump(exclude={"repeat"}, exclude_defaults=True)
    paths = {name: expand(given[name]) for name in PATHS if name in given}
    spec = DatasetSpec(**{"split": split, **given, **paths})
    recordings = open_dataset(spec)
    if not recordings:
        raise DataError(f"{spec.root}: the lists leave nothing of this set; check names, without")
    return recordings


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


class _Checked(Dataset[Sample | AvsalError]):
    """Samples, or what is wrong with them: an error that a worker raises would come back with the
    worker's traceback in its text."""

    def __init__(self, samples: TrainingSamples) -> None:
        self._samples = samples

    def __getitem__(self, key: Key) -> Sample | AvsalError:
        try:
            return self._samples[key]
        except AvsalError as error:
            return error


def _parts(samples: list[Sample | AvsalError]) -> Parts | AvsalError:
    good = []
    for sample in samples:
        if isinstance(sample, AvsalError):
            return sample
        good.append(sample)
    return collated(good)


class Batches:
    """The training batches of one process of a run.

    Attributes:
        recordings: for training, repeated ones several times.
    """

    def __init__(self, config: Config, inputs: Inputs, engine: Engine) -> None:
        """Open the training sets; see `open_sets` and `BatchOrder` for errors.

        Raises:
            MediaError: a video cannot be read.
        """
        self.recordings = open_sets(config.data.train, "train")
        for recording in self.recordings:  # a bad file must not stop a run in its middle
            _ = recording.still
        samples = TrainingSamples(self.recordings, inputs, config.augment, config.run.seed)
        count, batch = len(self.recordings), config.optimiser.batch
        self._order = BatchOrder(count, batch, config.run.seed, engine.rank, engine.world)
        self._loader: DataLoader[Any] | None = DataLoader(
            _Checked(samples),
            batch_sampler=self._order,
            collate_fn=_parts,
            **_settings(config.run.workers, engine),
        )
        self._iterator: Iterator[Parts | AvsalError] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this process in an epoch."""
        return len(self._order)

    def training(self, epoch: int, start: int) -> Iterator[Parts]:
        """Batches of an epoch, from the one numbered `start` on; see `samples.collated`.

        Raises:
            DataError, MediaError: a recording cannot be read.
        """
        assert self._loader is not None, "not closed"
        self._order.epoch, self._order.start = epoch, start
        self._iterator = iter(self._loader)
        # Nothing but this object refers to the iterator, so that `close` can end it.
        while self._iterator is not None:
            parts = next(self._iterator, None)
            if parts is None:
                return
            if isinstance(parts, AvsalError):
                raise parts
            yield parts

    def close(self) -> None:
        """End the workers, which happens when nothing refers to the loader; at the interpreter's
        exit it would be too late, as they ignore signals."""
        self._loader = self._iterator = None


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
