"""The training loop with validation and checkpoints; a stopped run resumes exactly."""

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
    identities,
    load_initial,
    only_run_in,
    random_state,
    read_checkpoint,
    require_same,
    restore_random_state,
    seed_everything,
    write_checkpoint,
)
from avsal.training.config import Config, expand
from avsal.training.engine import Engine
from avsal.training.objectives import TERMS, Objective, make_objective
from avsal.training.samples import Sample
from avsal.training.validation import SCORES, validate

logger = logging.getLogger("avsal")

STEP_COLUMNS = ("step", "epoch", "learning_rate", *TERMS)
EPOCH_COLUMNS = (*STEP_COLUMNS, *(f"val_{key}" for key in SCORES), "seconds")


@dataclass
class Position:
    """Progress of a run.

    Attributes:
        epoch: number of the current epoch, from 0.
        batch: completed batches of that epoch.
        step: completed optimiser steps of the run.
        best: best validation CC so far; -1 before the first validation.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -1.0


class Trainer:
    """A training run; `run` executes it.

    Attributes:
        on_step: called after each optimiser step with the number of completed steps and of all.
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
        """Prepare a new run, or resume the one in run.output.

        Args:
            fresh: start over even if there is a checkpoint.

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
        recordings = open_sets(config.data.train, "train")
        self.scored = open_sets(config.data.validation, "test")
        for recording in (*recordings, *self.scored):  # so that a bad file does not stop it later
            _ = recording.still
        self.batches = Batches(recordings, config, self.objective.inputs, engine)
        self._data = {"training": identities(recordings), "validation": identities(self.scored)}
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
        self._log_sums, self._epoch_sums = self._zeros(), self._zeros()
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
        row = self._row(self._epoch_sums, epoch)
        if epoch % self.config.schedule.validate_every == 0 or epoch == self.config.schedule.epochs:
            row |= self._validate(epoch, stopped)
        self.position.epoch, self.position.batch = epoch, 0
        self._epoch_sums = self._zeros()
        self._log_epoch({**row, "seconds": time.monotonic() - started})
        self._save()

    def _stop(self) -> NoReturn:
        """End a run that a signal stopped and that is saved."""
        if self.engine.is_main:
            logger.warning(
                "%s: saved at step %s; the same command continues from there",
                self.folder / LAST,
                self._saved,
            )
        raise KeyboardInterrupt

    def _groups(self) -> Iterator[list[Parts]]:
        """The remaining batches of the epoch, in groups for one optimiser step each."""
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
        *others, last = [part for batch in group for part in batch]
        for part in others:
            with self.engine.without_sync(self._model):
                self._backward(part, len(group))
        self._backward(last, len(group))
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
        self._log_step()

    def _backward(self, part: Sample, batches: int) -> None:
        """Add the gradients of a part of a batch; the optimiser step averages over `batches`."""
        share = len(part["map"]) / self.config.optimiser.batch
        with self.engine.autocast():
            loss = self._model(self.engine.put(part))
        self._scaler.scale(loss.total * share / batches).backward()
        entry = torch.cat((torch.stack(loss).detach().double(), self._log_sums.new_ones(1))) * share
        self._log_sums += entry
        self._epoch_sums += entry

    def _factor(self) -> float:
        done = self.position.step / self.steps_per_epoch
        if self.config.schedule.warmup:
            done = (self.position.step + 1) / self.steps_per_epoch
        return self.config.schedule.rate_factor(done)

    def _zeros(self) -> torch.Tensor:
        """Sums of the loss's terms and the number of batches, float64 (5,)."""
        return torch.zeros(len(TERMS) + 1, dtype=torch.float64, device=self.engine.device)

    def _row(self, meter: torch.Tensor, epoch: int) -> Row:
        *sums, count = self.engine.total(meter).tolist()
        means = {key: value / count for key, value in zip(TERMS, sums, strict=True)}
        if not math.isfinite(means["loss"]):
            self._diverged("the loss is not finite")
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
        self._save()  # validation takes time, and the weights must be finite

        def stop_if_asked() -> None:
            if stopped():
                self._stop()

        if not self.scored:
            if self.engine.is_main:
                self._export(epoch, math.nan)
            return {}
        windows = self.config.data.windows
        scores = validate(self.result, self.scored, windows, self.engine, stop_if_asked)
        if scores["cc"] > self.position.best:
            self.position.best = scores["cc"]
            if self.engine.is_main:
                self._export(epoch, scores["cc"])
        return {f"val_{key}": value for key, value in scores.items()}

    def _export(self, epoch: int, cc: float) -> None:
        export(self.result, self.folder / BEST, self.config, epoch=epoch, val_cc=cc)

    def _open_logs(self, stack: ExitStack) -> None:
        """Open the logs in the main process; `stack` closes them."""
        if not self.engine.is_main:
            return
        prepare_folder(self.folder)
        stack.enter_context(only_run_in(self.folder))
        if not self.resumed:
            names = (BEST, LAST, STEPS, EPOCHS)
            check_replaceable(self.folder, lambda at: names if holds_a_run(at) else (), names)
            # If the new run stops before its first checkpoint, it must not resume the old one.
            with write_errors(self.folder / LAST):
                (self.folder / LAST).unlink(missing_ok=True)
        step = self.position.step
        self._steps = CsvLog(self.folder / STEPS, STEP_COLUMNS, step)
        self._epochs = CsvLog(self.folder / EPOCHS, EPOCH_COLUMNS, step)
        self._events = Events(self.folder, self.config.run.tensorboard, step)
        stack.callback(self._events.close)

    def _log_step(self) -> None:
        if self.position.step % self.config.run.log_steps == 0:
            row = self._row(self._log_sums, self.position.epoch + 1)
            self._log_sums = self._zeros()
            if self.engine.is_main:
                self._steps.write(row)
                self._events.write("train", row)
        if self.engine.is_main:
            self.on_step(self.position.step, self.steps_per_epoch * self.config.schedule.epochs)

    def _log_epoch(self, row: Row) -> None:
        if self.engine.is_main:
            self._epochs.write(row)
            self._events.write("epoch", row)
            self.on_epoch(row)

    def _save(self) -> None:
        """Save the state of the run, unless it diverged."""
        for module in (self.objective, self.result):
            self.engine.share_buffers(module)
        state: dict[str, Any] = {
            "task": self.objective.state_dict(),
            "optimiser": self._adamw.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "position": asdict(self.position),
            "meters": [self.engine.total(meter) for meter in (self._log_sums, self._epoch_sums)],
            "random": self.engine.gather(random_state()),
            **self._data,
            "world": self.engine.world,
            "config": self.config.model_dump_json(),
        }
        if self.engine.any(not all_finite(state)):
            self._diverged("weights or statistics are not finite")
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
        # The sums of all processes; one process continues them, the others start from 0.
        factor = 1.0 if self.engine.is_main else 0.0
        meters = [meter.to(self.engine.device) * factor for meter in state["meters"]]
        self._log_sums, self._epoch_sums = meters
        restore_random_state(state["random"][self.engine.rank])


def moving_average(module: nn.Module, decay: float) -> AveragedModel:
    """A copy of a module that `update_parameters` moves towards it, including its buffers.

    Integer buffers, such as the indices of window attention, are copied instead.
    """
    average_floats = get_ema_multi_avg_fn(decay)

    def update(averages: Sequence[torch.Tensor], values: Sequence[torch.Tensor], n: Any) -> None:
        if averages[0].is_floating_point():
            average_floats(list(averages), list(values), n)
        else:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)

    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)


def train(
    config: Config,
    fresh: bool = False,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    on_end: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Train, or resume a run that was stopped; returns the folder with the results.

    The folder has best.safetensors (by validation CC; without validation the last weights), last.pt
    to resume from, steps.csv and epochs.csv. See `Trainer` for the arguments and errors. `on_end`
    is called with the folder, in the main process only.
    """
    with Engine(config.run.device, config.run.precision) as engine:
        trainer = engine.together(lambda: Trainer(config, engine, fresh, on_step, on_epoch))
        trainer.run()
        if engine.is_main:
            on_end(trainer.folder)
        return trainer.folder
