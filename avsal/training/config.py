"""Settings of a training run, read from TOML."""

from __future__ import annotations

import json
import math
import os
import reprlib
import tomllib
import typing
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

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

from avsal.datasets import DatasetSpec
from avsal.errors import UsageError, nearest
from avsal.models.variants import VARIANTS, Variant
from avsal.prediction.settings import Precision
from avsal.text import read_text

_TOO_DEEP = "tables or arrays are nested too deep"
BATCH_NORM_FROM = 3  # samples; with fewer, training with BatchNorm diverges (section 4.3)
NONE = "none"  # TOML has no null
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
SidePart = Annotated[float, Field(ge=0, le=0.9)]  # fraction of a side that may be cut off


class Table(BaseModel):
    """A table of the file; it refuses unknown keys and values of the wrong type."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def one_of(value: str, allowed: Iterable[str]) -> str:
    """Refuse a word that is not allowed; for validators of fields."""
    if value not in allowed:
        raise PydanticCustomError(
            "one_of",
            "{value} is unknown; {suggestion}",
            {"value": reprlib.repr(value), "suggestion": _suggestion(value, allowed)},
        )
    return value


class RunSettings(Table):
    """Where a run writes, and how it runs.

    Attributes:
        output: folder for the checkpoints and curves.
        task: "avsp" trains the whole network, "image" the image saliency encoder with a decoder.
        seed: of the initial weights, the order of the samples, the windows and the augmentation.
        device: as for `avsal predict`.
        precision: as for `avsal predict`.
        workers: processes that decode; 0 decodes in the training process.
        checkpoint_steps: also save after every n-th optimiser step; 0 saves after epochs only.
        log_steps: write a row of steps.csv after every n-th optimiser step.
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


# The fields of a variant, all of them optional.
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
        initial: files of weights; later files override earlier ones. They may be whole networks,
            encoders from `avsal weights import --component`, or results of an image run.
        freeze: encoders that are not trained; they stay in evaluation mode (section 3.2).
        head_norm: normalisation of the alignment heads. "auto" is BatchNorm if a batch of a process
            has at least 3 samples (section 4.3), else LayerNorm; for the default network, whose
            pictures have several sizes, it is always LayerNorm.
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
        changes = {key: None if value == NONE else value for key, value in values.items()}
        if "audio" in changes:  # "none", as for the image encoder, or false
            changes["audio"] = bool(changes["audio"])
        checked = VariantChanges.model_validate_json(json.dumps(changes))
        return checked.model_dump(exclude_unset=True)

    def resolved(self, batch: int) -> Variant:
        """The variant with its changes, for batches of `batch` samples."""
        norm = self.head_norm
        if norm == "auto":
            # Pictures of several shapes divide a batch into smaller ones.
            large = batch >= BATCH_NORM_FROM and not VARIANTS[self.variant].follows_shape
            norm = "batch" if large else "layer"
        return replace(VARIANTS[self.variant], **{**self.changes, "head_norm": norm})


class SetSettings(DatasetSpec):
    """One set of recordings. Paths may have ~ and environment variables.

    Attributes:
        repeat: how many times an epoch goes through the set.
    """

    repeat: Positive = 1


class DataSettings(Table):
    """Training and validation sets.

    Attributes:
        train: the sets to train on, concatenated (section 4.3).
        validation: the sets that decide which weights are best.
        windows: number of evenly spaced windows of each validation video that are scored.
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
    """Changes to training samples; all are off by default, as in the paper.

    Attributes:
        flip: probability that a sample is mirrored left to right.
        crop: largest fraction of each side that a crop may cut off, 0..0.9.
        colour: largest relative change of brightness, contrast and saturation, 0..1.
        pan: largest fraction of each side by which the view of a still image may move and zoom
            over its frames, and the map with it. Videos are not panned.
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
        learning_rate: initial learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        batch: samples in one forward pass of one process.
        accumulate: forward passes of each process per optimiser step.
        clip: maximum norm of the gradient; 0 does not clip.
        ema: decay of a moving average of the weights, which is validated and exported in their
            place; 0 for none.
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
        epochs: passes over the data; each uses one random window of every training video.
        kind: "step" multiplies the rate by `factor` after each of the `milestones`; "cosine"
            decreases it to `factor` times its initial value at the end.
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
        """Factor of the learning rate after `epoch` epochs, which may be a fraction."""
        if epoch < self.warmup:
            return epoch / self.warmup
        if self.kind == "step":
            return float(self.factor ** sum(epoch >= milestone for milestone in self.milestones))
        remaining = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / self.epochs)))
        return self.factor + (1 - self.factor) * remaining


