"""`summary.json`, and the facts at the head of a report.

    {
     "measure": 1,                 version of this form
     "avsal": "0.2.0",
     "source": {"name": ..., "bytes": ..., "modified_ns": ...},
     "model": "small-224x384", "width": 1280, "height": 720,
     "frames": 250, "seconds": 10.0,
     "spread": 0.12,               part of the picture over which the gaze is spread, mean over time
     "shots": [{"first": 0, "last": 119, "start": "0", "end": "24/5"}, ...],
     "areas": [{"name": "logo",
                "share": 0.08, "expected_error": 0.04, "part": 0.02,
                "share_per_part": 4.0, "share_per_prior": 6.1,
                "seconds": 0.8, "seconds_present": 10.0}, ...],
     "compare": {"source": {...}, "areas": [{"name": "logo", "first": 0.08, "second": 0.05,
                 "difference": 0.03, "low": 0.01, "high": 0.04}, ...]}
    }

Shares are means over the time that an area exists; null where it never does. `expected_error` is
null for networks that it was not measured with, "seconds" for a still image. "start" and "end" of
shots are exact container times. "low" and "high": see `avsal.areas.series.compare`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsal.areas.charts import clock
from avsal.areas.series import Difference, Series
from avsal.areas.trust import expected_error
from avsal.media.info import VideoInfo
from avsal.media.video import VideoReader
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import PredictSettings
from avsal.results.description import shot_records
from avsal.results.folder import Result
from avsal.shots import Shot
from avsal.version import __version__

VERSION = 1


@dataclass(frozen=True)
class Video:
    """A video to measure.

    Attributes:
        path: the file.
        reader: its pictures, opened and not yet read.
        maps: the maps of gaze on it.
    """

    path: Path
    reader: VideoReader
    maps: Result | tuple[Predictor, PredictSettings]

    @property
    def info(self) -> VideoInfo:
        return self.reader.info

    @property
    def model(self) -> str:
        """The network's name."""
        maps = self.maps
        made_by = maps.header if isinstance(maps, Result) else {"model": maps[0].description.model}
        return str(made_by.get("model"))


def build_summary(
    video: Video,
    series: Series,
    shots: Sequence[Shot],
    other: Video | None,
    differences: Sequence[Difference],
) -> dict[str, Any]:
    """All that is known of a video as JSON values."""
    summary: dict[str, Any] = {
        "measure": VERSION,
        "avsal": __version__,
        "source": video.reader.identity,
        "model": video.model,
        "width": video.info.width,
        "height": video.info.height,
        "frames": len(series.index),
        "seconds": _number(series.duration.sum()),
        "spread": _number(series.average(series.spread)),
        "shots": shot_records(shots),
        "areas": _areas(video, series),
    }
    if other:
        areas = [
            {
                "name": found.area,
                "first": _number(found.first),
                "second": _number(found.second),
                "difference": _number(found.first - found.second),
                "low": _number(found.low),
                "high": _number(found.high),
            }
            for found in differences
        ]
        summary["compare"] = {"source": other.reader.identity, "areas": areas}
    return summary


def _areas(video: Video, series: Series) -> list[dict[str, Any]]:
    shares, parts, priors = (
        series.average(values) for values in (series.share, series.part, series.prior)
    )
    still = video.info.is_image
    rows = zip(series.names, shares, parts, priors, series.seconds(), series.present(), strict=True)
    return [
        {
            "name": name,
            "share": _number(share),
            "expected_error": _number(expected_error(share, part, video.model, still)),
            "part": _number(part),
            "share_per_part": _number(share / part),
            "share_per_prior": _number(share / prior),
            "seconds": None if still else _number(seconds),
            "seconds_present": None if still else _number(present),
        }
        for name, share, part, prior, seconds, present in rows
    ]


def _number(value: Any) -> float | None:
    """A number as JSON has it: not a number and infinite are null."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def facts(video: Video, series: Series, shots: Sequence[Shot]) -> list[tuple[str, str]]:
    """Words and values at the head of a report."""
    info = video.info
    found = [("picture", f"{info.width} x {info.height}")]
    if not info.is_image:
        rate = f"{float(info.rate):.4g} frames per second" if info.rate else "unknown rate"
        seconds = float(series.duration.sum())
        found += [
            ("length", f"{clock(seconds)}, {len(series.index)} frames"),
            ("rate", rate),
            ("shots", str(len(shots))),
            ("sound", "yes" if info.has_audio else "no"),
        ]
    spread = float(series.average(series.spread))
    return [
        *found,
        ("gaze is spread over", f"{spread * 100:.0f} % of it"),
        ("network", video.model),
    ]
