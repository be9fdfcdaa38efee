"""Tables of a report: what each area gets, and how two versions differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from avsal.areas.charts import clock
from avsal.areas.series import Difference, Series
from avsal.areas.trust import expected_error

NONE, _TIMES, _MINUS = "\u2013", "\u00a0\u00d7", "\u2212"  # dash, multiplication sign, minus
Cells = list[str]  # HTML, the name of an area first


def percent(share: float) -> str:
    """A share for people; a dash where there is none."""
    return NONE if math.isnan(share) else f"{share * 100:.1f} %"


def area_rows(series: Series, model: str, still: bool) -> tuple[list[str], list[Cells]]:
    """The table of areas: its heads, and the cells of each area.

    Args:
        model: name of the network that made the maps.
        still: they are of a single image.
    """
    columns = [series.average(values) for values in (series.share, series.part, series.prior)]
    over_time = _over_time(series)
    rows = []
    for number, name in enumerate(series.names):
        share, part, prior = (float(values[number]) for values in columns)
        error = expected_error(share, part, model, still)
        rows.append(
            [
                escape(name),
                f"<b>{percent(share)}</b>",
                f"± {error * 100:.1f}" if error is not None else NONE,
                *([] if still else over_time[number]),
                percent(part),
                _factor(share / part if part else math.nan),
                _factor(share / prior if prior else math.nan),
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


def _over_time(series: Series) -> list[Cells]:
    """Of each area: share in the first seconds, largest share and when, seconds of gaze."""
    first, seconds, present = series.first_share(), series.seconds(), series.present()
    cells = []
    for number, (largest, time) in enumerate(zip(*series.largest(), strict=True)):
        reached = NONE if math.isnan(largest) else f"{percent(largest)} at {clock(time)}"
        spent = f"{seconds[number]:.1f} of {present[number]:.1f} s"
        cells.append([percent(float(first[number])), reached, spent])
    return cells


def _factor(factor: float) -> str:
    return f"{factor:.2f}{_TIMES}" if math.isfinite(factor) else NONE


def _points(change: float | None) -> str:
    return NONE if change is None else f"{change * 100:+.1f}".replace("-", _MINUS)
