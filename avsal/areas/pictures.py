"""Pictures and charts of a measurement: frames with their areas drawn, lines as inline SVG.

The SVG of a chart is stretched to the width of the page, while the words around it, in HTML, keep
their size: so a chart can be read on a telephone, on a wide screen and on paper.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

import numpy as np

from avsal.areas.areas import Area
from avsal.areas.series import Difference, Series
from avsal.media.container import VideoInfo
from avsal.prediction.drawing import (
    CONTOUR_SHARES,
    decode_jpeg,
    encode_jpeg,
    overlay,
    share_colours,
    shrunk,
    square_pixels,
)
from avsal.prediction.settings import clock
from avsal.prediction.shots import Shot
from avsal.prediction.style import OverlayStyle

COLOURS = 9  # classes s0 ... s8 of the style sheet
_WIDTH, _HEIGHT = 1000, 250  # units of the SVG; the style sheet makes 250 pixels of the height
_POINTS = 480  # of a line at most; more cannot be seen
_LABEL = 17 / _HEIGHT  # height of a name next to its line
_TICKS = 8  # on the time axis at most


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: written next to its end.
        time: (n,) seconds, ascending.
        values: (n,) shares, 0..1; not a number leaves a gap.
        colour: number of a colour of the style sheet.
        dashed: drawn with dashes.
    """

    name: str
    time: np.ndarray
    values: np.ndarray
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Axes:
    """The times and shares at the edges of a chart.

    Attributes:
        start, end: seconds at the left and the right edge.
        top: share at the upper edge; the lower one is 0.
        step: share between two horizontal lines.
    """

    start: float
    end: float
    top: float
    step: float

    @classmethod
    def fitted(cls, lines: Sequence[Line], start: float, end: float) -> Axes:
        """Axes that reach just above the largest value, to a round number."""
        largest = max((float(np.nanmax(line.values, initial=0)) for line in lines), default=0.0)
        step = _share_step(largest)
        top = max(1, math.ceil(round(largest / step, 6))) * step
        return cls(start, max(end, start + 1e-3), top, step)

    def x(self, second: float) -> float:
        """Distance from the left edge, as a part of the width."""
        return (second - self.start) / (self.end - self.start)

    def y(self, value: float) -> float:
        """Distance from the upper edge, as a part of the height."""
        return 1 - value / self.top


def line_chart(lines: Sequence[Line], axes: Axes, cuts: Sequence[float], title: str) -> str:
    """Draw shares over time, with cuts as thin vertical lines.

    Args:
        cuts: seconds.
        title: what the chart shows, read to people who do not see it.
    """
    drawn = [_binned(line, axes) for line in lines]
    shapes = [
        f'<path class="cut" d="M{axes.x(cut) * _WIDTH:.1f} 0V{_HEIGHT}"/>'
        for cut in cuts
        if axes.start < cut < axes.end
    ]
    shapes += [
        f'<path class="line {"dashed " if line.dashed else ""}s{line.colour % COLOURS}" '
        f'd="{_path(line, axes)}"/>'
        for line in drawn
    ]
    grid, words = _grid(axes)
    return (
        f'<div class="chart" role="img" aria-label="{escape(title)}"><div class="plot">'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(grid + shapes)}</svg>{''.join(words)}</div>"
        f'<div class="names">{"".join(_names(drawn, axes))}</div></div>'
    )


def _share_step(largest: float) -> float:
    """The least round step of which at most eight make up the largest value."""
    steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    return next((step for step in steps if largest <= 8 * step), 0.2)


def _time_step(length: float) -> float:
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    return next((step for step in steps if length / step <= _TICKS), length)


def _binned(line: Line, axes: Axes) -> Line:
    """Means over as many parts of the time axis as a chart can show."""
    if len(line.time) <= _POINTS:
        return line
    known = ~np.isnan(line.values)
    length = (axes.end - axes.start) / _POINTS
    number = ((line.time[known] - axes.start) / length).astype(int).clip(0, _POINTS - 1)
    sums = np.bincount(number, line.values[known], _POINTS)
    counts = np.bincount(number, minlength=_POINTS)
    with np.errstate(invalid="ignore"):
        means = sums / np.where(counts, counts, np.nan)
    time = axes.start + (np.arange(_POINTS) + 0.5) * length
    return Line(line.name, time, means, line.colour, line.dashed)


def _path(line: Line, axes: Axes) -> str:
    steps, pen_down = [], False
    for second, value in zip(line.time, line.values, strict=True):
        if math.isnan(value):
            pen_down = False
            continue
        x, y = axes.x(second) * _WIDTH, axes.y(value) * _HEIGHT
        steps.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = True
    return "".join(steps)


