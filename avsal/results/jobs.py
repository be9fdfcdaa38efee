"""Whole jobs on files: a video to a folder of maps, a video to an overlay, a folder of videos."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from avsal import media
from avsal.errors import MediaError, UsageError
from avsal.media.suffixes import STILLS, VIDEOS
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.description import is_result, read_header
from avsal.results.folder import new_result
from avsal.version import __version__

# Called after every frame with the number of frames done.
OnFrame = Callable[[int], None]


def source_identity(source: Path) -> dict[str, Any]:
    """What tells a file from a changed one of the same name, without reading it."""
    status = source.stat()
    return {"name": source.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def settings_record(settings: PredictSettings, output: OutputSettings) -> dict[str, Any]:
    """The settings that decide a result; `batch` is left out, it changes no map."""
    record = {**asdict(settings), "size": str(settings.size), **asdict(output)}
    del record["batch"]
    return record


def describe(
    predictor: Predictor, source: Path, settings: PredictSettings, output: OutputSettings
) -> dict[str, Any]:
    """The head of `saliency.json`: all that is known before the first frame."""
    info = media.probe(source)
    made_by = predictor.description
    return {
        "avsal": __version__,
        "source": source_identity(source),
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
    on_frame: OnFrame = lambda _count: None,
) -> int:
    """Write the maps of one video into `folder`, which appears only when all are there.

    Returns:
        The number of maps.

    Raises:
        MediaError: the video cannot be read or the folder cannot be written.
    """
    header = describe(predictor, source, settings, output)
    count = 0
    with new_result(folder, header, output) as result:
        for frame in predictor.predict(source, settings):
            result.write(frame)
            count += 1
            on_frame(count)
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
        "source": source_identity(source),
        "model": made_by.model,
        "precision": made_by.precision,
        "weights": made_by.weights_sha256,
        "settings": settings_record(predictor.complete(settings), output),
    }
    return wanted == {**{key: found.get(key) for key in wanted}, "weights": weights}


@dataclass(frozen=True)
class Job:
    """One input of a batch and the folder that its result belongs in."""

    source: Path
    folder: Path


def plan_files(sources: list[Path], output: Path) -> list[Job]:
    """Give every file a folder named after its stem, or after its whole name where stems collide.

    Raises:
        UsageError: two files would still share a folder.
    """
    stems = Counter(source.stem for source in sources)
    jobs = [
        Job(source, output / (source.stem if stems[source.stem] == 1 else source.name))
        for source in sources
    ]
    shared = [name for name, count in Counter(job.folder for job in jobs).items() if count > 1]
    if shared:
        names = " and ".join(str(job.source) for job in jobs if job.folder == shared[0])
        raise UsageError(f"{names}: both would be written to {shared[0]}; use two --output folders")
    return jobs


def plan_folder(folder: Path, output: Path, pattern: str | None = None) -> list[Job]:
    """Find a folder's videos and images and mirror its tree under `output`.

    Args:
        pattern: a glob such as "*.mp4" on names, or "clips/**/*.mov" on paths inside the folder;
            None takes every file with a known suffix.

    Results of earlier runs are left out, hidden files and folders too.

    Raises:
        UsageError: `folder` is no folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; for single files use avsal predict")
    by_folder: dict[Path, list[Path]] = {}
    for source in _media_files(folder, output, pattern):
        by_folder.setdefault(source.parent, []).append(source)
    return [
        job
        for parent, sources in sorted(by_folder.items())
        for job in plan_files(sources, output / parent.relative_to(folder))
    ]


def _media_files(folder: Path, output: Path, pattern: str | None) -> Iterator[Path]:
    inside = output.resolve()
    for path in sorted(folder.rglob(pattern or "*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if pattern is None and path.suffix.lower() not in VIDEOS | STILLS:
            continue
        if is_result(path.parent):
            continue  # a map of an earlier run, wherever that was written
        if inside != folder.resolve() and inside in path.resolve().parents:
            continue
        yield path


def refuse_folders(sources: list[Path]) -> None:
    """Refuse folders where files are wanted.

    Raises:
        UsageError: one of the sources is a folder.
    """
    for source in sources:
        if source.is_dir():
            raise UsageError(f"{source}: this is a folder; use avsal batch")


def check_source(source: Path) -> None:
    """Refuse what is plainly no file before anything heavy happens.

    Raises:
        MediaError: the file is missing.
        UsageError: it is a folder.
    """
    refuse_folders([source])
    if not source.exists():
        raise MediaError(f"{source}: no such file")
