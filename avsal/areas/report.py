"""`report.html`: one page for people, which needs no other file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from avsal.areas.areas import Shape
from avsal.areas.pictures import (
    COLOURS,
    Axes,
    Line,
    Page,
    Picture,
    Version,
    legend,
    line_chart,
    thumbnail_name,
)
from avsal.areas.series import Series
from avsal.areas.summary import area_table, comparison_table, expected_error, facts, percent
from avsal.prediction import settings
from avsal.prediction.settings import clock
from avsal.version import __version__

_LABEL_WIDTH, _LABEL_HEIGHT = 0.12, 0.05  # of the picture; closer labels are moved apart
_NO_SURFACE = 1e-6  # per cent of the picture; an area may vanish on its way between key frames


def build_report(page: Page, command: str | None = None, saved: bool = False) -> str:
    """The whole page as HTML.

    Args:
        command: the command line that was given.
        saved: the thumbnails are saved next to the page.
    """
    template = Template(files("avsal.areas").joinpath("report.html").read_text(encoding="utf-8"))
    colours = _colours(page)
    parts = [
        _areas(page, colours),
        "" if page.still else _over_time(page, colours),
        _shots(page),
        _thumbnails(page, saved),
    ]
    return template.substitute(
        name=escape(page.first.name),
        kind="still" if page.still else "video",
        facts=_pairs(facts(page.first)),
        parts="\n".join(filter(None, parts)),
        made=_pairs(_made(page, command)),
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(
        f"<div><dt>{escape(word)}</dt><dd>{escape(value)}</dd></div>" for word, value in pairs
    )


def _section(title: str, text: str, content: str, kept: bool = False) -> str:
    """A part of the page; `kept` on one sheet of paper where it is short enough for that."""
    kind = ' class="kept"' if kept else ""
    intro = f"<p>{text}</p>" if text else ""
    return f"<section{kind}><h2>{title}</h2>{intro}{content}</section>"


def _colours(page: Page) -> dict[int, int]:
    """Colours of the areas with most gaze, by number of the area."""
    shares = page.first.series.average(page.first.series.share)
    order = [int(number) for number in np.argsort(-np.nan_to_num(shares), kind="stable")]
    shown = sorted(number for number in order[:COLOURS])
    return {number: colour for colour, number in enumerate(shown)}


def _areas(page: Page, colours: Mapping[int, int]) -> str:
    letters = ("A: ", "B: ") if page.second else ("",)
    figures = [
        _placed(version, letter, page.still, colours)
        for version, letter in zip(page.versions, letters, strict=True)
    ]
    swatches = "".join(
        f'<i class="swatch" style="background:rgb({r} {g} {b})"></i>{settings.percent(share)} '
        for share, (r, g, b) in legend()
    )
    colouring = f'<p class="soft">Coloured regions hold this share of the gaze: {swatches}</p>'
    kind = "pair" if page.second else "single"
    content = f'<div class="{kind}">{"".join(figures)}</div>{colouring}'
    if any(expected_error(1, 1, version.model) is None for version in page.versions):
        content += (
            '<p class="soft">The typical error of a share was not measured for this network.</p>'
        )
    content += _comparison(page)
    for version, letter in zip(page.versions, letters, strict=True):
        table = area_table(version.series, version.model, page.still, colours)
        title = f"<h3>{letter}{escape(version.name)}</h3>" if letter else ""
        content += f"{title}{table}"
    return _section("Areas", "", content)


def _placed(version: Version, letter: str, still: bool, colours: Mapping[int, int]) -> str:
    """The areas on a frame, each with its mean share."""
    picture = version.placed
    shares = version.series.average(version.series.share)
    outlines: list[str] = []
    labels: list[str] = []
    corners: list[tuple[float, float]] = []
    for number, area in enumerate(version.areas):
        shape = area.at(picture.time)
        if shape is None:
            continue
        colour = f"s{colours[number]}" if number in colours else "rest"
        points = " ".join(f"{x * 100:.2f},{y * 100:.2f}" for x, y in shape)
        outlines.append(
            f'<polygon class="under" points="{points}"/>'
            f'<polygon class="{colour}" points="{points}"/>'
        )
        left, top = (min(side) for side in zip(*shape, strict=True))
        moved = sum(
            abs(left - x) < _LABEL_WIDTH and abs(top - y) < _LABEL_HEIGHT for x, y in corners
        )
        corners.append((left, top))
        labels.append(_label(area.name, float(shares[number]), shape, colour, moved))
    what = "" if still else f"Frame at {clock(picture.time)} with the mean of all maps. "
    caption = f"{letter}{what}Each label is the area's mean share of gaze."
    if still:
        caption = f"{letter}Each label is the area's share of gaze."
    return (
        f'<figure style="--aspect:{picture.width / picture.height:.4f}"><div class="placed">'
        f"{_image(picture, picture.heat, 'Areas on the picture')}"
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(outlines)}</svg>{''.join(labels)}</div>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _label(name: str, share: float, shape: Shape, colour: str, moved: int) -> str:
    """A label inside an area; `moved` down by the labels that are at its place already."""
    corners = np.array(shape) * 100
    (left, top), (width, height) = corners.min(axis=0), np.ptp(corners, axis=0)
    style = f"left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{height:.2f}%"
    style += f";--moved:{moved}" if moved else ""
    kind, centre = "area", ""
    if not _is_box(shape):
        x, y = (_centroid(corners) - (left, top)) / np.maximum((width, height), _NO_SURFACE) * 100
        kind, centre = "area centred", f' style="left:{x:.1f}%;top:{y:.1f}%"'
    return (
        f'<div class="{kind}" style="{style}"><span class="{colour}"{centre}>'
        f"<em>{escape(name)}</em> <b>{percent(share)}</b></span></div>"
    )


def _is_box(shape: Shape) -> bool:
    return len(shape) == 4 and all(
        len({round(v, 9) for v in side}) == 2 for side in zip(*shape, strict=True)
    )


def _centroid(corners: np.ndarray) -> np.ndarray:
    """The centre of a polygon's surface, (x, y); of its corners where it has none."""
    following = np.roll(corners, -1, axis=0)
    cross = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
    if abs(cross.sum()) < _NO_SURFACE:
        return np.asarray(corners.mean(axis=0))
    return ((corners + following) * cross[:, None]).sum(axis=0) / (3 * cross.sum())


