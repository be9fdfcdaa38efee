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
                "share_first_3_s": 0.09, "largest_share": 0.31, "largest_share_time": 4.2,
                "seconds": 0.8, "seconds_present": 10.0}, ...],
     "thumbnails": ["thumbnail-shot-1.jpg", ...],     frames saved at full size, the clearest first
     "made": {"date": "2026-11-28T17:31:26+00:00", "maps": "maps/talk", "model": ...,
              "weights": {...}, "settings": {...}, "device": "cpu", "precision": "bf16",
              "engine": "torch"},
     "compare": {"source": {...}, "frames": ..., "seconds": ..., "spread": ..., "made": {...},
                 "areas": [{"name": "logo", "first": 0.08, "second": 0.05,
                            "difference": 0.03, "low": 0.01, "high": 0.04}, ...],
                 "measured": [{"name": "logo", "share": 0.05, ...}, ...]}
    }

Shares are means over the time that an area exists; null where it never does. `share_first_3_s` is
over the first three seconds that were measured, `largest_share` of any frame, which is shown at
`largest_share_time`. "seconds" are expected seconds of one viewer's gaze. `expected_error` is null
for networks that it was not measured with, whatever depends on time for a still image. "maps" is
the folder that maps were read from, or null. "start" and "end" of shots are exact container times.
"compare": "measured" has for the other version what "areas" has for the first; "low" and "high":
see `avsal.areas.series.compare`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsal.areas.charts import clock
from avsal.areas.page import Page, Version, thumbnail_name
from avsal.areas.trust import expected_error
from avsal.media.info import VideoInfo
from avsal.media.video import VideoReader
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import PredictSettings
from avsal.results.description import shot_records
from avsal.results.folder import Result
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

    @property
    def made(self) -> dict[str, Any]:
        """How the maps were made."""
        if isinstance(self.maps, Result):
            header = self.maps.header
            keys = ("model", "weights", "settings", "device", "precision", "engine")
            return {"maps": str(self.maps.folder), **{key: header.get(key) for key in keys}}
        predictor, settings = self.maps
        by, used = predictor.description, predictor.complete(settings)
        return {
            "maps": None,
            "model": by.model,
            "weights": {"name": by.weights, "sha256": by.weights_sha256},
            "settings": {"audio_context": used.audio_context, "stride": used.stride},
            "device": by.device,
            "precision": by.precision,
            "engine": by.engine,
        }


def build_summary(page: Page, video: Video, other: Video | None, date: str) -> dict[str, Any]:
    """All that is known of a video as JSON values; `date` is when it was measured."""
    summary: dict[str, Any] = {
        "measure": VERSION,
        "avsal": __version__,
        "source": video.reader.identity,
        "model": video.model,
        "width": video.info.width,
        "height": video.info.height,
        **_whole(page.first),
        "shots": shot_records(page.first.shots),
        "areas": _areas(page.first, page.still),
        "thumbnails": [thumbnail_name(number) for number in page.thumbnails],
        "made": {"date": date, **page.first.made},
    }
    if other and page.second:
        areas = [
            {
                "name": found.area,
                "first": _number(found.first),
                "second": _number(found.second),
                "difference": _number(found.first - found.second),
                "low": _number(found.low),
                "high": _number(found.high),
            }
            for found in page.differences
        ]
        summary["compare"] = {
            "source": other.reader.identity,
            **_whole(page.second),
            "made": page.second.made,
            "areas": areas,
            "measured": _areas(page.second, page.still),
        }
    return summary


def _whole(version: Version) -> dict[str, Any]:
    """What is known of a whole video."""
    series = version.series
    return {
        "frames": len(series.index),
        "seconds": _number(series.duration.sum()),
        "spread": _number(series.average(series.spread)),
    }


def _areas(version: Version, still: bool) -> list[dict[str, Any]]:
    series = version.series
    shares, parts, priors = (
        series.average(values) for values in (series.share, series.part, series.prior)
    )
    over_time = (series.first_share(), *series.largest(), series.seconds(), series.present())
    names = "share_first_3_s largest_share largest_share_time seconds seconds_present".split()
    return [
        {
            "name": name,
            "share": _number(share),
            "expected_error": _number(expected_error(share, part, version.model, still)),
            "part": _number(part),
            "share_per_part": _number(share / part),
            "share_per_prior": _number(share / prior),
            **{key: None if still else _number(n) for key, n in zip(names, times, strict=True)},
        }
        for name, share, part, prior, *times in zip(
            series.names, shares, parts, priors, *over_time, strict=True
        )
    ]


def _number(value: Any) -> float | None:
    """A number as JSON has it: not a number and infinite are null."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def facts(video: Video, version: Version) -> list[tuple[str, str]]:
    """Words and values at the head of a report."""
    info, series = video.info, version.series
    found = [("Picture", f"{info.width} \u00d7 {info.height}")]
    if not info.is_image:
        rate = f"{float(info.rate):.4g} frames per second" if info.rate else "unknown"
        seconds = float(series.duration.sum())
        found += [
            ("Length", f"{clock(seconds)}, {len(series.index)} frames"),
            ("Frame rate", rate),
            ("Shots", str(len(version.shots))),
            ("Sound", "yes" if info.has_audio else "no"),
        ]
    spread = float(series.average(series.spread))
    return [*found, ("Gaze spread", f"{spread * 100:.0f} % of the picture")]
