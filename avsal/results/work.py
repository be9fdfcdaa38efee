"""What a command does with every file of a list, in this process or in another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsal.results.isolated import Finished, OnMap, Task

if TYPE_CHECKING:
    from avsal.prediction.predictor import Predictor
    from avsal.prediction.settings import OutputSettings, PredictSettings
    from avsal.results.jobs import MapJob


class KeptError(Exception):
    """The result of a file was kept, which is not a failure.

    Attributes:
        place: where it is.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.place = place


@dataclass(frozen=True)
class Work:
    """Files predicted to folders of maps; see `isolated.FileWork`.

    Attributes:
        skip_existing: leave complete results of the same settings alone.
        force: replace earlier results; without it they are errors.
    """

    load: Callable[[], Predictor]
    settings: PredictSettings
    output: OutputSettings
    skip_existing: bool = False
    loud: bool = False
    force: bool = True

    @property
    def counted(self) -> str:
        """What there is one of for each frame; see `isolated.FileWork`."""
        from avsal.results.formats import SUFFIXES

        return "row" if f".{self.output.format}" in SUFFIXES else "map"

    def run(
        self,
        predictor: Predictor,
        tasks: list[Task],
        on_begin: Callable[[int], None] = lambda _number: None,
        on_map: OnMap = lambda _number, _done, _total: None,
    ) -> Iterator[Finished]:
        """See `isolated.FileWork`."""
        from avsal.prediction.model import predict_files

        job, wanted = self._job(predictor), []
        for task in tasks:
            try:
                self._check_place(task)
                if self.skip_existing and job.is_current(task.folder, task.source):
                    yield task.number, None, 0.0
                else:
                    wanted.append(task)
            except Exception as error:
                yield task.number, error, 0.0

        def sources() -> Iterator[Path]:
            for task in wanted:
                on_begin(task.number)
                yield task.source

        began = time.monotonic()
        predictions = predict_files(predictor, sources(), self.settings)
        for task, (_source, prediction) in zip(wanted, predictions, strict=True):
            result: int | Exception
            try:
                if isinstance(prediction, Exception):
                    raise prediction
                result = job.write(prediction, task.folder, partial(on_map, task.number))
            except Exception as error:  # whatever is wrong with one file, the next one may be fine
                result = error
            yield task.number, result, round(time.monotonic() - began, 3)
            began = time.monotonic()

    def run_one(self, task: Task, on_map: OnMap) -> Iterator[Finished]:
        """See `isolated.FileWork`."""
        from avsal.media.video import VideoReader

        began = time.monotonic()
        result: int | Exception | None
        try:
            self._check_place(task)
            video = VideoReader(task.source)
        except Exception as error:
            yield task.number, error, 0.0
            return
        with video:
            predictor = self.load()
            job = self._job(predictor)
            try:
                result = None
                if not (self.skip_existing and job.is_current(task.folder, task.source)):
                    prediction = predictor.predict_reader(video, self.settings)
                    result = job.write(prediction, task.folder, partial(on_map, task.number))
            except Exception as error:
                result = error
        yield task.number, result, round(time.monotonic() - began, 3)

    def _check_place(self, task: Task) -> None:
        from avsal.results.checks import ExistsError

        if not (self.force or self.skip_existing) and task.folder.exists():
            raise ExistsError(task.folder)

    def _job(self, predictor: Predictor) -> MapJob:
        from avsal.results.jobs import MapJob

        return MapJob(predictor, self.settings, self.output)


@dataclass(frozen=True)
class Calls:
    """A function called with file after file, such as `avsal.overlay`; see `isolated.FileWork`.

    Attributes:
        function: takes a file, the place of its result, `force`, `progress`, and either `network`
            or a loaded one as `model`; returns where the result is.
        network: keywords of the network that the function loads itself.
        force: replace results that exist.
        skip_existing: keep those that are up to date, and replace the others.
        saliency: the folder of each file's maps; empty where a network makes them.
        is_current: takes the place of a result, the file and the folder of its maps, and tells
            whether it is up to date; None takes one that is not older than its file, its maps and
            `made_of`.
        on_kept: called with a file and the place of its result where that is kept.
        made_of: other files that results are made of.
    """

    function: Callable[..., Path]
    load: Callable[[], Predictor | None]
    network: Mapping[str, Any]
    force: bool = False
    skip_existing: bool = False
    loud: bool = False
    saliency: Mapping[Path, Path] = field(default_factory=dict)
    is_current: Callable[[Path, Path, Path | None], bool] | None = None
    on_kept: Callable[[Path, Path], None] | None = None
    made_of: tuple[Path, ...] = ()
    counted = "frame"

    def run_one(self, task: Task, on_map: OnMap) -> Iterator[Finished]:
        """See `isolated.FileWork`; the function loads the network itself."""
        return self.run(None, [task], on_map=on_map)

    def run(
        self,
        predictor: Predictor | None,
        tasks: list[Task],
        on_begin: Callable[[int], None] = lambda _number: None,
        on_map: OnMap = lambda _number, _done, _total: None,
    ) -> Iterator[Finished]:
        """See `isolated.FileWork`."""
        network = self.network if predictor is None else {"model": predictor}
        function = partial(self.function, **network)
        for task in tasks:
            on_begin(task.number)
            began = time.monotonic()
            result: Path | Exception
            try:
                result = self._call(function, task, on_map)
            except Exception as error:  # whatever is wrong with one file, the next one may be fine
                result = error
            yield task.number, result, round(time.monotonic() - began, 3)

    def _call(self, function: Callable[..., Path], task: Task, on_map: OnMap) -> Path:
        from avsal.results.checks import ExistsError

        if self.skip_existing and self._keeps(task.folder, task.source):
            raise self._kept(task.source, task.folder)

        def progress(*step: Any) -> None:  # some functions have several steps and name each
            on_map(task.number, *step[-2:], *step[:-2])

        call = partial(function, task.source, task.folder, progress=progress)
        if task.source in self.saliency:
            call = partial(call, saliency=self.saliency[task.source])
        try:
            return call(force=self.force)
        except ExistsError as error:
            if not self.skip_existing:
                raise
            if self._keeps(error.place, task.source):
                raise self._kept(task.source, error.place) from None
            return call(force=True)

    def _keeps(self, place: Path, source: Path) -> bool:
        from avsal.results.checks import is_newer
        from avsal.results.description import DESCRIPTION

        maps = self.saliency.get(source)
        if self.is_current is not None:
            return self.is_current(place, source, maps)
        described = [] if maps is None else [maps / DESCRIPTION]
        return is_newer(place, source, *described, *self.made_of)

    def _kept(self, source: Path, place: Path) -> KeptError:
        if self.on_kept is not None:
            self.on_kept(source, place)
        return KeptError(place)


def no_network() -> None:
    """Load nothing."""
