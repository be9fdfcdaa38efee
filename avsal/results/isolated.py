"""Files are processed in a separate process, so that a file that crashes it fails alone.

Files are read by native code (FFmpeg, image libraries), and some file crashes every such library.
The process has the network and takes file after file. Where it ends, or reports nothing for a
long time, the file that it was working on has failed, and a new process continues with the rest.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from avsal import atomic
from avsal.errors import AvsalError, MediaError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from avsal.prediction.predictor import Predictor
    from avsal.results.plan import Job

logger = logging.getLogger("avsal")

HANG_SECONDS = 1800  # without a map; decoding up to a late --start may take many minutes
_STOP_SECONDS = 10  # for a process to clean up once it is asked to stop
_HELD_BACK = {"SIGINT", "SIGHUP"}  # go to both processes; the first one decides what follows


# A file's number in the plan; its maps or the result's place, None where it was kept, or why it
# failed; seconds it took.
Finished = tuple[int, "int | Path | Exception | None", float]
OnMap = Callable[..., None]  # number in the plan, maps so far, maps expected, the step if several


@dataclass(frozen=True)
class Task:
    """A file to work on, its number in the plan and the place of its result."""

    number: int
    source: Path
    folder: Path


class FileWork(Protocol):
    """What is done with every file; has to be picklable.

    Attributes:
        load: makes the predictor, None where no network is needed.
        loud: show what libraries print on stderr by themselves, as they do when they crash.
        counted: what results have one of for each frame, in the singular.
    """

    @property
    def load(self) -> Callable[[], Predictor | None]: ...

    @property
    def loud(self) -> bool: ...

    @property
    def counted(self) -> str: ...

    def run_one(self, task: Task, on_map: OnMap) -> Iterator[Finished]:
        """Work on the only file, in this process; it is opened before the network is loaded."""
        ...

    def run(
        self,
        predictor: Any,
        tasks: list[Task],
        on_begin: Callable[[int], None] = ...,
        on_map: OnMap = ...,
    ) -> Iterator[Finished]:
        """Work on files in this process; one that fails is given out with its error.

        Args:
            predictor: from `load`.
            on_begin: called with the number of a file before it is opened, perhaps in a thread.
        """
        ...


def predict_isolated(
    plan: list[Job], work: FileWork, on_map: OnMap = lambda _number, _done, _total: None
) -> Generator[Finished, None, None]:
    """Work on files in another process; leaving early stops it and removes what is not finished.

    Raises:
        AvsalError: the network cannot be loaded.
    """
    groups = [[Task(number, *job) for number, job in enumerate(plan)]]
    while groups:
        with _child(work, groups) as child:
            yield from child.run(on_map)
        groups = child.left()
        if error := child.error():
            (task,) = child.begun
            yield task.number, error, round(time.monotonic() - child.latest, 3)


class _Child:
    """A process that works on groups of files, as this process sees it.

    Attributes:
        begun: files that it has begun and not finished.
        latest: when it last finished a file, or was ready.
    """

    def __init__(self, process: Any, pipe: Connection, groups: list[list[Task]]) -> None:
        self.begun: list[Task] = []
        self.latest = time.monotonic()
        self._process, self._pipe = process, pipe
        self._groups = groups
        self._open = {task.number: task for group in groups for task in group}
        self._ready = self._hangs = self._ended = self._useful = False

    def run(self, on_map: OnMap) -> Iterator[Finished]:
        """Give out files as they are finished, until all are or the process ends."""
        for kind, *values in self._messages():
            if kind == "map":
                on_map(*values)
            elif kind == "begin":
                self.begun.append(self._open[values[0]])
            elif kind == "finished":
                self._finished(values[0])
                yield values[0], values[1], values[2]
            elif kind == "note":
                logger.warning(values[0])
            elif kind == "ready":
                self._ready, self.latest = True, time.monotonic()
            elif kind == "stopped":
                raise values[0]

    def _messages(self) -> Iterator[tuple[Any, ...]]:
        silent = 0  # counted, not measured: both processes may be suspended for hours
        while self._open:
            if not self._pipe.poll(1):
                silent += self._ready
                if silent < HANG_SECONDS:
                    continue
                self._hangs = True
                return
            silent = 0
            try:
                yield self._pipe.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                self._ended = True
                return

    def _finished(self, number: int) -> None:
        task, self.latest, self._useful = self._open.pop(number), time.monotonic(), True
        if task in self.begun:
            self.begun.remove(task)

    def stop(self) -> None:
        """End the process and remove what it leaves behind."""
        if self._hangs:
            self._process.kill()
        elif self._open and not self._ended:
            self._process.terminate()
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()
        for task in self.begun:
            atomic.sweep(task.folder.resolve().parent)

    def left(self) -> list[list[Task]]:
        """Groups of files for the next process, after this one has ended.

        Images are read ahead, so several may have been begun; each of those is tried alone.

        Raises:
            AvsalError: it did nothing at all.
        """
        if not self._open:
            return []
        if not self.begun and not self._useful:
            raise AvsalError(
                f"the process that runs the network ended ({self._reason()}); free memory, or try "
                "one file alone"
            )
        suspects = [] if len(self.begun) == 1 else [[task] for task in self.begun]
        others = [
            [task for task in group if task.number in self._open and task not in self.begun]
            for group in self._groups
        ]
        return suspects + [group for group in others if group]

    def error(self) -> MediaError | None:
        """Why the only file that was begun has failed; None where there are none or several."""
        if len(self.begun) != 1:
            return None
        source = self.begun[0].source
        if self._hangs:
            return MediaError(
                f"{source}: no map within {HANG_SECONDS // 60} minutes, so it was given up; "
                "convert it first: ffmpeg -i INPUT OUTPUT.mp4"
            )
        return MediaError(
            f"{source}: the process that read it ended ({self._reason()}); convert it first: "
            "ffmpeg -i INPUT OUTPUT.mp4"
        )

    def _reason(self) -> str:
        code = self._process.exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{name}, often for lack of memory" if name == "SIGKILL" else name


@contextmanager
def _child(work: FileWork, groups: list[list[Task]]) -> Iterator[_Child]:
    """Start a process, and stop it afterwards."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_predict, args=(work, groups, theirs), daemon=True)
    with _held_back():
        process.start()
    theirs.close()
    child = _Child(process, ours, groups)
    try:
        yield child
    finally:
        child.stop()


@contextmanager
def _held_back() -> Iterator[None]:
    """Hold signals back; a process that is started meanwhile never hears them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    held = {getattr(signal, name) for name in _HELD_BACK}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- in the process


def _predict(work: FileWork, groups: list[list[Task]], pipe: Connection) -> None:
    """Work on groups of files, one after the other, and report what happens."""
    lock = threading.Lock()

    def send(*message: Any) -> None:
        with lock:
            pipe.send(message)

    signal.signal(signal.SIGTERM, _stop)
    if not work.loud:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logger.handlers = [Notes(partial(send, "note"))]
    try:
        predictor = work.load()
        send("ready")
        for tasks in groups:
            for number, result, seconds in work.run(
                predictor, tasks, partial(send, "begin"), partial(send, "map")
            ):
                sent = _portable(result) if isinstance(result, Exception) else result
                send("finished", number, sent, seconds)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception as error:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        send("stopped", _portable(error))


def _stop(_number: int, _frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # cleaning up is not to be interrupted
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Stop once the process that started this one is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class Notes(logging.Handler):
    """Passes on what the library logs, to the process that the user sees."""

    def __init__(self, send: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(record.getMessage())


def _portable(error: Exception) -> Exception:
    """An error that another process can read, with its traceback as a note."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(where)
    return error
