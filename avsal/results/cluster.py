"""Many videos on the workers of a Ray cluster, long ones in stretches; Ray distributes the work.

Each worker is a process with the network loaded. What a worker is doing when it ends is done again
by another one. Videos and results are on a file system that all of them see.
"""

from __future__ import annotations

import heapq
import logging
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from avsal import atomic
from avsal.errors import AvsalError, MediaError, UsageError
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.folder import written_names
from avsal.results.isolated import Notes
from avsal.results.jobs import MapJob, Stretch, put_together
from avsal.results.plan import Job

logger = logging.getLogger("avsal")

LOCAL = "local"  # the address that stands for a new cluster of this machine alone
STRETCH = 2000  # frames; reading back and loading take less than 2 % of their time
TRIES = 3  # workers that a file may take with it before it is given up
_HOST_PORT = re.compile(r"(ray://)?\[?(?P<host>[^/]+?)\]?:(?P<port>\d+)")
_STOP_SECONDS = 10  # how long killed workers may take to end
_notes: list[str] = []  # of a worker, for the user

# A file's place in the plan; its maps, None where it was kept, or why it failed; seconds it took.
Finished = tuple[int, int | Exception | None, float]
OnMaps = Callable[[int, int], None]  # called with maps done and maps expected, of all files


@dataclass(repr=False)  # Ray prints workers that end before they have attributes
class Worker:
    """What one process of the cluster does; its attributes are the same in all of them."""

    load: Callable[[], Predictor]
    settings: PredictSettings
    output: OutputSettings
    skip_existing: bool
    length: int

    @cached_property
    def job(self) -> MapJob:
        return MapJob(self.load(), self.settings, self.output)

    def ready(self) -> None:
        """Load the network."""
        logger.handlers = [Notes(_notes.append)]
        assert self.job

    def look(self, source: Path, folder: Path) -> list[Stretch]:
        """The stretches of a file; none where its result is there already."""
        if self.skip_existing and self.job.is_current(folder, source):
            return []
        return self.job.stretches(source, self.length)

    def predict(
        self, source: Path, stretch: Stretch, folder: Path, aside: Path, alone: bool
    ) -> tuple[int, list[str]]:
        """Write a stretch; return the number of its maps, and notes for the user.

        What is the whole file is also put together, which else is the driver's work.
        """
        count = self.job.predict_stretch(source, stretch, folder, aside)
        if alone:
            with atomic.write_errors(folder):
                put_together(aside, [stretch])
        notes = _notes.copy()
        _notes.clear()
        return count, notes


@dataclass
class _File:
    """A file that is not finished.

    Attributes:
        waiting: stretches that are not done.
        building: the context in which its folder is made; None before its first stretch.
        deaths: workers that ended over it.
    """

    number: int
    source: Path
    folder: Path
    bytes: int
    began: float = 0.0
    parts: list[Stretch] = field(default_factory=list)
    waiting: set[Stretch] = field(default_factory=set)
    building: AbstractContextManager[Path] | None = None
    aside: Path | None = None
    deaths: int = 0

    def open(self, parts: list[Stretch]) -> None:
        """Make the hidden folder that becomes the result."""
        self.parts, self.waiting = parts, set(parts)
        building = atomic.new_folder(self.folder, written_names)
        self.aside = building.__enter__()
        self.building = building

    def close(self, error: BaseException | None = None) -> None:
        """Let the result appear, or with an error leave nothing of it."""
        building, self.building = self.building, None
        if building is not None:
            building.__exit__(type(error) if error else None, error, None)


def _remove(folder: Path | None) -> None:
    """Remove a folder into which a worker may write for a moment after Ray calls it dead."""
    until = time.monotonic() + _STOP_SECONDS
    while folder is not None and folder.exists() and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


_Task = tuple[_File, Stretch | None]  # what a worker is given; None: look at the file