def _image(picture: Picture, data: str, alt: str) -> str:
    return f'<img src="{data}" alt="{alt}" width="{picture.width}" height="{picture.height}">'


def _comparison(page: Page) -> str:
    if page.second is None or not page.differences:
        return ""
    text = f"A is {escape(page.first.name)}, B is {escape(page.second.name)}."
    if not page.still:
        text += (
            " Shares are means over the time that both versions have. The interval comes from "
            "resampling whole seconds: it shows how steady the difference is over time, not how "
            "much viewers differ."
        )
    table = comparison_table(page.differences, page.still)
    return f"<h3>Two versions compared</h3><p>{text}</p>{table}"


def _over_time(page: Page, colours: Mapping[int, int]) -> str:
    series = page.first.series
    if len(series.time) < 2:
        return ""
    parts = []
    named = "A is solid, B is dashed. " if page.second else ""
    cuts = "Dotted vertical lines are cuts in A." if page.second else "Dotted lines are cuts."
    if page.first.areas:
        text = f"Share of the predicted gaze. {named}{cuts if _cuts(page.first) else ''}"
        if len(series.names) > len(colours):
            text += f" The {len(colours)} areas with most gaze; shares.csv has all of them."
        charts, kept = _share_charts(page, colours), page.second is None
        parts.append(_section("Shares over time", text, charts, kept))
    letters = ("A", "B") if page.second else ("Gaze spread",)
    lines = [
        Line(letter, version.series.time, version.series.spread, 0, number > 0)
        for number, (version, letter) in enumerate(zip(page.versions, letters, strict=True))
    ]
    text = (
        "The smallest part of the picture that holds half of the gaze. It is low where viewers are "
        f"expected to look at the same place, and 50 % if gaze were spread evenly. {named}"
    )
    chart = line_chart(lines, _axes(page, lines), _cuts(page.first), "Gaze spread over time")
    return "".join([*parts, _section("Gaze spread", text, chart, kept=True)])