def _grid(axes: Axes) -> tuple[list[str], list[str]]:
    """Horizontal lines, and the words along both axes."""
    lines, words = [], []
    for number in range(round(axes.top / axes.step) + 1):
        share = number * axes.step
        y = axes.y(share)
        lines.append(f'<path class="grid" d="M0 {y * _HEIGHT:.1f}H{_WIDTH}"/>')
        words.append(f'<span class="y" style="top:{y * 100:.2f}%">{share * 100:.3g} %</span>')
    step = _time_step(axes.end - axes.start)
    first = math.ceil(round(axes.start / step, 6))
    last = math.floor(round(axes.end / step, 6))
    for number in range(first, last + 1):
        second = number * step
        words.append(
            f'<span class="x" style="left:{axes.x(second) * 100:.2f}%">{clock(second)}</span>'
        )
    return lines, words


def _names(lines: Sequence[Line], axes: Axes) -> list[str]:
    """Names next to the ends of their lines, moved apart where they would overlap.

    Their order is that of the lines, which narrow pages show.
    """
    heights = [axes.y(_last(line.values)) for line in lines]
    order = sorted(range(len(lines)), key=lambda number: heights[number])
    parts, y = [""] * len(lines), -math.inf
    lowest = 1 - _LABEL * (len(order) - 1)
    for position, number in enumerate(order):
        line = lines[number]
        y = max(min(heights[number], lowest + _LABEL * position), y + _LABEL)
        dashed = " dashed" if line.dashed else ""
        parts[number] = (
            f'<span style="top:{y * 100:.1f}%"><i class="key{dashed} s{line.colour % COLOURS}">'
            f"</i>{escape(line.name)}</span>"
        )
    return parts


def _last(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known[-1]) if known.size else 0.0


SMALL, WIDE = 480, 1280  # pixels of the longer side: one of many pictures, one across the page

_QUALITY = 80  # of JPEG, on the page

_STYLE = OverlayStyle(legend=False)  # the page explains the colours


@dataclass(frozen=True)
class Picture:
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
class Version:
    """One measured video.

    Attributes:
        name: of the video.
        source: its identity, see `avsal.media.source.file_identity`.
        info: its properties.
        made: how the maps were made, see `avsal.areas.summary.made_by`.
        areas: with their shapes, in the order of `series`.
        series: what was measured.
        shots: of the video.
        placed: a frame with most areas, and the mean map over it.
    """

    name: str
    source: Mapping[str, Any]
    info: VideoInfo
    made: Mapping[str, Any]
    areas: Sequence[Area]
    series: Series
    shots: Sequence[Shot]
    placed: Picture

    @property
    def model(self) -> str:
        """The network's name."""
        return str(self.made["model"])

    @property
    def end(self) -> float:
        """Seconds at which the last frame ends."""
        series = self.series
        return float(series.time[-1] + series.duration[-1]) if len(series.time) else 0.0


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        first: the video.
        pictures: for some of its shots by number, their most concentrated frame.
        thumbnails: for the most concentrated of these, JPEG files of the frame at full size.
        date: when it was measured.
        second: another version of it.
        differences: between the two.
    """

    first: Version
    pictures: Mapping[int, Picture]
    thumbnails: Mapping[int, bytes]
    date: datetime
    second: Version | None = None
    differences: Sequence[Difference] = ()

    @property
    def still(self) -> bool:
        """Whether it is about a single image."""
        return self.first.info.is_image

    @property
    def versions(self) -> list[Version]:
        return [self.first, self.second] if self.second else [self.first]


def thumbnail_name(shot: int) -> str:
    """The name of the file with a shot's thumbnail, numbered as the report numbers shots."""
    return f"thumbnail-shot-{shot + 1}.jpg"


def full_size(image: np.ndarray, aspect: float) -> bytes:
    """A frame uint8 (H, W, 3) RGB as a JPEG file.

    Args:
        aspect: width to height of the frame's pixels; those of the file are square.
    """
    return encode_jpeg(square_pixels(image, aspect))


def picture(full: bytes, density: np.ndarray, time: float, side: int) -> Picture:
    """Make a picture for the page.

    Args:
        full: a frame, of `full_size`.
        density: (h, w), drawn over it.
        time: seconds since the video's first frame.
        side: pixels of its longer side, at most.
    """
    image = decode_jpeg(full)
    image = shrunk(image, side / max(image.shape[:2]))
    heat = overlay(image, density, _STYLE)
    return Picture(time, _data(image), _data(heat), image.shape[1], image.shape[0])


def legend() -> list[tuple[float, list[int]]]:
    """Shares of gaze enclosed, and their RGB colours in the heatmaps."""
    colours = share_colours(np.array(CONTOUR_SHARES), _STYLE).tolist()
    return list(zip(CONTOUR_SHARES, colours, strict=True))


def _data(image: np.ndarray) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image, _QUALITY)).decode()
