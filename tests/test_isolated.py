"""Files that end the process that predicts them, by a signal or by hanging, fail alone."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import samples
import tiny_network

from avsal import atomic
from avsal.errors import AvsalError, MediaError, WeightsError
from avsal.media.video import VideoReader
from avsal.models.variants import VARIANTS
from avsal.prediction.model import load_model
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results import isolated
from avsal.results.isolated import predict_isolated
from avsal.results.work import Work

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def load(number: int = 0):
    """The tiny network, whose process gets a signal when it opens a file that is called so.

    Args:
        number: the signal; 0 hangs instead.
    """
    VARIANTS.setdefault("tiny", tiny_network.make())
    begin = VideoReader.__init__

    def begin_or_die(self, source, *arguments, **named):
        begin(self, source, *arguments, **named)
        if Path(source).stem == "deadly":
            if not number:
                time.sleep(1000)
            os.kill(os.getpid(), number)

    VideoReader.__init__ = begin_or_die
    return load_model("tiny", "untrained", "cpu", "fp32")


def refuse():
    raise WeightsError("no weights here")


def die():
    os.kill(os.getpid(), signal.SIGSEGV)


def work(make, **changes) -> Work:
    return Work(make, PredictSettings(), OutputSettings(), **changes)


def plan_of(folder: Path, *sources: Path) -> list[tuple[Path, Path]]:
    return [(source, folder / "out" / source.stem) for source in sources]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_video_that_ends_the_process_fails_alone(tmp_path):
    sources = [samples.film(tmp_path / f"{name}.mp4", seconds=0.2) for name in ("a", "deadly", "z")]
    finished = list(
        predict_isolated(plan_of(tmp_path, *sources), work(partial(load, signal.SIGABRT)))
    )
    assert [(place, type(result)) for place, result, _seconds in finished] == [
        (0, int),
        (1, MediaError),
        (2, int),
    ]
    assert "deadly.mp4: the process that read it ended (SIGABRT)" in str(finished[1][1])
    assert names(tmp_path / "out") == ["a", "z"]


def test_among_images_that_are_read_ahead_only_one_fails(tmp_path, quick_workers):
    sources = [samples.still(tmp_path / f"{name}.png") for name in ("a", "b", "deadly", "y", "z")]
    maps: dict[int, int] = {}
    finished = predict_isolated(
        plan_of(tmp_path, *sources),
        work(partial(load, signal.SIGABRT)),
        lambda number, done, _total: maps.update({number: done}),
    )
    results = {number: result for number, result, _seconds in finished}
    assert isinstance(results.pop(2), MediaError)
    assert results == maps == dict.fromkeys((0, 1, 3, 4), 1)
    assert names(tmp_path / "out") == ["a", "b", "y", "z"]


@pytest.mark.slow
def test_a_file_that_hangs_is_given_up(tmp_path, quick_workers, monkeypatch):
    monkeypatch.setattr(isolated, "HANG_SECONDS", 3)
    sources = [samples.still(tmp_path / f"{name}.png") for name in ("deadly", "z")]
    finished = list(predict_isolated(plan_of(tmp_path, *sources), work(load)))
    results = {number: result for number, result, _seconds in finished}
    assert "no map within" in str(results[0])
    assert results[1] == 1
    assert names(tmp_path / "out") == ["z"]


def test_what_a_dead_process_was_writing_is_removed(tmp_path, quick_workers):
    source = samples.film(tmp_path / "long.mp4", seconds=20, rate=10)
    finished = predict_isolated(plan_of(tmp_path, source), work(load), kill_the_writer)
    ((_number, result, _seconds),) = finished
    assert isinstance(result, MediaError)
    assert names(tmp_path / "out") == []


def kill_the_writer(_number: int, done: int, _total: int | None) -> None:
    """Kill the child of this process that has written maps."""
    if done == 3:
        import multiprocessing

        (child,) = multiprocessing.active_children()
        os.kill(child.pid, signal.SIGKILL)


def test_a_run_that_is_left_early_stops_its_process(tmp_path):
    sources = [samples.film(tmp_path / f"{name}.mp4", seconds=9) for name in ("a", "b")]
    begun: list[int] = []

    def stop(number: int, _done: int, _total: int | None) -> None:
        begun.append(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(predict_isolated(plan_of(tmp_path, *sources), work(load), stop))
    assert begun == [0]
    assert names(tmp_path / "out") == []


def test_an_error_of_the_network_is_its_own(tmp_path, quick_workers):
    plan = plan_of(tmp_path, samples.still(tmp_path / "a.png"))
    with pytest.raises(WeightsError, match="no weights here"):
        list(predict_isolated(plan, work(refuse)))
    with pytest.raises(AvsalError, match=r"the process that runs the network ended \(SIGSEGV"):
        list(predict_isolated(plan, work(die)))


def test_kept_files_and_errors_come_back_as_they_are(tmp_path, quick_workers):
    sources = [samples.still(tmp_path / "a.png"), samples.text(tmp_path / "b.mp4")]
    plan = plan_of(tmp_path, *sources)
    first = [result for _number, result, _seconds in predict_isolated(plan, work(load))]
    assert first[0] == 1
    assert isinstance(first[1], MediaError)
    assert "b.mp4" in str(first[1])
    again = predict_isolated(plan[:1], work(load, skip_existing=True))
    assert [result for _number, result, _seconds in again] == [None]


@pytest.mark.slow
def test_a_worker_ends_with_the_command(tmp_path, avsal_process):
    """A command that is killed leaves nothing behind: its process stops and cleans up."""
    (tmp_path / "in").mkdir()
    film = samples.film(tmp_path / "in" / "a.mp4", seconds=60, rate=10)
    out = tmp_path / "out"
    process, output = avsal_process("batch", film.parent, "-o", out)
    until = time.monotonic() + 120
    while not list(out.glob(f"{atomic.PARTIAL}*/000003.png")):
        assert time.monotonic() < until, output()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    while names(out):
        assert time.monotonic() < until, names(out)
        time.sleep(0.05)