class _Driver:
    """Hands out work, the largest files first, and takes in what comes back."""

    def __init__(self, ray: Any, start: Callable[[], Any], count: int, on_maps: OnMaps) -> None:
        self._ray, self._start, self._on_maps = ray, start, on_maps
        self._queue: list[tuple[int, int, int, _Task]] = []
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, _Task | None]] = {}
        self._done = self._expected = 0
        self._failed_starts = 0
        self._files: dict[int, _File] = {}
        for _ in range(count):
            self._add_worker()

    def run(self, files: list[_File]) -> Iterator[Finished]:
        """Yield every file once it is finished."""
        for file in files:
            self._files[file.number] = file
            self._put(file, None)
        while self._files:
            self._hand_out()
            (ref,), _ = self._ray.wait(list(self._running), num_returns=1)
            worker, task = self._running.pop(ref)
            if task is None:
                self._started(ref, worker)
            elif finished := self._returned(ref, worker, *task):
                yield finished

    def stop(self) -> None:
        """End the workers, wait until they write no more, and remove what is not finished."""
        refs = list(self._running)
        try:
            for worker in [*self._idle, *(worker for worker, _ in self._running.values())]:
                self._ray.kill(worker)
            if refs:
                self._ray.wait(refs, num_returns=len(refs), timeout=_STOP_SECONDS)
        finally:
            for file in self._files.values():
                file.close(AvsalError("stopped"))
                _remove(file.aside)

    def _is_stale(self, file: _File, stretch: Stretch | None) -> bool:
        """Whether a file is finished, or a stretch is one of an earlier cut of it."""
        return file.number not in self._files or bool(stretch and stretch not in file.parts)

    def _put(self, file: _File, stretch: Stretch | None) -> None:
        number = -1 if stretch is None else stretch.number
        heapq.heappush(self._queue, (-file.bytes, file.number, number, (file, stretch)))

    def _add_worker(self) -> None:
        worker = self._start()
        self._running[worker.ready.remote()] = (worker, None)

    def _started(self, ref: Any, worker: Any) -> None:
        try:
            self._result(ref)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts == TRIES:
                raise AvsalError(
                    f"the cluster's workers end while they load the network ({_one_line(error)}); "
                    "each needs this version of avsal and enough memory (more --ray-threads start "
                    "fewer of them)"
                ) from None
            self._add_worker()
        else:
            self._failed_starts = 0
            self._idle.append(worker)

    def _result(self, ref: Any) -> Any:
        """What a worker returned; raises what it raised there, or RayError if it ended."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause or RuntimeError(str(error)) from None

    def _hand_out(self) -> None:
        while self._idle and self._queue:
            *_, (file, stretch) = heapq.heappop(self._queue)
            if self._is_stale(file, stretch):
                continue
            worker = self._idle.pop()
            if stretch is None:
                file.began = time.monotonic()
                ref = worker.look.remote(file.source, file.folder)
            else:
                alone = len(file.parts) == 1
                given = (file.source, stretch, file.folder, file.aside, alone)
                ref = worker.predict.remote(*given)
            self._running[ref] = (worker, (file, stretch))

    def _returned(
        self, ref: Any, worker: Any, file: _File, stretch: Stretch | None
    ) -> Finished | None:
        """Take in what came of a file or a stretch; return the file if that finishes it."""
        stale = self._is_stale(file, stretch)
        try:
            result = self._result(ref)
        except self._ray.exceptions.RayError as error:
            self._add_worker()
            return None if stale else self._died(file, stretch, error)
        except Exception as error:
            result = error
        self._idle.append(worker)
        if stale:
            return None
        try:
            if isinstance(result, Exception):
                raise result
            if stretch is None:
                return self._looked(file, result)
            return self._predicted(file, stretch, *result)
        except Exception as error:  # whatever is wrong with one file, the next one may be fine
            return self._went_wrong(file, error)

    def _died(self, file: _File, stretch: Stretch | None, error: Exception) -> Finished | None:
        file.deaths += 1
        if file.deaths == TRIES:
            return self._finish(file, _gave_up(file, error))
        self._put(file, stretch)
        return None

    def _looked(self, file: _File, parts: list[Stretch]) -> Finished | None:
        if not parts:
            return self._finish(file, None)
        file.open(parts)
        self._expected += sum(part.maps for part in parts)
        self._on_maps(self._done, self._expected)
        for part in parts:
            self._put(file, part)
        return None

    def _predicted(
        self, file: _File, stretch: Stretch, maps: int, notes: list[str]
    ) -> Finished | None:
        for note in notes:
            logger.warning(note)
        file.waiting.remove(stretch)
        self._done += maps
        self._on_maps(self._done, self._expected)
        if file.waiting:
            return None
        if len(file.parts) > 1:
            assert file.aside is not None
            with atomic.write_errors(file.folder):
                maps = put_together(file.aside, file.parts)
        file.close()
        return self._finish(file, maps)

    def _went_wrong(self, file: _File, error: Exception) -> Finished | None:
        """A file that fails in stretches is done as a whole, which tells whether it is at fault."""
        file.close(AvsalError("failed"))
        if not isinstance(error, MediaError) or len(file.parts) <= 1:
            return self._finish(file, error)
        whole = Stretch(number=len(file.parts))
        file.open([whole])
        self._put(file, whole)
        return None

    def _finish(self, file: _File, result: int | Exception | None) -> Finished:
        if isinstance(result, Exception):
            file.close(AvsalError("failed"))
        del self._files[file.number]
        return file.number, result, round(time.monotonic() - file.began, 3)


def _gave_up(file: _File, error: Exception) -> MediaError:
    return MediaError(
        f"{file.source}: {TRIES} workers ended while they worked on it ({_one_line(error)}); "
        "try it alone with avsal predict"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def predict_on_cluster(
    plan: list[Job],
    worker: Worker,
    address: str,
    threads: int,
    on_maps: OnMaps = lambda _done, _expected: None,
) -> Generator[Finished, None, None]:
    """Predict files on a cluster; leaving early removes what is not finished.

    Args:
        plan: files that can be read, and the folders of their results.
        worker: what every worker is made from; has to be picklable.
        address: of a Ray cluster, or "auto" for the one that runs on this machine, or `LOCAL`.
        threads: processor cores of each worker; where the cluster has GPUs, each has one of them.

    Raises:
        UsageError: Ray is not installed, there is no such cluster, or it is too small.
        AvsalError: the network cannot be loaded.
    """
    with _cluster(address) as ray:
        remote, count = _remote_worker(ray, threads)
        files = [
            _File(number, source.absolute(), folder.absolute(), _size(source))
            for number, (source, folder) in enumerate(plan)
        ]
        driver = _Driver(ray, lambda: remote.remote(*vars(worker).values()), count, on_maps)
        try:
            yield from driver.run(files)
        finally:
            driver.stop()


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError:  # the worker that opens it says why
        return 0


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Connect to a cluster, or start one; gives Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UsageError('--ray needs Ray; install it with: pip install "avsal[ray]"') from None
    if ray.is_initialized():  # by the program that asks; its cluster is not ours to leave
        yield ray
        return
    handler = signal.getsignal(signal.SIGTERM)  # Ray sets its own
    try:
        if match := _HOST_PORT.fullmatch(address):  # Ray would try for minutes
            socket.create_connection((match["host"], int(match["port"])), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise UsageError(f"--ray {address}: no such cluster ({_one_line(error)})") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _remote_worker(ray: Any, threads: int) -> tuple[Any, int]:
    """The class of remote workers, and how many of them the cluster has room for."""
    resources = ray.cluster_resources()
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if gpus:
        threads = max(1, min(threads, cores // gpus))
        return ray.remote(num_cpus=threads, num_gpus=1)(Worker), gpus
    if cores < threads:
        raise UsageError(f"--ray-threads {threads}: the cluster has {cores} cores")
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    count = sum(here // threads for here in nodes)
    if not count:
        raise UsageError(f"--ray-threads {threads}: no machine of the cluster has so many cores")
    return ray.remote(num_cpus=threads)(Worker), count
