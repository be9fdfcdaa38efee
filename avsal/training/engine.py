"""The processes of a run: starting several, what they share, and their device and precision.

torchrun's own output, a traceback after every failure, is suppressed; the processes report errors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avsal.errors import AvsalError, UsageError
from avsal.prediction.device import choose_device, choose_precision

if TYPE_CHECKING:
    from avsal.training.samples import Sample

logger = logging.getLogger("avsal")
T = TypeVar("T")


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `avsal` with the same arguments in several processes of one run.

    Returns:
        The exit code: 0, that of the first process that failed, or 128 + n after signal n.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # DistributedDataParallel looks for unused parameters, which some networks have, and warns if
    # there are none.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    options = ["--standalone", f"--nproc-per-node={processes}", "-m", "avsal", *arguments]
    logging.disable(logging.ERROR)  # torchrun's messages about processes that end
    try:
        run(parse_args(options))
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        code = int(error.get_first_failure()[1].exitcode)
        return code if code > 0 else 128 - code
    finally:
        logging.disable(logging.NOTSET)
    return 0


class ReportedElsewhereError(AvsalError):
    """An error that another process of the run reports."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of the run reports the error")
        self.exit_code = exit_code


@contextlib.contextmanager
def reported_once() -> Iterator[None]:
    """Let one process of each machine report an error that occurs in all of them."""
    try:
        yield
    except AvsalError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            raise ReportedElsewhereError(error.exit_code) from None
        raise


class Engine:
    """One process of a run.

    Attributes:
        rank, world: number of this process, from 0, and of all processes.
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
        with reported_once():
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
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make a module average its gradients over the processes."""
        if self.world == 1:
            return module
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # Parts without influence on the map (SlowFast's last fusion) have no gradient.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def without_sync(self, module: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """Context in which gradients are not averaged; a later backward pass does it."""
        if isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return contextlib.nullcontext()

    def autocast(self) -> torch.autocast:
        """Context of mixed precision, if the engine's precision is not float32."""
        half = self.precision != torch.float32
        return torch.autocast(
            self.device.type, dtype=self.precision if half else None, enabled=half
        )

    def scaler(self) -> torch.amp.GradScaler:
        """Scaler that keeps float16 gradients in range; other precisions need none."""
        enabled = self.precision == torch.float16 and self.device.type == "cuda"
        return torch.amp.GradScaler(self.device.type, enabled=enabled)

    def put(self, batch: Sample) -> Sample:
        """Copy a batch to the device."""
        return {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor over the processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Copy the main process's buffers, such as BatchNorm's statistics, to all processes."""
        if self.world > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def together(self, work: Callable[[], T]) -> T:
        """Do something that must succeed in all processes.

        If it fails in several for the same reason, one of them reports it. Only the main process
        logs.

        Raises:
            AvsalError: it failed here or in another process.
        """
        failure, result = None, None
        was_disabled = logger.disabled
        logger.disabled = was_disabled or not self.is_main
        try:
            result = work()
        except AvsalError as error:
            failure = error
        finally:
            logger.disabled = was_disabled
        own = None if failure is None else (str(failure), failure.exit_code)
        failures = self.gather(own)
        if failure is not None and failures.index(own) == self.rank:
            raise failure
        codes = [each[1] for each in failures if each is not None]
        if codes:
            raise ReportedElsewhereError(codes[0])
        return result  # type: ignore[return-value]

    def fail(self, error: AvsalError) -> NoReturn:
        """Raise an error that occurs in all processes, so that one of them reports it."""
        raise error if self.is_main else ReportedElsewhereError(error.exit_code)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world == 1:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=self.device)))

    @contextlib.contextmanager
    def stop_signal(self) -> Iterator[Callable[[], bool]]:
        """Record Ctrl-C and a scheduler's SIGTERM instead of ending the process.

        A second signal ends it at once, unless there are several processes: torchrun sends them a
        signal of its own after the first.

        If the block ends with KeyboardInterrupt, the previous handler of the signal is called, so
        that the exit code tells which signal it was.

        Yields:
            A function that says whether any process received a signal. All processes must call it
            at the same time.
        """
        signals: list[int] = []

        def record(number: int, _frame: object) -> None:
            if signals and self.world == 1:
                raise KeyboardInterrupt
            if not signals and self.is_main:
                logger.warning("stopping as soon as this step or frame is done")
            signals.append(number)

        previous: dict[int, Any] = {}
        with contextlib.suppress(ValueError):  # only the main thread can set handlers
            for wanted in (signal.SIGINT, signal.SIGTERM):
                previous[wanted] = signal.signal(wanted, record)
        try:
            try:
                yield lambda: self.any(bool(signals))
            finally:
                for number, handler in previous.items():
                    signal.signal(number, handler)
        except KeyboardInterrupt:
            if signals and callable(previous[signals[0]]):
                previous[signals[0]](signals[0], None)
            raise

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in all processes."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


def _own_device(name: str) -> torch.device:
    """The device of one of several processes; each uses its own GPU."""
    device = choose_device(name)
    if device.type != "cuda":
        return device
    processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if processes > gpus:
        raise UsageError(f"{processes} processes need a GPU each, and torch finds {gpus} here")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def _training_precision(name: str, device: torch.device) -> torch.dtype:
    """As `choose_precision`, but "auto" prefers bf16 on CUDA, as it needs no scaling, and fp32 on
    CPUs.

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
