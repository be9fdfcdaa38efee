"""Several processes of one run on this machine, started as torchrun starts them.

What torchrun itself would print, a traceback at every end that is no success, stays away: the
processes tell what is wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avsal.errors import AvsalError, UsageError
from avsal.prediction.device import choose_device, choose_precision
from avsal.training.samples import Sample

logger = logging.getLogger("avsal")
T = TypeVar("T")


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `avsal` with the same arguments in several processes that know each other.

    Returns:
        The command's exit code: 0, that of the first process that failed, 128 + n after signal n.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # Networks may have weights without influence, so that DistributedDataParallel looks for them,
    # and warns where there are none.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    given = ["--standalone", f"--nproc-per-node={processes}", "-m", "avsal", *arguments]
    logging.disable(logging.ERROR)  # what torchrun says of processes that end
    try:
        run(parse_args(given))
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        code = int(failed.get_first_failure()[1].exitcode)
        return code if code > 0 else 128 - code
    finally:
        logging.disable(logging.NOTSET)
    return 0


class ToldElsewhereError(AvsalError):
    """What is wrong is wrong in several processes of a run, and another one says so."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of the run says what is wrong")
        self.exit_code = exit_code


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """Let one process of every machine tell what is wrong, where the same is wrong in all."""
    try:
        yield
    except AvsalError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            raise ToldElsewhereError(error.exit_code) from None
        raise


class Engine:
    """One process of a run.

    Attributes:
        rank, world: this process's place, and how many there are.
        device: where it computes.
        precision: compute dtype.
    """

    def __init__(self, device: str = "auto", precision: str = "auto") -> None:
        """Join the run that the environment describes.

        Raises:
            UsageError: the device does not exist.
        """
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        with told_once():
            self.device = _own_device(device) if self.world > 1 else choose_device(device)
            self.precision = _training_precision(precision, self.device)
        if self.world > 1:
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make a module average its gradients over the processes."""
        if self.world == 1:
            return module
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # Parts that have no influence on the map (SlowFast's last fusion) get no gradient.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def without_sync(self, module: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """Leave averaging to a later backward pass."""
        if isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return contextlib.nullcontext()

    def autocast(self) -> torch.autocast:
        """Context in which products have the engine's precision."""
        half = self.precision != torch.float32
        return torch.autocast(
            self.device.type, dtype=self.precision if half else None, enabled=half
        )

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps float16 gradients in range; does nothing in other precisions."""
        wanted = self.precision == torch.float16 and self.device.type == "cuda"
        return torch.amp.GradScaler(self.device.type, enabled=wanted)

    def put(self, batch: Sample) -> Sample:
        """A batch on the device."""
        return {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor over the processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Give a module the buffers that the main process has, such as BatchNorm's statistics."""
        if self.world > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def together(self, work: Callable[[], T]) -> T:
        """Do something that must succeed in all processes; where it fails in several for the same
        reason, one of them tells. Notes come from the main process alone.

        Raises:
            AvsalError: it failed here, or only elsewhere.
        """
        error, result = None, None
        heard = logger.disabled
        logger.disabled = heard or not self.is_main
        try:
            result = work()
        except AvsalError as raised:
            error = raised
        finally:
            logger.disabled = heard
        told = self.gather(None if error is None else (str(error), error.exit_code))
        codes = [one[1] for one in told if one is not None]
        if error is not None and told.index((str(error), error.exit_code)) == self.rank:
            raise error
        if codes:
            raise ToldElsewhereError(codes[0])
        return result  # type: ignore[return-value]

    def fail(self, error: AvsalError) -> NoReturn:
        """Raise an error that all processes come to, so that one of them tells."""
        raise error if self.is_main else ToldElsewhereError(error.exit_code)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all processes get the same answer."""
        if self.world == 1:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=self.device)))

    @contextlib.contextmanager
    def stop_signal(self) -> Iterator[Callable[[], bool]]:
        """Ctrl-C and a scheduler's SIGTERM no longer end the process but are asked for.

        A second one ends it at once, unless there are several processes: torchrun sends its own
        after the first.

        Leaving by KeyboardInterrupt hands the signal to whoever handled it before: the command
        line tells by its exit code which one it was.

        Yields:
            Whether a signal came to any process; all processes must ask together.
        """
        signals: list[int] = []

        def note(number: int, _frame: object) -> None:
            if signals and self.world == 1:
                raise KeyboardInterrupt
            if not signals and self.is_main:
                logger.warning("stopping as soon as this step or frame is done")
            signals.append(number)

        before: dict[int, Any] = {}
        with contextlib.suppress(ValueError):  # only the main thread may; else they do as before
            for wanted in (signal.SIGINT, signal.SIGTERM):
                before[wanted] = signal.signal(wanted, note)
        try:
            try:
                yield lambda: self.any(bool(signals))
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        except KeyboardInterrupt:
            if signals and callable(before[signals[0]]):
                before[signals[0]](signals[0], None)
            raise

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in all processes."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


def _own_device(name: str) -> torch.device:
    """The device of one of several processes: each has a GPU of its own."""
    device = choose_device(name)
    if device.type != "cuda":
        return device
    local, found = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if local > found:
        raise UsageError(f"{local} processes need a GPU each, and torch finds {found} here")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def _training_precision(name: str, device: torch.device) -> torch.dtype:
    """As `choose_precision`, but auto prefers bf16 on CUDA, whose range needs no scaling, and fp32
    on CPUs.

    Raises:
        UsageError: fp16 on a CPU, where gradients are not scaled and operations are emulated.
    """
    if name == "fp16" and device.type != "cuda":
        raise UsageError(f"run.precision: fp16 does not train on {device}; use bf16 or fp32")
    if name != "auto":
        return choose_precision(name, device)
    if device.type != "cuda":
        return torch.float32
    half = torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return half if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
