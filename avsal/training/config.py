"""What a training run is: everything that a TOML file can say, with the paper's values as defaults.

The tables of the file are the fields of `Config`.
"""

from __future__ import annotations

import difflib
import json
import math
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

from avsal.errors import UsageError
from avsal.models.variants import VARIANTS, Variant
from avsal.prediction.settings import Precision

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


class RunSettings(Table):
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
    task: Literal["avsp", "image"] = "avsp"
    seed: Count = 1
    device: str = "auto"
    precision: str = "auto"
    workers: Count = 2
    checkpoint_steps: Count = 0
    log_steps: Positive = 1
    tensorboard: bool = False

    @field_validator("precision")
    @classmethod
    def _precision(cls, value: str) -> str:
        return _one_of(value, tuple(Precision))


# The fields of a variant that a file may replace, all of them optional.
VariantChanges: type[Table] = create_model(
    "VariantChanges",
    __base__=Table,
    **{name: (hint, None) for name, hint in typing.get_type_hints(Variant).items()},  # type: ignore[call-overload]
)


class NetworkSettings(Table):
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
    changes: dict[str, Any] = {}
    initial: tuple[str, ...] = ()
    freeze: tuple[Literal["image", "audio", "motion"], ...] = ("image", "audio")
    head_norm: Literal["auto", "batch", "layer"] = "auto"

    @field_validator("variant")
    @classmethod
    def _variant(cls, value: str) -> str:
        return _one_of(value, VARIANTS)

    @field_validator("changes")
    @classmethod
    def _changes(cls, values: dict[str, Any]) -> dict[str, Any]:
        given = {key: None if value == NONE else value for key, value in values.items()}
        checked = VariantChanges.model_validate_json(json.dumps(given))
        return checked.model_dump(exclude_unset=True)

    def resolved(self, batch: int) -> Variant:
        """The variant with its changes, for `batch` samples at once."""
        norm = self.head_norm
        if norm == "auto":
            norm = "batch" if batch >= BATCH_NORM_FROM else "layer"
        return replace(VARIANTS[self.variant], **{**self.changes, "head_norm": norm})


class SetSettings(Table):
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
        train, validation: sets, all concatenated (section 4.3).
        windows: how many windows of every validation video are scored, evenly spaced.
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
        flip: probability of mirroring left and right.
        crop: largest share of each side that a crop may cut off, 0..0.9.
        colour: largest relative change of brightness, contrast and saturation, 0..1.
        pan: largest share of each side over which the view of a still image may wander and zoom
            while its 16 frames last; the map moves along. Videos are not panned.
        still: share of the still images that are not panned.
    """

    flip: Share = 0.0
    crop: SidePart = 0.0
    colour: Share = 0.0
    pan: SidePart = 0.0
    still: Share = 0.0


class LossSettings(Table):
    """Weights of the loss's terms (eq. 10 and 11).

    Attributes:
        kl, cc: of the saliency loss.
        alignment: lambda of eq. 11; 0 trains without the alignment heads.
    """

    kl: float = 1.0
    cc: float = 1.0
    alignment: float = 1.0


class OptimiserSettings(Table):
    """AdamW, batches and averaging.

    Attributes:
        learning_rate, weight_decay: of AdamW.
        batch: samples in one forward pass of one process.
        accumulate: forward passes of each process that one optimiser step adds up.
        clip: largest norm of the gradient; 0 does not clip.
        ema: decay of the weights' moving average, which is then validated and exported; 0 has none.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: NotNegative = 0.0
    batch: Positive = 4
    accumulate: Positive = 1
    clip: NotNegative = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ScheduleSettings(Table):
    """How long, and how the learning rate falls.

    Attributes:
        epochs: one random window of every training video each.
        kind: "step" multiplies by `factor` after each of the `milestones`, "cosine" falls to
            `factor` at the end.
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
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            _override(table, change)
        return Config.model_validate_json(json.dumps(table))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_line(error)}") from None
    except RecursionError:
        raise UsageError(f"{path}: tables or arrays are nested too deep") from None
    except TypeError:  # JSON has none
        raise UsageError(f"{path}: dates and times have no place here; use quotes") from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UsageError(f"{path}: no valid TOML: {error}") from None


def _first_line(error: ValidationError) -> str:
    """The first thing that is wrong: "optimiser.batch: must be a valid integer, not 2.5"."""
    first, *others = error.errors(include_url=False)
    key, kind = _key(first["loc"]), first["type"]
    text = first["msg"].replace("Input should be", "must be").replace("an object", "a table")
    if kind == "extra_forbidden":
        text = f"unknown key; {_suggestion(str(first['loc'][-1]), _keys_of(first['loc'][:-1]))}"
    elif kind == "missing":
        text = "missing"
    elif text.startswith("must be"):
        text += f", not {reprlib.repr(first['input'])}"
    more = f" ({len(others)} more)" if others else ""
    return f"{key}: {text}{more}" if key else text + more


def _key(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _keys_of(location: tuple[int | str, ...]) -> Iterable[str]:
    """The keys that a table of the file may have."""
    table: Any = Config
    for part in location:
        if table is VariantChanges or isinstance(part, int):
            continue
        hint = table.model_fields[part].annotation
        table = VariantChanges if part == "changes" else (typing.get_args(hint) or (hint,))[0]
    keys: Iterable[str] = table.model_fields
    return keys


def _one_of(value: str, allowed: Iterable[str]) -> str:
    if value not in allowed:
        raise PydanticCustomError(
            "one_of",
            "{value} is unknown; {suggestion}",
            {"value": reprlib.repr(value), "suggestion": _suggestion(value, allowed)},
        )
    return value


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
