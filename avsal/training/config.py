"""What a training run is: everything that a TOML file can say, with the paper's values as defaults.

The tables of the file are the fields of `Config`; `avsal.training.parsing` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avsal.errors import UsageError
from avsal.models.variants import VARIANTS, Variant
from avsal.prediction.settings import PRECISIONS
from avsal.training.parsing import from_table, override, read_toml

TASKS = ("avsp", "image")
PARTS = ("image", "audio", "motion")
BATCH_NORM_FROM = 3  # samples; below that the heads' BatchNorm would explode (section 4.3)


def _require(true: bool, text: str) -> None:
    if not true:
        raise UsageError(text)


def _one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    _require(value in allowed, f"{key} = {value!r}: give one of {', '.join(allowed)}")


def _at_least(key: str, value: float, least: float) -> None:
    _require(value >= least, f"{key} = {value}: give {least} or more")


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run goes.

    Attributes:
        output: folder of the checkpoints, logs and curves.
        task: "avsp" trains the whole network, "image" the image saliency encoder with a decoder.
        seed: of the initial weights, the order of the samples, windows and augmentation.
        device, precision: as for `avsal predict`.
        workers: processes that decode; 0 decodes in the training process.
        checkpoint_steps: also save every so many optimiser steps; 0 saves after epochs only.
        log_steps: write a row of steps.csv every so many optimiser steps.
        tensorboard: also write TensorBoard's event files.
    """

    output: str
    task: str = "avsp"
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    workers: int = 2
    checkpoint_steps: int = 0
    log_steps: int = 1
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _one_of("run.task", self.task, TASKS)
        _one_of("run.precision", self.precision, PRECISIONS)
        _at_least("run.workers", self.workers, 0)
        _at_least("run.checkpoint_steps", self.checkpoint_steps, 0)
        _at_least("run.log_steps", self.log_steps, 1)


@dataclass(frozen=True)
class NetworkSettings:
    """Which network, and what it starts from.

    Attributes:
        variant: a row of `avsal models`.
        changes: fields of the variant to replace, "none" leaving an encoder out (Table 2).
        initial: weights in the order in which they are laid over each other: whole networks,
            encoders from `avsal weights import --component`, results of an image run.
        freeze: encoders that stay as they are: no gradients, evaluation mode (section 3.2).
        head_norm: of the alignment heads; "auto" is BatchNorm where a process has 3 samples or
            more in a batch, else LayerNorm (section 4.3).
    """

    variant: str
    changes: dict[str, Any] = field(default_factory=dict)
    initial: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ("image", "audio")
    head_norm: str = "auto"

    def __post_init__(self) -> None:
        _one_of("network.variant", self.variant, VARIANTS)
        _one_of("network.head_norm", self.head_norm, ("auto", "batch", "layer"))
        for part in self.freeze:
            _one_of("network.freeze", part, PARTS)

    def resolved(self, batch: int) -> Variant:
        """The variant with its changes, for `batch` samples at once."""
        norm = self.head_norm
        if norm == "auto":
            norm = "batch" if batch >= BATCH_NORM_FROM else "layer"
        base = {**vars(VARIANTS[self.variant]), **self.changes, "head_norm": norm}
        return from_table(Variant, base, "network.changes")


@dataclass(frozen=True)
class SetSettings:
    """One set of recordings; `avsal.datasets` tells by what is on disk which form it has.

    Attributes:
        root: a folder in the STAViS layout, a folder of pictures, a packed .npz file, a video or
            folder of videos with `fixations`, a folder of videos with `maps`.
        databases, fold, split: of the STAViS layout; no database takes all, split "" is the train
            list in data.train and the test list in data.validation.
        names, without: text files, one name a line, of the recordings to take or to leave out.
        fixations, units, degree: table of gaze on videos, see `avsal.datasets.DatasetSpec`.
        maps: folder with a folder of maps for each video of root, as `avsal predict` writes them.
        repeat: how many times an epoch goes through the set.
    """

    root: str
    databases: tuple[str, ...] = ()
    fold: int = 1
    split: str = ""
    names: str = ""
    without: str = ""
    fixations: str = ""
    units: str = "auto"
    degree: float = 0.0
    maps: str = ""
    repeat: int = 1

    def __post_init__(self) -> None:
        _one_of("data split", self.split, ("", "train", "test"))
        _at_least("data repeat", self.repeat, 1)


