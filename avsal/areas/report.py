"""`report.html`: one page for people, which needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

import numpy as np

from avsal.areas.areas import Area, Shape
from avsal.areas.charts import clock, line_chart
from avsal.areas.series import Difference, Series
from avsal.areas.trust import expected_error
from avsal.shots import Shot
from avsal.version import __version__

_LINES = 6  # areas that a chart shows
_PAIRS = 3  # the same of two versions
_CANDIDATES = 6  # frames that might be the video's thumbnail
_FEW = 30  # names of areas that fit on a picture


@dataclass(frozen=True)
class Thumbnail:
    """One frame as `data:` addresses of JPEG pictures.

    Attributes:
        time: seconds since the video's first frame.
        plain: the frame.
        heat: with a heatmap over it.
        width, height: pixels.
    """

    time: float
    plain: str
    heat: str
    width: int
    height: int


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        name: of the video.
        facts: pairs of words and values.
        areas: with their shapes, in the order of `series`.
        series: what was measured.
        shots: of the video.
        pictures: for some shots by number, their most concentrated frame.
        placed: a frame with most areas, and the mean map over it.
        model: the network's name.
        still: a single image.
        other: name and measurements of another version.
        differences: between the two.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    areas: Sequence[Area]
    series: Series
    shots: Sequence[Shot]
    pictures: dict[int, Thumbnail]
    placed: Thumbnail
    model: str
    still: bool = False
    other: tuple[str, Series] | None = None
    differences: Sequence[Difference] = ()


def build_report(page: Page) -> str:
    """The whole page as HTML."""
    template = Template(files("avsal.areas").joinpath("report.html").read_text(encoding="utf-8"))
    facts = "".join(
        f"<div><dt>{escape(word)}</dt><dd>{escape(value)}</dd></div>" for word, value in page.facts
    )
    over_time = "" if page.still else _over_time(page)
    parts = [_area_table(page), _comparison(page), over_time, _shots(page)]
    return template.substitute(
        name=escape(page.name),
        version=__version__,
        facts=facts,
        parts="\n".join(filter(None, parts)),
    )


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share * 100:.1f} %"


def _times(factor: float) -> str:
    return "–" if not math.isfinite(factor) else f"{factor:.2f}"


def _points(change: float) -> str:
    return f"{change * 100:+.1f}".replace("-", "−")


def area_rows(page: Page) -> tuple[list[str], list[list[str]]]:
    """The table of areas: heads, and for each area its escaped cells, the name first."""
    series = page.series
    columns = [series.average(values) for values in (series.share, series.part, series.prior)]
    seconds, present = series.seconds(), series.present()
    rows = []
    for number, name in enumerate(series.names):
        share, part, prior = (float(values[number]) for values in columns)
        error = expected_error(share, part, page.model, page.still)
        cells = [
            escape(name),
            f"<b>{_percent(share)}</b>",
            f"± {error * 100:.1f}" if error is not None else "–",
            _percent(part),
            _times(share / part if part else math.nan),
            _times(share / prior if prior else math.nan),
        ]
        if not page.still:
            cells += [f"{seconds[number]:.1f} of {present[number]:.1f}"]
        rows.append(cells)
    heads = [
        "area",
        "share of the gaze",
        "± expected error",
        "of the picture",
        "× even",
        "× centre",
    ]
    return heads + ([] if page.still else ["seconds"]), rows


def _area_table(page: Page) -> str:
    if not page.areas:
        return ""
    heads, rows = area_rows(page)
    shares = page.series.average(page.series.share)
    lines = [] if page.still else _charted(page)
    for number, (cells, share) in enumerate(zip(rows, shares, strict=True)):
        if number in lines:
            cells[0] = f'<i class="key s{lines.index(number)}"></i>{cells[0]}'
        if not math.isnan(share):
            width = min(100, share * 100)
            cells[1] += f'<span class="bar"><i style="width:{width:.1f}%"></i></span>'
    unmeasured = (
        ""
        if expected_error(1, 1, page.model) is not None
        else ("<p>How far the shares can be trusted was not measured for this network.</p>")
    )
    body = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in cells)}</tr>" for cells in rows)
    return (
        f"<h2>Areas</h2>{_placed(page)}{unmeasured}<div class='scroll'><table><thead><tr>"
        f"{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{body}"
        "</tbody></table></div>"
    )


def _placed(page: Page) -> str:
    """The areas on a frame."""
    picture = page.placed
    outlines, names = [], []
    for area in page.areas:
        shape = area.at(picture.time)
        if shape is not None:
            points = " ".join(f"{x * 100:.2f},{y * 100:.2f}" for x, y in shape)
            outlines.append(
                f'<polygon class="under" points="{points}"/><polygon points="{points}"/>'
            )
            names.append(_name_at(area.name, shape))
    labels = "".join(names) if len(names) <= _FEW else ""
    return (
        f'<figure><div class="placed"><img src="{picture.heat}" alt="" width="{picture.width}" '
        f'height="{picture.height}"><svg viewBox="0 0 100 100" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(outlines)}</svg>{labels}</div><figcaption>'
        f"{'Areas' if page.still else f'Areas at {clock(picture.time)}, mean of all maps'}"
        "</figcaption></figure>"
    )


def _name_at(name: str, shape: Shape) -> str:
    x, y = np.array(shape).min(axis=0) * 100
    return f'<span style="left:{x + 0.6:.1f}%;top:{y + 0.9:.1f}%">{escape(name)}</span>'


def _comparison(page: Page) -> str:
    if page.other is None or not page.differences:
        return ""
    rows = []
    for found in page.differences:
        change = found.first - found.second
        span = "–"
        if found.low is not None and found.high is not None:
            span = f"{_points(found.low)} to {_points(found.high)}"
        cells = (_percent(found.first), _percent(found.second), f"<b>{_points(change)}</b>", span)
        rows.append(
            f"<tr><td>{escape(found.area)}</td>{''.join(f'<td>{c}</td>' for c in cells)}</tr>"
        )
    heads = ("area", "A", "B", "A − B, points", "range over time, 95 %")
    means = (
        ""
        if page.still
        else "; means over the time that both have. The range is of whole seconds drawn again: it "
        "tells how even the difference is over time, not how viewers differ"
    )
    return (
        f"<h2>Two versions</h2><p>A is {escape(page.name)}, B is {escape(page.other[0])}{means}."
        "</p>"
        "<div class='scroll'><table><thead>"
        f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _charted(page: Page) -> list[int]:
    """Numbers of the areas that the chart over time shows, those with most gaze."""
    count = _PAIRS if page.other else _LINES
    shares = page.series.average(page.series.share)
    order = [int(number) for number in np.argsort(-np.nan_to_num(shares))]
    return [number for number in order if not math.isnan(shares[number])][:count]


def _over_time(page: Page) -> str:
    series = page.series
    if len(series.time) < 2:
        return ""
    end = float(series.time[-1] + series.duration[-1])
    start = page.shots[0].start if page.shots else 0
    cuts = [float(shot.start - start) + float(series.time[0]) for shot in page.shots[1:]]
    parts = []
    order = _charted(page)
    if order:
        lines = [(series.names[i], series.share[:, i]) for i in order]
        note = " Solid is A, dashed is B." if page.other else ""
        if len(series.names) > len(order):
            note += f" The {len(order)} areas with most gaze; all are in shares.csv."
        chart = line_chart(
            series.time, lines, cuts, "Share of the gaze over time", end, _other_lines(page, order)
        )
        parts.append(
            "<h2>Shares over time</h2><p>Per cent of the predicted gaze; cuts are dotted."
            f"{note}</p>"
            f'<div class="scroll"><div class="chart">{chart}</div></div>'
        )
    chart = line_chart(
        series.time, [("spread", series.spread)], cuts, "Spread of the gaze over time", end
    )
    parts.append(
        "<h2>Concentration</h2><p>Part of the picture over which the gaze is spread (by the "
        "entropy of the map): low is when viewers agree where to look.</p>"
        f'<div class="scroll"><div class="chart">{chart}</div></div>'
    )
    return "".join(parts)


def _other_lines(page: Page, areas: Sequence[int]) -> list[np.ndarray]:
    """The lines of version B of some areas, read at A's times."""
    if page.other is None:
        return []
    second = page.other[1]
    time = page.series.time
    return [np.interp(time, second.time, second.share[:, i], right=np.nan) for i in areas]


