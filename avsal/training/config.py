"""Settings of a training run, read from TOML."""

from __future__ import annotations

import difflib
import json
import math
import os
import reprlib
import tomllib
import typing
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from avsal.errors import UsageError
from avsal.models.variants import VARIANTS, Variant
from avsal.prediction.settings import Precision

_TOO_DEEP = "tables or arrays are nested too deep"
BATCH_NORM_FROM = 3  # samples; below that the heads' BatchNorm would explode (section 4.3)
NONE = "none"  # TOML has no null
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
SidePart = Annotated[float, Field(ge=0, le=0.9)]  # of a side that may be cut off


class Table(BaseModel):
    """A table of the file: unknown keys and values of another type are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


T = TypeVar("T", bound=Table)


def read_toml(path: Path, table: type[T], changes: Iterable[str] = ()) -> T:
    """Read a file.

    Args:
        path: TOML file.
        table: what it holds.
        changes: "table.key=value" each, over what the file says.

    Raises:
        UsageError: the file cannot be read, or a key, a type or a value is wrong.
    """
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise UsageError(f"{path}: cannot be read: no regular file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            _override(values, change)
        return table.model_validate_json(json.dumps(values))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        # Python 3.13's parsers go deeper than pydantic's, which then finds the JSON wrong.
        deep = error.errors()[0]["type"] == "json_invalid"
        line = _TOO_DEEP if deep else _first_line(error, table)
        raise UsageError(f"{path}: {line}") from None
    except RecursionError:
        raise UsageError(f"{path}: {_TOO_DEEP}") from None
    except TypeError:  # JSON has none
        raise UsageError(f"{path}: dates and times have no place here; use quotes") from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UsageError(f"{path}: no valid TOML: {error}") from None


def one_of(value: str, allowed: Iterable[str]) -> str:
    """Check a word against a table of words, for validators of fields."""
    if value not in allowed:
        raise PydanticCustomError(
            "one_of",
            "{value} is unknown; {suggestion}",
            {"value": reprlib.repr(value), "suggestion": _suggestion(value, allowed)},
        )
    return value


def _first_line(error: ValidationError, table: type[Table]) -> str:
    """The first thing that is wrong: "optimiser.batch: must be a valid integer, not 2.5"."""
    first, *others = error.errors(include_url=False)
    key, kind = _key(first["loc"]), first["type"]
    text = first["msg"].replace("Input should be", "must be").replace("an object", "a table")
    if kind == "extra_forbidden":
        *place, wrong = first["loc"]
        text = f"unknown key; {_suggestion(str(wrong), _keys_of(table, place))}"
    elif kind == "missing":
        text = "missing"
    elif text.startswith("must be"):
        text += f", not {reprlib.repr(first['input'])}"
    more = f" ({len(others)} more)" if others else ""
    return f"{key}: {text}{more}" if key else text + more


def _key(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _keys_of(table: Any, location: Iterable[int | str]) -> Iterable[str]:
    """The keys that a table inside a table may have."""
    for part in location:
        if isinstance(part, str):
            hint = table.model_fields[part].annotation
            table = (typing.get_args(hint) or (hint,))[0]
    keys: Iterable[str] = table.model_fields
    return keys


def _suggestion(wrong: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _override(table: dict[str, Any], change: str) -> None:
    """Put "a.b=value" into nested tables; the value is TOML, or else plain text.

    A number in the key counts the tables of an array from 0: "data.train.0.fold=2".

    Raises:
        UsageError: the text has another form, or an array is shorter.
    """
    key, equals, text = change.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not last:
        raise UsageError(f"--set {change}: give TABLE.KEY=VALUE")
    place: Any = table
    for parent in parents:
        place = _inner(place, parent, change)
    if not isinstance(place, dict):
        raise UsageError(f"--set {change}: {parents[-1]} is no table")
    try:
        place[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        place[last] = text.strip()


def _inner(place: Any, key: str, change: str) -> Any:
    if isinstance(place, dict):
        return place.setdefault(key, {})
    if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
        return place[int(key)]
    raise UsageError(f"--set {change}: the file has no {key} there")


class RunSettings(Table):
    """Where a run writes, and how it runs.

    Attributes:
        output: folder for the checkpoints and curves.
        task: "avsp" trains the whole network, "image" the image saliency encoder with a decoder.
        seed: for the initial weights, the order of the samples, windows and augmentation.
        device: as for `avsal predict`.
        precision: as for `avsal predict`.
        workers: processes that decode; 0 decodes in the training process.
        checkpoint_steps: also save after every n optimiser steps; 0 saves after epochs only.
        log_steps: write a row of steps.csv after every n optimiser steps.
        tensorboard: also write files for TensorBoard.
    """

    output: str
    task: Literal["avsp", "image"] = "avsp"
    seed: Count = 1
    device: str = "auto"
    precision: Precision = Precision.AUTO
    workers: Count = 2
    checkpoint_steps: Count = 0
    log_steps: Positive = 1
    tensorboard: bool = False


# The fields of a variant that a file may replace, all of them optional.
VariantChanges: type[Table] = create_model(
    "VariantChanges",
    __base__=Table,
    **{name: (hint, None) for name, hint in typing.get_type_hints(Variant).items()},  # type: ignore[call-overload]
)


class NetworkSettings(Table):
    """The network and its initial weights.

    Attributes:
        variant: a name from `avsal models`.
        changes: fields of the variant to replace; "none" omits an encoder (Table 2).
        initial: files of weights; later ones replace what earlier ones set. They may be whole
            networks, encoders from `avsal weights import --component`, or results of an image run.
        freeze: encoders that are not trained: no gradients, evaluation mode (section 3.2).
        head_norm: of the alignment heads; "auto" is BatchNorm where a process has 3 samples or
            more in a batch (section 4.3), else LayerNorm, as for the default network, whose
            pictures have several sizes.
    """

    variant: str
    changes: dict[str, Any] = Field(default_factory=dict)
    initial: tuple[str, ...] = ()
    freeze: tuple[Literal["image", "audio", "motion"], ...] = ("image", "audio")
    head_norm: Literal["auto", "batch", "layer"] = "auto"

    @field_validator("variant")
    @classmethod
    def _variant(cls, value: str) -> str:
        return one_of(value, VARIANTS)

    @field_validator("changes")
    @classmethod
    def _changes(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key in values:
            one_of(key, VariantChanges.model_fields)
        given = {key: None if value == NONE else value for key, value in values.items()}
        if "audio" in given:  # "none", as for the image encoder, or false
            given["audio"] = bool(given["audio"])
        checked = VariantChanges.model_validate_json(json.dumps(given))
        return checked.model_dump(exclude_unset=True)

    def resolved(self, batch: int) -> Variant:
        """The variant with its changes, for `batch` samples at once."""
        norm = self.head_norm
        if norm == "auto":
            # Pictures of several shapes go through the network in several parts of a batch.
            whole = batch >= BATCH_NORM_FROM and not VARIANTS[self.variant].follows_shape
            norm = "batch" if whole else "layer"
        return replace(VARIANTS[self.variant], **{**self.changes, "head_norm": norm})


class SetSettings(Table):
    """One set of recordings: fields of `avsal.datasets.DatasetSpec`, which says what they mean.

    Paths may have ~ and environment variables, and what is left at its default is as there.

    Attributes:
        split: "" is the train list in data.train and the test list in data.validation.
        repeat: how many times an epoch goes through the set.
    """

    root: str
    databases: tuple[str, ...] = ()
    fold: Literal[1, 2, 3] = 1
    split: Literal["", "train", "test"] = ""
    names: str = ""
    without: str = ""
    fixations: str = ""
    units: Literal["auto", "pixels", "fractions"] = "auto"
    degree: NotNegative = 0.0
    maps: str = ""
    repeat: Positive = 1


class DataSettings(Table):
    """Training and validation sets.

    Attributes:
        train: the sets to train on, concatenated (section 4.3).
        validation: the sets that choose the best weights.
        windows: number of windows of each validation video that are scored, evenly spaced.
    """

    train: tuple[SetSettings, ...]
    validation: tuple[SetSettings, ...] = ()
    windows: Positive = 4

    @field_validator("train")
    @classmethod
    def _train(cls, sets: tuple[SetSettings, ...]) -> tuple[SetSettings, ...]:
        if not sets:
            raise PydanticCustomError("no_sets", "give at least one [[data.train]] table")
        return sets


class AugmentSettings(Table):
    """Changes to training samples, all off as in the paper.

    Attributes:
        flip: probability that a sample is mirrored left to right.
        crop: largest fraction of each side that a crop may cut off, 0..0.9.
        colour: largest relative change of brightness, contrast and saturation, 0..1.
        pan: largest fraction of each side by which the view of a still image may move and zoom
            over its 16 frames; the map moves along. Videos are not panned.
        still: fraction of the still images that are not panned.
    """

    flip: Share = 0.0
    crop: SidePart = 0.0
    colour: Share = 0.0
    pan: SidePart = 0.0
    still: Share = 0.0


class LossSettings(Table):
    """Weights of the loss's terms (eq. 10 and 11).

    Attributes:
        kl: weight of the KL divergence.
        cc: weight of the correlation.
        alignment: lambda of eq. 11; 0 trains without the alignment heads.
    """

    kl: float = 1.0
    cc: float = 1.0
    alignment: float = 1.0


class OptimiserSettings(Table):
    """AdamW, batches and averaging.

    Attributes:
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        batch: samples in one forward pass of one process.
        accumulate: forward passes of each process before an optimiser step.
        clip: maximum norm of the gradient; 0 does not clip.
        ema: decay of the moving average of the weights, which is then validated and exported; 0 is
            no average.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: NotNegative = 0.0
    batch: Positive = 4
    accumulate: Positive = 1
    clip: NotNegative = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ScheduleSettings(Table):
    """The length of a run and its learning rate.

    Attributes:
        epochs: passes over the data; each takes one random window of every training video.
        kind: "step" multiplies by `factor` after each of the `milestones`, "cosine" falls to
            `factor` at the end.
        milestones: epochs after which "step" multiplies the rate.
        factor: see `kind`.
        warmup: epochs over which the rate rises linearly from 0.
        validate_every: epochs between validations; the last epoch is always validated.
    """

    epochs: Positive = 120
    kind: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = (60,)
    factor: NotNegative = 0.1
    warmup: NotNegative = 0.0
    validate_every: Positive = 10

    def rate_factor(self, epoch: float) -> float:
        """Factor of the learning rate after `epoch` epochs, fractions included."""
        if epoch < self.warmup:
            return epoch / self.warmup
        if self.kind == "step":
            return float(self.factor ** sum(epoch >= milestone for milestone in self.milestones))
        left = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / self.epochs)))
        return self.factor + (1 - self.factor) * left


class Config(Table):
    """A whole training run; see the classes of its fields."""

    run: RunSettings
    network: NetworkSettings
    data: DataSettings
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()

    @model_validator(mode="after")
    def _one_size(self) -> Config:
        if self.variant.follows_shape and self.variant.head_norm == "batch":
            raise PydanticCustomError(
                "several_sizes",
                "network.head_norm: batch needs pictures of one size; {name} takes layer",
                {"name": self.variant.name},
            )
        return self

    @model_validator(mode="after")
    def _image_encoder(self) -> Config:
        if self.run.task == "image" and self.variant.image is None:
            raise PydanticCustomError(
                "no_image_encoder",
                "network.variant: {name} has no image encoder to train",
                {"name": self.variant.name},
            )
        return self

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
    return read_toml(path, Config, changes)


def expand(text: str) -> Path:
    """A path as a person writes it, with ~ and environment variables."""
    return Path(os.path.expandvars(text)).expanduser()