@dataclass(frozen=True)
class DataSettings:
    """Training and validation sets.

    Attributes:
        train, validation: sets, all concatenated (section 4.3).
        windows: how many windows of every validation video are scored, evenly spaced.
    """

    train: tuple[SetSettings, ...]
    validation: tuple[SetSettings, ...] = ()
    windows: int = 4

    def __post_init__(self) -> None:
        _require(bool(self.train), "data.train: give at least one [[data.train]] table")
        _at_least("data.windows", self.windows, 1)


@dataclass(frozen=True)
class AugmentSettings:
    """Changes to training samples, all off as in the paper.

    Attributes:
        flip: probability of mirroring left and right.
        crop: largest share of each side that a crop may cut off, 0..0.9.
        colour: largest relative change of brightness, contrast and saturation, 0..1.
        pan: largest share of each side over which the view of a still image may wander and zoom
            while its 16 frames last; the map moves along. Videos are not panned.
        still: share of the still images that are not panned.
    """

    flip: float = 0.0
    crop: float = 0.0
    colour: float = 0.0
    pan: float = 0.0
    still: float = 0.0

    def __post_init__(self) -> None:
        for key, most in (
            ("flip", 1.0),
            ("crop", 0.9),
            ("colour", 1.0),
            ("pan", 0.9),
            ("still", 1.0),
        ):
            value = getattr(self, key)
            _require(0 <= value <= most, f"augment.{key} = {value}: give 0 to {most}")


@dataclass(frozen=True)
class LossSettings:
    """Weights of the loss's terms (eq. 10 and 11).

    Attributes:
        kl, cc: of the saliency loss.
        alignment: lambda of eq. 11; 0 trains without the alignment heads.
    """

    kl: float = 1.0
    cc: float = 1.0
    alignment: float = 1.0


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW, batches and averaging.

    Attributes:
        learning_rate, weight_decay: of AdamW.
        batch: samples in one forward pass of one process.
        accumulate: forward passes of each process that one optimiser step adds up.
        clip: largest norm of the gradient; 0 does not clip.
        ema: decay of the weights' moving average, which is then validated and exported; 0 has none.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    batch: int = 4
    accumulate: int = 1
    clip: float = 0.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        _at_least("optimiser.batch", self.batch, 1)
        _at_least("optimiser.accumulate", self.accumulate, 1)
        _at_least("optimiser.clip", self.clip, 0)
        _require(self.learning_rate > 0, "optimiser.learning_rate: give more than 0")
        _require(0 <= self.ema < 1, f"optimiser.ema = {self.ema}: give 0 to below 1")


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, and how the learning rate falls.

    Attributes:
        epochs: one random window of every training video each.
        kind: "step" multiplies by `factor` after each of the `milestones`, "cosine" falls to
            `factor` at the end.
        warmup: epochs over which the rate rises linearly from 0.
        validate_every: epochs between validations; the last epoch is always validated.
    """

    epochs: int = 120
    kind: str = "step"
    milestones: tuple[int, ...] = (60,)
    factor: float = 0.1
    warmup: float = 0.0
    validate_every: int = 10

    def __post_init__(self) -> None:
        _one_of("schedule.kind", self.kind, ("step", "cosine"))
        _at_least("schedule.epochs", self.epochs, 1)
        _at_least("schedule.warmup", self.warmup, 0)
        _at_least("schedule.validate_every", self.validate_every, 1)


@dataclass(frozen=True)
class Config:
    """A whole training run; see the classes of its fields."""

    run: RunSettings
    network: NetworkSettings
    data: DataSettings
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()

    def __post_init__(self) -> None:
        variant = self.variant
        if self.run.task == "image":
            _require(variant.image is not None, f"{variant.name} has no image encoder to train")

    @property
    def variant(self) -> Variant:
        """The network that is trained."""
        return self.network.resolved(self.optimiser.batch)


def read_config(path: Path, changes: Iterable[str] = ()) -> Config:
    """Read a run's settings.

    Args:
        path: TOML file.
        changes: "table.key=value" each, over what the file says.

    Raises:
        UsageError: the file cannot be read, or a key, a type or a value is wrong.
    """
    table = read_toml(path)
    for change in changes:
        override(table, change)
    try:
        return from_table(Config, table)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
