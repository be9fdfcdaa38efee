"""The whole job on one video: a folder of maps, unless it exists already.

Or the video is cut into stretches, which many workers predict separately, and which are then
joined. The maps are those of the whole video: windows reach back beyond a stretch's first frame,
and stretches begin where a batch of windows begins, so that even the rounding is the same where a
batch is more than one window.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avsal import atomic
from avsal.errors import MediaError, OutputError
from avsal.media.container import VideoInfo, library_version
from avsal.media.source import file_identity
from avsal.media.video import probe
from avsal.prediction.predictor import Prediction, Predictor
from avsal.prediction.settings import (
    PROCESSING,
    OutputSettings,
    PredictSettings,
    exact_seconds,
    expected_maps,
)
from avsal.prediction.shots import Cut, shots_between
from avsal.prediction.windows import target_until
from avsal.results.description import (
    DESCRIPTION,
    FrameRecord,
    description_of,
    shot_records,
)
from avsal.results.folder import new_result, result_files
from avsal.results.formats import FORMAT_CLASSES
from avsal.results.records import RecordsFile, RecordsWriter
from avsal.version import __version__

# Called after every map with the number of maps so far and of those to be expected, if known.
OnMap = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Stretch:
    """A part of a video.

    Attributes:
        number: place among the video's stretches, from 0.
        start, stop: seconds since the first frame; the frame at `stop` is the next stretch's
            first. None at the ends that the settings give.
        maps: how many are expected, 0 where that is unknown.
    """

    number: int = 0
    start: float | None = None
    stop: float | None = None
    maps: int = 0


@dataclass(frozen=True)
class MapJob:
    """How the maps of videos are made and written; the same for all of them.

    Attributes:
        predictor: the network.
        settings: how it predicts.
        output: how maps are written.
    """

    predictor: Predictor
    settings: PredictSettings
    output: OutputSettings

    @property
    def settings_record(self) -> dict[str, Any]:
        """The settings that decide a result; `batch` is omitted because it changes no map."""
        settings = self.predictor.with_defaults(self.settings)
        record = {**asdict(settings), "size": str(settings.size), **asdict(self.output)}
        del record["batch"]
        return record

    def describe(self, prediction: Prediction) -> dict[str, Any]:
        """The head of `saliency.json`: all that is known before the first frame."""
        info = prediction.info
        made_by = self.predictor.description
        return {
            "avsal": __version__,
            "source": prediction.identity,
            "processing": PROCESSING,
            "model": made_by.model,
            "weights": {"name": made_by.weights, "sha256": made_by.weights_sha256},
            "settings": self.settings_record,
            "device": made_by.device,
            "precision": made_by.precision,
            "engine": made_by.engine,
            "versions": dict(_versions(made_by.engine)),
            "width": info.width,
            "height": info.height,
            "fps": float(info.rate) if info.rate else None,
            "sound": info.has_audio and self.predictor.uses_audio,
        }

    def write(
        self,
        prediction: Prediction,
        folder: Path,
        on_map: OnMap = lambda _done, _total: None,
    ) -> int:
        """Write the maps of one video into `folder`, which appears only when all are there.

        Args:
            prediction: made with the predictor and the settings, not yet begun.

        Returns:
            The number of maps.

        Raises:
            MediaError: the video cannot be read.
            OutputError: the folder cannot be written, or a map has values that are not numbers.
        """
        count, source = 0, prediction.info.path
        with prediction as frames:
            if isinstance(source, Path) and folder.resolve() in source.resolve().parents:
                raise OutputError(
                    f"{source}: is in {folder}, which its result would replace; choose another "
                    "output"
                )
            with new_result(folder, self.describe(frames), self.output) as result:
                result.on_held = lambda: on_map(count, frames.total)  # it is not hanging
                for count, frame in enumerate(frames, 1):
                    result.write(frame)
                    on_map(count, frames.total)
                result.cuts = frames.finder.changes
                result.after = {"shots": shot_records(result.shots(result.cuts))}
        return count

    def is_current(self, folder: Path, source: Path) -> bool:
        """Whether `folder` holds the complete result of this video, model, weights and settings,
        made in the way in which it would be made now."""
        try:
            found = description_of(folder).header()
            weights = found["weights"]["sha256"]
        except (MediaError, KeyError, TypeError):
            return False
        made_by = self.predictor.description
        wanted = {
            "source": file_identity(source),
            "processing": PROCESSING,
            "model": made_by.model,
            "precision": made_by.precision,
            "weights": made_by.weights_sha256,
            "settings": self.settings_record,
        }
        if made_by.precision != "fp32":  # in which all engines give the same maps but for rounding
            wanted["engine"] = made_by.engine
        return wanted == {**{key: found.get(key) for key in wanted}, "weights": weights}

    def stretches(self, source: Path, length: int) -> list[Stretch]:
        """Cut a video into stretches of about `length` frames.

        A video of unknown length or frame rate stays whole, and so does one whose maps need each
        other: a scale over the clip, or one file of all maps.

        Raises:
            MediaError: the file cannot be read.
        """
        info = probe(source)
        settings = self.predictor.with_defaults(self.settings)
        maps = expected_maps(info.frames, info.rate, settings.start, settings.end)
        together = self.output.scale == "clip" or FORMAT_CLASSES[self.output.format].one_file
        if maps is None or info.rate is None or together:
            return [Stretch(maps=maps or 0)]
        stride = settings.stride or 1
        group = stride * self.predictor.batch(settings)
        return _stretches(info, settings, maps, math.ceil(length / group) * group, stride)

    def predict_stretch(self, source: Path, stretch: Stretch, folder: Path, aside: Path) -> int:
        """Write the maps of a stretch into `aside`, and its records for `put_together`.

        Doing it again replaces what a worker left that came to an end in between.

        Args:
            folder: where the result will be in the end.

        Returns:
            The number of maps.

        Raises:
            MediaError, OutputError: see `write`.
        """
        settings, count = self.settings, 0
        if stretch.start is not None:
            settings = replace(settings, start=stretch.start)
        with self.predictor.predict(source, settings) as frames:
            header, name = self.describe(frames), _records_name(stretch)
            with (
                atomic.write_errors(folder),
                result_files(folder, aside, name, header, self.output) as result,
            ):
                for frame in frames:
                    # Not by the setting `end`: the last batch of windows is to be a whole one.
                    if stretch.stop is not None and frame.info.time >= exact_seconds(stretch.stop):
                        break
                    result.write(frame)
                    count += 1
                result.cuts = frames.finder.changes
                cuts = [{"index": i, "pts": str(pts)} for i, pts in result.cuts]
                result.after = {"cuts": cuts, "end": [{"pts": str(result.end)}]}
        return count


@cache
def _versions(engine: str) -> dict[str, str | None]:
    """Versions of what makes maps, read once: packages' metadata takes as long as writing a map."""
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "onnxruntime": version("onnxruntime") if engine == "onnx" else None,
        "openvino": version("openvino") if engine == "openvino" else None,
        "av": library_version(),
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def _stretches(
    info: VideoInfo, settings: PredictSettings, maps: int, length: int, stride: int
) -> list[Stretch]:
    """The last one is up to twice as long: the number of frames in a header is an estimate."""
    assert info.rate is not None
    first = math.ceil(exact_seconds(settings.start or 0) * info.rate)
    begin = target_until(first, stride)
    count = max(1, (first + maps - begin) // length)
    frames = [first, *(begin + place * length for place in range(1, count)), first + maps]
    # Between two frames, where rounding does no harm.
    times: list[float | None] = [float((frame - Fraction(1, 2)) / info.rate) for frame in frames]
    times[0] = times[-1] = None
    return [
        Stretch(place, times[place], times[place + 1], frames[place + 1] - frames[place])
        for place in range(count)
    ]


def put_together(aside: Path, stretches: Iterable[Stretch]) -> int:
    """Make one description of those of the stretches, which then are gone.

    Returns:
        The number of maps.

    Raises:
        MediaError: the stretches do not join, because the video's header was wrong, or machines
            computed them in different ways. As a whole, it may be predicted nevertheless.
    """
    files = [RecordsFile(aside / _records_name(part), "avsal batch") for part in stretches]
    headers = [file.header() for file in files]
    name = headers[0]["source"]["name"]
    if any(header["source"] != headers[0]["source"] for header in headers):
        raise MediaError(f"{name}: was replaced while it was read; predict it again")
    if len({(header["engine"], header["precision"]) for header in headers}) > 1:
        raise MediaError(f"{name}: was predicted in different ways by different machines")
    writer = RecordsWriter(aside / DESCRIPTION, headers[0])
    count, before, end = 0, None, Fraction(0)
    first: Cut | None = None
    cuts: set[Cut] = set()
    try:
        for file in files:
            for record in file.records(FrameRecord.parse):
                if before is not None and record.index != before + 1:
                    raise MediaError(f"{file.path}: frame {record.index} follows frame {before}")
                writer.add(asdict(record))
                first = first or (record.index, record.pts)
                count, before = count + 1, record.index
            after = file.after()
            cuts |= {(cut["index"], Fraction(cut["pts"])) for cut in after["cuts"]}
            end = Fraction(after["end"][0]["pts"])
        shots = shots_between(first, before, end, cuts) if first and before is not None else []
        writer.close({"shots": shot_records(shots)})
    finally:
        writer.abandon()
    for file in files:
        file.path.unlink()
    return count


def _records_name(stretch: Stretch) -> str:
    return f".stretch-{stretch.number:06d}.json"
