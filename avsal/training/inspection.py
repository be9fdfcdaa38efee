"""A dry run: read everything once that a run would read, and tell what is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from avsal.datasets.recording import Recording
from avsal.errors import AvsalError
from avsal.pool import BoundedPool
from avsal.training.batches import open_sets
from avsal.training.config import Config
from avsal.training.objectives import inputs_of
from avsal.training.samples import Sample, TrainingSamples


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
