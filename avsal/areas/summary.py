"""A measurement in numbers, and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from avsal.areas.pictures import Page, Version, thumbnail_name
from avsal.areas.series import Difference, Series
from avsal.prediction import settings
from avsal.prediction.settings import clock
from avsal.results.description import shot_records
from avsal.version import __version__

if TYPE_CHECKING:
    from avsal.results.gaze import Maps

MEASURED_WITH = "small-224x384"  # the network that the figures are of

# Part of the picture: error where more gaze is predicted than if it were even, and where less is.
VIDEO = {
    1 / 64: (0.037, 0.007),
    1 / 36: (0.053, 0.012),
    1 / 16: (0.088, 0.025),
    1 / 9: (0.116, 0.044),
    1 / 4: (0.151, 0.088),
}
# Photographs, mean of the two sets.
STILL = {
    1 / 64: (0.027, 0.005),
    1 / 36: (0.038, 0.008),
    1 / 16: (0.055, 0.017),
    1 / 9: (0.064, 0.029),
    1 / 4: (0.081, 0.066),
}

NONE, _TIMES, _MINUS = "\u2013", "\u00a0\u00d7", "\u2212"  # dash, multiplication sign, minus

Cells = list[str]  # HTML, the name of an area first
VERSION = 1


def expected_error(share: float, part: float, model: str, still: bool = False) -> float | None:
    """Expected mean absolute error of a share; None if it was not measured or the area is absent.

    Between the sizes that were measured it is interpolated by the logarithm of the part; smaller
    parts have the error of the smallest in proportion, larger ones fall to 0 for the whole picture.

    Args:
        share: predicted, 0..1.
        part: of the picture that the area is, 0..1.
        model: the network's name as `saliency.json` has it.
    """
    if model != MEASURED_WITH or math.isnan(share) or math.isnan(part):
        return None
    table = STILL if still else VIDEO
    column = 0 if share > part else 1
    parts = sorted(table)
    errors = [table[size][column] for size in parts]
    if part < parts[0]:
        return errors[0] * part / parts[0]
    return float(np.interp(np.log(part), np.log([*parts, 1.0]), [*errors, 0.0]))


def percent(share: float | None) -> str:
    """A share for people; a dash where there is none."""
    return NONE if share is None or math.isnan(share) else settings.percent(share, 1)


def area_rows(series: Series, model: str, still: bool) -> tuple[list[str], list[Cells]]:
    """The table of areas: its heads, and the cells of each area.

    Args:
        model: name of the network that made the maps.
        still: they are of a single image.
    """
    rows = []
    for values in area_values(series, model, still):
        error = values["expected_error"]
        rows.append(
            [
                escape(values["name"]),
                f"<b>{percent(values['share'])}</b>",
                f"± {error * 100:.1f}" if error is not None else NONE,
                *([] if still else _over_time(values)),
                percent(values["part"]),
                _factor(values["share_per_part"]),
                _factor(values["share_per_prior"]),
            ]
        )
    heads = ["Area", "Share of gaze", "Typical error, points"]
    heads += [] if still else ["First 3\u00a0s", "Largest share", "Seconds of gaze"]
    return [*heads, "Size", "vs. uniform", "vs. centre"], rows


def area_table(series: Series, model: str, still: bool, colours: Mapping[int, int]) -> str:
    """The table of areas as HTML, see `area_rows`.

    Args:
        colours: by number of an area, the colour of its line and outline; others have none.
    """
    heads, rows = area_rows(series, model, still)
    shares = series.average(series.share)
    for number, (cells, share) in enumerate(zip(rows, shares, strict=True)):
        if number in colours:
            cells[0] = f'<i class="key s{colours[number]}"></i>{cells[0]}'
        if not math.isnan(share):
            width = min(100, share * 100)
            cells[1] += f'<span class="bar"><i style="width:{width:.1f}%"></i></span>'
    return table(heads, rows)


def comparison_table(differences: Sequence[Difference], still: bool) -> str:
    """The table of differences as HTML."""
    rows = []
    for found in differences:
        cells = [
            escape(found.area),
            percent(found.first),
            percent(found.second),
            f"<b>{_points(found.first - found.second)}</b>",
        ]
        if not still:
            known = found.low is not None and found.high is not None
            cells.append(f"{_points(found.low)} to {_points(found.high)}" if known else NONE)
        rows.append(cells)
    heads = ["Area", "Share in A", "Share in B", "Difference, points"]
    return table(heads + ([] if still else ["95 % interval"]), rows)


def table(heads: Sequence[str], rows: Sequence[Cells]) -> str:
    """A table as HTML; on a narrow page each cell shows its head itself."""
    body = "".join(
        "<tr>"
        + f"<th scope='row'>{name}</th>"
        + "".join(
            f'<td data-head="{escape(head)}">{cell}</td>'
            for head, cell in zip(heads[1:], cells, strict=True)
        )
        + "</tr>"
        for name, *cells in rows
    )
    head = "".join(f"<th scope='col'>{head}</th>" for head in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _over_time(values: Mapping[str, Any]) -> Cells:
    """Share in the first seconds, largest share and when, seconds of gaze."""
    largest, time = values["largest_share"], values["largest_share_time"]
    return [
        percent(values["share_first_3_s"]),
        NONE if math.isnan(largest) else f"{percent(largest)} at {clock(time)}",
        f"{values['seconds']:.1f} of {values['seconds_present']:.1f} s",
    ]


def _factor(factor: float) -> str:
    return f"{factor:.2f}{_TIMES}" if math.isfinite(factor) else NONE


def _points(change: float | None) -> str:
    return NONE if change is None else f"{change * 100:+.1f}".replace("-", _MINUS)


def made_by(maps: Maps) -> dict[str, Any]:
    """How maps were made, as JSON values; "maps" is their folder, None where there is none."""
    if not isinstance(maps, tuple):
        keys = ("model", "weights", "settings", "device", "precision", "engine")
        return {"maps": str(maps.folder), **{key: maps.header.get(key) for key in keys}}
    predictor, asked = maps
    by, used = predictor.description, predictor.with_defaults(asked)
    return {
        "maps": None,
        "model": by.model,
        "weights": {"name": by.weights, "sha256": by.weights_sha256},
        "settings": {"audio_context": used.audio_context, "stride": used.stride},
        "device": by.device,
        "precision": by.precision,
        "engine": by.engine,
    }


def build_summary(page: Page) -> dict[str, Any]:
    """All that is known of a video as JSON values."""
    first, info = page.first, page.first.info
    summary: dict[str, Any] = {
        "measure": VERSION,
        "avsal": __version__,
        "source": first.source,
        "model": first.model,
        "width": info.width,
        "height": info.height,
        **_whole(first),
        "shots": shot_records(first.shots),
        "areas": _areas(first, page.still),
        "thumbnails": [thumbnail_name(number) for number in page.thumbnails],
        "made": {"date": page.date.isoformat("T", "seconds"), **first.made},
    }
    if page.second:
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
            "source": page.second.source,
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


def area_values(series: Series, model: str, still: bool) -> list[dict[str, Any]]:
    """What is known of each area; not a number where an area is absent, None where unknown."""
    averages = [series.average(values) for values in (series.share, series.part, series.prior)]
    over_time = [series.first_share(), *series.largest(), series.seconds(), series.present()]
    names = "share_first_3_s largest_share largest_share_time seconds seconds_present".split()
    rows = []
    for number, name in enumerate(series.names):
        share, part, prior = (float(values[number]) for values in averages)
        times = [None if still else float(values[number]) for values in over_time]
        rows.append(
            {
                "name": name,
                "share": share,
                "expected_error": expected_error(share, part, model, still),
                "part": part,
                "share_per_part": share / part if part else math.nan,
                "share_per_prior": share / prior if prior else math.nan,
                **dict(zip(names, times, strict=True)),
            }
        )
    return rows


def _areas(version: Version, still: bool) -> list[dict[str, Any]]:
    """The same as JSON values."""
    return [
        {key: value if key == "name" else _number(value) for key, value in row.items()}
        for row in area_values(version.series, version.model, still)
    ]


def _number(value: Any) -> float | None:
    """A number as JSON has it: not a number and infinite are null."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def facts(version: Version) -> list[tuple[str, str]]:
    """Words and values at the head of a report."""
    info, series = version.info, version.series
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
    return [*found, ("Gaze spread", f"half on {settings.percent(spread)} of the picture")]