def _shots(page: Page) -> str:
    if not page.pictures:
        return ""
    figures = [_figure(page, number, heat=True) for number in sorted(page.pictures)]
    if page.still:
        return f'<h2>Predicted gaze</h2><div class="shots">{"".join(figures)}</div>'
    left = len(page.shots) - len(figures)
    note = f" The {len(figures)} longest of {len(page.shots)} are shown." if left > 0 else ""
    sharpest = sorted(page.pictures, key=lambda number: _spread_at(page, number))[:_CANDIDATES]
    plain = "".join(_figure(page, number, heat=False) for number in sharpest)
    return (
        f"<h2>Shots</h2><p>Each by the frame whose gaze is most concentrated.{note}</p>"
        f'<div class="shots">{"".join(figures)}</div><h2>Thumbnail candidates</h2><p>The frames '
        f'of these on which viewers agree most.</p><div class="shots">{plain}</div>'
    )


def _figure(page: Page, number: int, heat: bool) -> str:
    picture, shot = page.pictures[number], page.shots[number]
    caption = clock(picture.time)
    if heat:
        length = float(shot.end - shot.start)
        caption = f"Shot {number + 1}, {length:.1f} s<br>clearest at {caption}"
    return (
        f'<figure><img src="{picture.heat if heat else picture.plain}" alt="Shot {number + 1}" '
        f'width="{picture.width}" height="{picture.height}">'
        f"<figcaption>{'' if page.still else caption}</figcaption></figure>"
    )


def _spread_at(page: Page, number: int) -> float:
    time = page.pictures[number].time
    return float(page.series.spread[np.abs(page.series.time - time).argmin()])
