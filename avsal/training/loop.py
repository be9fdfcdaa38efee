"""The training loop: epochs of steps, validation, checkpoints; a stopped run resumes exactly."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from avsal.atomic import check_replaceable, prepare_folder, write_errors
from avsal.errors import AvsalError, UsageError
from avsal.training.batches import Batches, Parts, open_sets
from avsal.training.checkpoint import (
    BEST,
    EPOCHS,
    LAST,
    STEPS,
    CsvLog,
    Events,
    Row,
    all_finite,
    export,
    holds_a_run,
    load_initial,
    only_run_in,
    random_state,
    read_checkpoint,
    restore_random_state,
    seed_everything,
    write_checkpoint,
)
from avsal.training.config import Config, expand
from avsal.training.engine import Engine
from avsal.training.identity import identities, require_same
from avsal.training.objectives import TERMS, Objective, make_objective
from avsal.training.samples import Sample
from avsal.training.validation import SCORES, validate

logger = logging.getLogger("avsal")

STEP_COLUMNS = ("step", "epoch", "learning_rate", *TERMS)
EPOCH_COLUMNS = (*STEP_COLUMNS, *(f"val_{key}" for key in SCORES), "seconds")


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        epoch: number of the current epoch, from 0.
        batch: batches of it that are done.
        step: optimiser steps since the beginning.
        best: best validation CC so far; -1 before the first validation.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -1.0


class Trainer:
    """A run: make it, call `run`.

    Attributes:
        on_step: called after each optimiser step with the steps done and those of the whole run.
        on_epoch: called with each row of epochs.csv.

    Both are called in the main process only.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        fresh: bool = False,
        on_step: Callable[[int, int], None] = lambda done, total: None,
        on_epoch: Callable[[Row], None] = lambda row: None,
    ) -> None:
        """Prepare a run, or take up the one that run.output holds.

        Args:
            fresh: start over although there is a checkpoint.

        Raises:
            UsageError: the checkpoint was made with other settings.
            DataError: training or validation data are missing.
            WeightsError: initial weights are missing or do not fit.
        """
        self.config, self.engine = config, engine
        self.on_step, self.on_epoch = on_step, on_epoch
        self.folder = expand(config.run.output)
        self.position = Position()
        seed_everything(config.run.seed)
        self.objective = make_objective(config)
        self.batches = Batches(config, self.objective.inputs, engine)
        self.scored = open_sets(config.data.validation, "test")
        for recording in self.scored:  # a bad file must not stop a run at its first validation
            _ = recording.still
        self._data = {
            "training": identities(self.batches.recordings),
            "validation": identities(self.scored),
        }
        last = self.folder / LAST
        resumed = None if fresh or not last.is_file() else read_checkpoint(last, config)
        if resumed is None:
            load_initial(self.objective, config.network)
        self.objective.to(engine.device)
        self._model: nn.Module = self.objective
        self._parameters = [p for p in self.objective.parameters() if p.requires_grad]
        optimiser = config.optimiser
        self._adamw = torch.optim.AdamW(
            self._parameters, optimiser.learning_rate, weight_decay=optimiser.weight_decay
        )
        self._scaler = engine.scaler()
        self._average = moving_average(self.objective, optimiser.ema) if optimiser.ema else None
        self._of_log, self._of_epoch = self._meter(), self._meter()
        self.resumed = resumed is not None
        self._saved: int | None = None  # the step that the checkpoint holds
        if resumed is not None:
            self._restore(resumed)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return math.ceil(self.batches.batches_per_epoch / self.config.optimiser.accumulate)

    @property
    def result(self) -> Objective:
        """The network that is validated and exported: the moving average where there is one."""
        if self._average is None:
            return self.objective
        averaged = self._average.module
        assert isinstance(averaged, Objective)
        return averaged

    def run(self) -> None:
        """Train to the last epoch.

        Raises:
            KeyboardInterrupt: a signal asked to stop; everything is saved.
            AvsalError: the run diverged, or another one writes into the folder.
        """
        epochs = self.config.schedule.epochs
        with ExitStack() as stack:
            self.engine.together(lambda: self._open_logs(stack))
            self._model = self.engine.wrap(self.objective)
            stopped = stack.enter_context(self.engine.stop_signal())
            stack.callback(self.batches.close)
            while self.position.epoch < epochs:
                self._epoch(stopped)

    def _epoch(self, stopped: Callable[[], bool]) -> None:
        started = time.monotonic()
        self._model.train()
        every = self.config.run.checkpoint_steps
        for group in self._groups():
            self._step(group)
            if stopped():
                self._save()
                self._stop()
            if every and self.position.step % every == 0:
                self._save()
        epoch = self.position.epoch + 1
        row = self._row(self._of_epoch, epoch)
        if epoch % self.config.schedule.validate_every == 0 or epoch == self.config.schedule.epochs:
            row |= self._validate(epoch, stopped)
        self.position.epoch, self.position.batch = epoch, 0
        self._of_epoch = self._meter()
        self._tell_epoch({**row, "seconds": time.monotonic() - started})
        self._save()

    def _stop(self) -> NoReturn:
        """End a run that a signal stopped and that is saved."""
        if self.engine.is_main:
            logger.warning(
                "%s: saved at step %s; the same command goes on from there",
                self.folder / LAST,
                self._saved,
            )
        raise KeyboardInterrupt

    def _groups(self) -> Iterator[list[Parts]]:
        """The rest of the epoch's batches, as many at once as one optimiser step takes."""
        size = self.config.optimiser.accumulate
        group: list[Parts] = []
        for batch in self.batches.training(self.position.epoch, self.position.batch):
            group.append(batch)
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group

    def _step(self, group: list[Parts]) -> None:
        rate = self.config.optimiser.learning_rate * self._factor()
        for parameters in self._adamw.param_groups:
            parameters["lr"] = rate
        shares = [
            (part, len(part["map"]) / self.config.optimiser.batch)
            for batch in group
            for part in batch
        ]
        for place, (part, share) in enumerate(shares):
            with ExitStack() as stack:
                if place + 1 < len(shares):
                    stack.enter_context(self.engine.without_sync(self._model))
                self._backward(part, share, len(group))
        self._scaler.unscale_(self._adamw)
        if self.config.optimiser.clip:
            torch.nn.utils.clip_grad_norm_(self._parameters, self.config.optimiser.clip)
        self._scaler.step(self._adamw)
        self._scaler.update()
        self._adamw.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update_parameters(self.objective)
        self.position.step += 1
        self.position.batch += len(group)
        self._tell_step()

    def _backward(self, part: Sample, share: float, batches: int) -> None:
        """Add the gradients of a batch's part.

        Args:
            share: of the batch's samples that are in the part.
            batches: that the optimiser's step adds up.
        """
        with self.engine.autocast():
            loss = self._model(self.engine.put(part))
        self._scaler.scale(loss.total * share / batches).backward()
        entry = torch.cat((loss.terms().double(), self._of_log.new_ones(1))) * share
        self._of_log += entry
        self._of_epoch += entry

    def _factor(self) -> float:
        done = self.position.step / self.steps_per_epoch
        if self.config.schedule.warmup:
            done = (self.position.step + 1) / self.steps_per_epoch
        return self.config.schedule.rate_factor(done)

    def _meter(self) -> torch.Tensor:
        """Sums of the loss's terms and the number of batches, float64 (5,)."""
        return torch.zeros(len(TERMS) + 1, dtype=torch.float64, device=self.engine.device)

    def _row(self, meter: torch.Tensor, epoch: int) -> Row:
        *sums, count = self.engine.total(meter).tolist()
        means = {key: value / count for key, value in zip(TERMS, sums, strict=True)}
        if not math.isfinite(means["loss"]):
            self._diverged("the loss is no number")
        rate = self._adamw.param_groups[0]["lr"]
        return {"step": self.position.step, "epoch": epoch, "learning_rate": rate, **means}

    def _diverged(self, what: str) -> NoReturn:
        last = "nothing is saved" if self._saved is None else f"{LAST} is from step {self._saved}"
        self.engine.fail(
            AvsalError(
                f"{what} at step {self.position.step} ({last}); start over with --fresh and a "
                "lower optimiser.learning_rate, with optimiser.clip, or with run.precision fp32"
            )
        )

    def _validate(self, epoch: int, stopped: Callable[[], bool]) -> Row:
        self._save()  # validation takes time, and what it scores must be finite

        def listen() -> None:
            if stopped():
                self._stop()

        if not self.scored:
            if self.engine.is_main:
                self._export(epoch, math.nan)
            return {}
        scores = validate(self.result, self.scored, self.config.data.windows, self.engine, listen)
        if scores["cc"] > self.position.best:
            self.position.best = scores["cc"]
            if self.engine.is_main:
                self._export(epoch, scores["cc"])
        return {f"val_{key}": value for key, value in scores.items()}

    def _export(self, epoch: int, cc: float) -> None:
        export(self.result, self.folder / BEST, self.config, epoch=epoch, val_cc=cc)

    def _open_logs(self, stack: ExitStack) -> None:
        """Begin to write, in the main process; `stack` ends it."""
        if not self.engine.is_main:
            return
        prepare_folder(self.folder)
        stack.enter_context(only_run_in(self.folder))
        if not self.resumed:
            names = (BEST, LAST, STEPS, EPOCHS)
            check_replaceable(self.folder, lambda at: names if holds_a_run(at) else (), names)
            # Stopped early, a run that starts over must not resume the old one.
            with write_errors(self.folder / LAST):
                (self.folder / LAST).unlink(missing_ok=True)
        step = self.position.step
        self._steps = CsvLog(self.folder / STEPS, STEP_COLUMNS, step)
        self._epochs = CsvLog(self.folder / EPOCHS, EPOCH_COLUMNS, step)
        self._events = Events(self.folder, self.config.run.tensorboard, step)
        stack.callback(self._events.close)

    def _tell_step(self) -> None:
        if self.position.step % self.config.run.log_steps == 0:
            row = self._row(self._of_log, self.position.epoch + 1)
            self._of_log = self._meter()
            if self.engine.is_main:
                self._steps.write(row)
                self._events.write("train", row)
        if self.engine.is_main:
            self.on_step(self.position.step, self.steps_per_epoch * self.config.schedule.epochs)

    def _tell_epoch(self, row: Row) -> None:
        if self.engine.is_main:
            self._epochs.write(row)
            self._events.write("epoch", row)
            self.on_epoch(row)

    def _save(self) -> None:
        """Save everything that decides how the run continues, unless the run diverged."""
        for module in (self.objective, self.result):
            self.engine.share_buffers(module)
        state: dict[str, Any] = {
            "task": self.objective.state_dict(),
            "optimiser": self._adamw.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "position": asdict(self.position),
            "meters": [self.engine.total(meter) for meter in (self._of_log, self._of_epoch)],
            "random": self.engine.gather(random_state()),
            **self._data,
            "world": self.engine.world,
            "config": self.config.model_dump_json(),
        }
        if self.engine.any(not all_finite(state)):
            self._diverged("weights or statistics are no numbers")
        if self.engine.is_main:
            write_checkpoint(self.folder / LAST, state)
        self._saved = self.position.step

    def _restore(self, state: dict[str, Any]) -> None:
        last = self.folder / LAST
        for kind, here in self._data.items():
            require_same(state[kind], here, kind, last)
        if state["world"] != self.engine.world:
            raise UsageError(
                f"{last}: was made with {state['world']} processes, not {self.engine.world}; "
                "resume with as many, or start over with --fresh"
            )
        self.objective.load_state_dict(state["task"])
        self._adamw.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.position = Position(**state["position"])
        self._saved = self.position.step
        # Sums over all processes: one of them carries them on.
        share = 1.0 if self.engine.is_main else 0.0
        meters = [meter.to(self.engine.device) * share for meter in state["meters"]]
        self._of_log, self._of_epoch = meters
        restore_random_state(state["random"][self.engine.rank])


def moving_average(module: nn.Module, decay: float) -> AveragedModel:
    """A copy of a module that `update_parameters` moves towards it, buffers included.

    Whole numbers are copied: the mean of a window attention's indices would be cut off to others.
    """
    blend = get_ema_multi_avg_fn(decay)

    def renew(averages: Sequence[torch.Tensor], now: Sequence[torch.Tensor], count: Any) -> None:
        if averages[0].is_floating_point():
            blend(list(averages), list(now), count)
        else:
            for average, value in zip(averages, now, strict=True):
                average.copy_(value)

    return AveragedModel(module, multi_avg_fn=renew, use_buffers=True)


def train(
    config: Config,
    fresh: bool = False,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    on_end: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Train, or resume a run that was stopped; returns the folder with the results.

    `on_end` is given it too, in the main process alone.

    The folder holds best.safetensors (by validation CC; the last where nothing is validated),
    last.pt to resume from, steps.csv and epochs.csv. See `Trainer` for the arguments and errors.
    """
    with Engine(config.run.device, config.run.precision) as engine:
        trainer = engine.together(lambda: Trainer(config, engine, fresh, on_step, on_epoch))
        trainer.run()
        if engine.is_main:
            on_end(trainer.folder)
        return trainer.folder
