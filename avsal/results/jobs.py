"""The whole job on one video: a folder of maps, unless it is there already."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from avsal import media
from avsal.errors import MediaError
from avsal.media.info import VideoInfo
from avsal.media.source import as_source, without_query
from avsal.prediction.predictor import Prediction, Predictor
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.description import is_result, read_header, shot_records
from avsal.results.folder import new_result
from avsal.version import __version__

# Called after every map with the number of maps so far and of those to be expected, if known.
OnMap = Callable[[int, int | None], None]


def file_identity(source: Path) -> dict[str, Any]:
    """Name, size and time of change of a file, without reading it; an address without its query."""
    address = as_source(source)
    if isinstance(address, str):
        return {"name": without_query(address)}
    status = source.stat()
    return {"name": source.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def settings_record(settings: PredictSettings, output: OutputSettings) -> dict[str, Any]:
    """The settings that decide a result; `batch` is left out, it changes no map."""
    record = {**asdict(settings), "size": str(settings.size), **asdict(output)}
    del record["batch"]
    return record


def describe(
    predictor: Predictor,
    source: Path,
    info: VideoInfo,
    settings: PredictSettings,
    output: OutputSettings,
) -> dict[str, Any]:
    """The head of `saliency.json`: all that is known before the first frame."""
    made_by = predictor.description
    return {
        "avsal": __version__,
        "source": file_identity(source),
        "model": made_by.model,
        "weights": {"name": made_by.weights, "sha256": made_by.weights_sha256},
        "settings": settings_record(predictor.complete(settings), output),
        "device": made_by.device,
        "precision": made_by.precision,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "av": media.library_version(),
            "opencv": cv2.__version__,
            "numpy": np.__version__,
        },
        "width": info.width,
        "height": info.height,
        "fps": float(info.rate) if info.rate else None,
        "sound": info.has_audio and predictor.uses_audio,
    }


def predict_to_folder(
    predictor: Predictor,
    source: Path,
    folder: Path,
    settings: PredictSettings,
    output: OutputSettings,
    on_map: OnMap = lambda _done, _total: None,
) -> int:
    """Write the maps of one video into `folder`, which appears only when all are there.

    Returns:
        The number of maps.

    Raises:
        MediaError: the video cannot be read.
        OutputError: the folder cannot be written, or a map has values that are no numbers.
    """
    prediction = predictor.predict(source, settings)
    return write_prediction(predictor, source, prediction, folder, settings, output, on_map)


def write_prediction(
    predictor: Predictor,
    source: Path,
    prediction: Prediction,
    folder: Path,
    settings: PredictSettings,
    output: OutputSettings,
    on_map: OnMap = lambda _done, _total: None,
) -> int:
    """Write the maps of a file that is opened already; see `predict_to_folder`."""
    count = 0
    with prediction as frames:
        header = describe(predictor, source, frames.info, settings, output)
        with new_result(folder, header, output) as result:
            for count, frame in enumerate(frames, 1):
                result.write(frame)
                on_map(count, frames.total)
            result.after = {"shots": shot_records(result.shots(frames.finder.timed_cuts()))}
    return count


def is_current(
    folder: Path,
    predictor: Predictor,
    source: Path,
    settings: PredictSettings,
    output: OutputSettings,
) -> bool:
    """Whether `folder` holds the complete result of this video, model, weights and settings."""
    if not is_result(folder):
        return False
    try:
        found = read_header(folder)
        weights = found["weights"]["sha256"]
    except (MediaError, KeyError, TypeError):
        return False
    made_by = predictor.description
    wanted = {
        "source": file_identity(source),
        "model": made_by.model,
        "precision": made_by.precision,
        "weights": made_by.weights_sha256,
        "settings": settings_record(predictor.complete(settings), output),
    }
    return wanted == {**{key: found.get(key) for key in wanted}, "weights": weights}
