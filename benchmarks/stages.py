"""Print the seconds per frame of each stage of `avsal predict`, alone and all together.

    python benchmarks/stages.py VIDEO [--frames 24] [--model NAME] [--weights FILE]

Stages overlap when they run together, so their sum is more than the whole.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from avsal.media import AudioReader, VideoReader
from avsal.prediction.frames import FrameCache, read_ahead
from avsal.prediction.maps import Smoothing, filled, to_density
from avsal.prediction.model import load_model
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.folder import new_result
from avsal.results.jobs import predict_to_folder


def clock(work: Iterable[object], frames: int) -> tuple[float, list]:
    began = time.perf_counter()
    results = list(work)
    return (time.perf_counter() - began) / frames, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--model")
    parser.add_argument("--weights", default="untrained")
    parser.add_argument("--precision", default="fp32")
    arguments = parser.parse_args()
    count = arguments.frames
    predictor = load_model(arguments.model, arguments.weights, precision=arguments.precision)
    print(f"{arguments.video.name}, {predictor.description}")

    with VideoReader(arguments.video) as video:
        seconds, _ = clock(itertools.islice(video, count), count)
        print(f"decode                       {seconds:.4f} s per frame")
        rate = float(video.info.rate or 25)
    settings = PredictSettings(stride=1, end=count / rate)
    rule = predictor.rule(settings, batch=1)
    with VideoReader(arguments.video) as video:
        sound = AudioReader(arguments.video, video.origin) if video.info.has_audio else None
        cache = FrameCache(settings, rule, sound)
        size = predictor.input_size(video.info.height, video.info.width)
        frames = read_ahead(video, video.origin, size, depth=4)
        seconds, windows = clock(cache.windows(frames), count)
        print(f"decode, resize, spectrogram  {seconds:.4f} s per frame")
    seconds, batches = clock(predictor.engine.batches(iter(windows), batch=1), count)
    print(f"network                      {seconds:.4f} s per frame")
    size = (windows[0].tag.height, windows[0].tag.width)
    log_densities = [each for batch in batches for _, each in batch]
    seconds, _ = clock((to_density(each, size) for each in log_densities), count)
    print(f"post-processing              {seconds:.4f} s per frame")
    maps = filled(iter(batches), Smoothing(rule.smoothing))
    frames = list(predictor.postprocess(maps, settings))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with new_result(Path(folder) / "maps", {"settings": {}}, OutputSettings()) as result:
            for frame in frames:
                result.write(frame)
        print(
            f"writing PNG                  {(time.perf_counter() - began) / count:.4f} s per frame"
        )
        began = time.perf_counter()
        predict_to_folder(
            predictor, arguments.video, Path(folder) / "all", settings, OutputSettings()
        )
        print(
            f"all together                 {(time.perf_counter() - began) / count:.4f} s per frame"
        )


if __name__ == "__main__":
    main()
