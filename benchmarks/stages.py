"""Print what each stage of `avsal predict` takes for a frame, alone and all together.

    python benchmarks/stages.py VIDEO [--frames 24] [--stride 1] [--model NAME] [--weights FILE]

Milliseconds, and in brackets those of processor time, which other work on the machine hardly
changes. Stages overlap when they run together, so their sum is more than the whole.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from avsal.media import AudioReader, VideoReader
from avsal.prediction.frames import FrameCache, WindowInput, read_ahead
from avsal.prediction.maps import Smoothing, filled
from avsal.prediction.model import load_model
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.prediction.shots import ShotFinder
from avsal.results.folder import new_result
from avsal.results.jobs import MapJob

Result = TypeVar("Result")


def measured(name: str, frames: int, work: Callable[[], Result]) -> Result:
    """Do a stage's work and print what it took for each of its frames."""
    began, used = time.perf_counter(), time.process_time()
    result = work()
    seconds = time.perf_counter() - began, time.process_time() - used
    wall, processor = (1000 * each / frames for each in seconds)
    print(f"{name:<44} {wall:8.2f} ({processor:.2f})")
    return result


def read_windows(
    predictor: Predictor, video: VideoReader, settings: PredictSettings
) -> list[WindowInput]:
    """The windows of a video, with their pixels and sound."""
    sound = AudioReader(video.path, video.origin) if video.info.has_audio else None
    resize = predictor.resizing(video.info.height, video.info.width)
    finder = ShotFinder()
    cache = FrameCache(settings, predictor.rule(settings, batch=1), sound, finder)
    return list(cache.windows(read_ahead(video, video.origin, resize, 4, finder)))


def write(folder: Path, maps: Iterable) -> None:
    with new_result(folder, {"settings": {}}, OutputSettings()) as result:
        for each in maps:
            result.write(each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--weights", default="untrained")
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    count, video = given.frames, given.video
    predictor = load_model(given.model, given.weights, precision=given.precision)
    print(f"{video.name}, {predictor.description}")

    with VideoReader(video) as opened:
        measured("decode", count, lambda: list(itertools.islice(opened, count)))
        rate = float(opened.info.rate or 25)
    settings = PredictSettings(stride=given.stride, end=count / rate)
    with VideoReader(video) as opened:
        windows = measured(
            "decode, resize, cuts, sound, spectrogram",
            count,
            lambda: read_windows(predictor, opened, settings),
        )
    engine, rule = predictor.engine, predictor.rule(settings)
    smoothing = Smoothing(rule.smoothing, rule.smoothing_ahead)
    batches = measured("network", count, lambda: list(engine.batches(iter(windows), batch=1)))
    maps = measured(
        "smoothing, interpolation, post-processing",
        count,
        lambda: list(predictor.postprocess(filled(iter(batches), smoothing), settings)),
    )
    with tempfile.TemporaryDirectory() as parent:
        folder, job = Path(parent), MapJob(predictor, settings, OutputSettings())
        measured("writing PNG", count, lambda: write(folder / "maps", maps))
        measured(
            "all together",
            count,
            lambda: job.write(predictor.predict(video, settings), folder / "all"),
        )


if __name__ == "__main__":
    main()