class Config(Table):
    """All settings of a training run."""

    run: RunSettings
    network: NetworkSettings
    data: DataSettings
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()

    @model_validator(mode="after")
    def _fits_the_network(self) -> Config:
        variant = self.variant
        text = ""
        if variant.follows_shape and variant.head_norm == "batch":
            text = "network.head_norm: batch needs pictures of one size; {name} needs layer"
        elif self.run.task == "image" and variant.image is None:
            text = "network.variant: {name} has no image encoder to train"
        if text:
            raise PydanticCustomError("network", text, {"name": variant.name})
        return self

    @property
    def variant(self) -> Variant:
        """The network that is trained."""
        return self.network.resolved(self.optimiser.batch)


def read_config(path: Path, changes: Iterable[str] = ()) -> Config:
    """Read a run's settings.

    Args:
        path: TOML file.
        changes: "table.key=value" each; they override the file.

    Raises:
        UsageError: the file cannot be read, or a key, a type or a value is wrong.
    """
    if path.exists() and not path.is_file():  # reading a pipe could block for ever
        raise UsageError(f"{path}: cannot be read: not a regular file")
    try:
        values = tomllib.loads(read_text(path))
        for change in changes:
            _override(values, change)
        return Config.model_validate_json(json.dumps(values))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        # Python 3.13's parsers go deeper than pydantic's, which then calls the JSON invalid.
        deep = error.errors()[0]["type"] == "json_invalid"
        raise UsageError(f"{path}: {_TOO_DEEP if deep else _first_line(error)}") from None
    except RecursionError:
        raise UsageError(f"{path}: {_TOO_DEEP}") from None
    except TypeError:  # JSON has no dates
        raise UsageError(f"{path}: dates and times cannot be used; put them in quotes") from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UsageError(f"{path}: no valid TOML: {error}") from None


def expand(path: str | Path) -> Path:
    """Replace ~ and environment variables in a path."""
    return Path(os.path.expandvars(path)).expanduser()


def _first_line(error: ValidationError) -> str:
    """The first error, such as "optimiser.batch: must be a valid integer, not 2.5"."""
    first, *others = error.errors(include_url=False)
    key, kind = _key(first["loc"]), first["type"]
    text = first["msg"].replace("Input should be", "must be").replace("an object", "a table")
    if kind == "extra_forbidden":
        *tables, unknown = first["loc"]
        text = f"unknown key; {_suggestion(str(unknown), _keys_of(tables))}"
    elif kind == "missing":
        text = "missing"
    elif text.startswith("must be"):
        text += f", not {reprlib.repr(first['input'])}"
    more = f" ({len(others)} more)" if others else ""
    return f"{key}: {text}{more}" if key else text + more


def _key(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _keys_of(location: Iterable[int | str]) -> Iterable[str]:
    """The keys that the table at a location may have."""
    table: Any = Config
    for part in location:
        if isinstance(part, str):
            hint = table.model_fields[part].annotation
            table = (typing.get_args(hint) or (hint,))[0]
    return table.model_fields


def _suggestion(word: str, known: Iterable[str]) -> str:
    return nearest(word, known).removeprefix("; ") or f"known: {', '.join(known)}"


def _override(table: dict[str, Any], change: str) -> None:
    """Apply "a.b=value" to nested tables; the value is TOML, or else plain text.

    A number in the key is an index into an array of tables, from 0: "data.train.0.fold=2".

    Raises:
        UsageError: the text has another form, or an index is out of range.
    """
    name, equals, text = change.partition("=")
    *parents, last = name.strip().split(".")
    if not equals or not last:
        raise UsageError(f"--set {change}: give TABLE.KEY=VALUE")
    inner: Any = table
    for key in parents:
        if isinstance(inner, dict):
            inner = inner.setdefault(key, {})
        elif isinstance(inner, list) and key.isdecimal() and int(key) < len(inner):
            inner = inner[int(key)]
        else:
            raise UsageError(f"--set {change}: the file has no {key} there")
    if not isinstance(inner, dict):
        raise UsageError(f"--set {change}: {parents[-1]} is not a table")
    try:
        inner[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        inner[last] = text.strip()