def _share_charts(page: Page, colours: Mapping[int, int]) -> str:
    """One chart of all areas, or one for each area with both versions."""
    cuts = _cuts(page.first)
    if page.second is None:
        lines = [_line(page.first.series, i, colour) for i, colour in colours.items()]
        return line_chart(lines, _axes(page, lines), cuts, "Share of gaze over time")
    pairs = {
        i: [
            _line(page.first.series, i, colour, "A"),
            _line(page.second.series, i, colour, "B", dashed=True),
        ]
        for i, colour in colours.items()
    }
    axes = _axes(page, [line for pair in pairs.values() for line in pair])
    figures = []
    for i, pair in pairs.items():
        name = page.first.series.names[i]
        chart = line_chart(pair, axes, cuts, f"Share of gaze of {name} over time")
        figures.append(f'<div class="kept"><h3>{escape(name)}</h3>{chart}</div>')
    return f'<div class="charts">{"".join(figures)}</div>'


def _line(
    series: Series, area: int, colour: int, name: str | None = None, dashed: bool = False
) -> Line:
    name = series.names[area] if name is None else name
    return Line(name, series.time, series.share[:, area], colour, dashed)


def _axes(page: Page, lines: list[Line]) -> Axes:
    start = min(float(version.series.time[0]) for version in page.versions)
    return Axes.fitted(lines, start, max(version.end for version in page.versions))


def _cuts(version: Version) -> list[float]:
    """Seconds at which shots begin, but for the first."""
    start = version.shots[0].start if version.shots else 0
    return [float(shot.start - start) + float(version.series.time[0]) for shot in version.shots[1:]]


def _shots(page: Page) -> str:
    if page.still:  # the picture with its areas shows it
        return ""
    figures = "".join(_shot(page, number) for number in sorted(page.pictures))
    content = f'<div class="shots">{figures}</div>'
    text = "The frame of each shot on which gaze is most concentrated."
    shown, shots = len(page.pictures), len(page.first.shots)
    if shown < shots:
        text += f" The {shown} longest of {shots} shots are shown."
    return _section("Shots of A" if page.second else "Shots", text, content)


def _shot(page: Page, number: int) -> str:
    picture, shot = page.pictures[number], page.first.shots[number]
    length = float(shot.end - shot.start)
    words = f"Shot {number + 1}, {length:.1f} s long; frame at {clock(picture.time)}"
    return _figure(picture, picture.heat, f"Shot {number + 1}", words)


def _figure(picture: Picture, data: str, alt: str, caption: str) -> str:
    return f"<figure>{_image(picture, data, alt)}<figcaption>{caption}</figcaption></figure>"


def _thumbnails(page: Page, saved: bool) -> str:
    if not page.thumbnails:
        return ""
    figures = []
    for number in page.thumbnails:
        picture = page.pictures[number]
        words = f"Shot {number + 1} at {clock(picture.time)}"
        words += f"<br>{thumbnail_name(number)}" if saved else ""
        figures.append(_figure(picture, picture.plain, f"Shot {number + 1}", words))
    text = "Frames on which viewers are expected to agree most."
    text += " The files next to this page have them at full size." if saved else ""
    return _section("Thumbnails", text, f'<div class="shots">{"".join(figures)}</div>')


def _made(page: Page, command: str | None) -> list[tuple[str, str]]:
    """Words and values of how the report was made."""
    rows = [("Date", f"{page.date:%Y-%m-%d %H:%M %Z}"), ("avsal", __version__)]
    rows += [("Command", command)] if command else []
    letters = (" A", " B") if page.second else ("",)
    for version, letter in zip(page.versions, letters, strict=True):
        made = version.made
        rows += [
            (f"Maps{letter}", f"read from {made['maps']}" if made["maps"] else "predicted now"),
            (f"Network{letter}", str(made["model"])),
            (f"Weights{letter}", _words(made["weights"]).removeprefix("name ")),
            (f"Settings{letter}", _words(made["settings"])),
            (f"Device{letter}", _words([made["device"], made["precision"], made["engine"]])),
        ]
    return rows


def _words(value: Any) -> str:
    """A JSON value for people."""
    if isinstance(value, Mapping):
        pairs = ((str(key).replace("_", " "), v) for key, v in value.items() if v is not None)
        return ", ".join(f"{key} {_words(v)}" for key, v in pairs) or "unknown"
    if isinstance(value, list):
        return ", ".join(_words(v) for v in value if v is not None) or "unknown"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "unknown"
    return str(value)
