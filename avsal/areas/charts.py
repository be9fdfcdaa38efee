"""Charts of a report as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

COLOURS = 8  # classes s0 ... s7 of the style sheet
_WIDTH, _HEIGHT = 960, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 170, 12, 34  # margins; names of lines stand on the right
_POINTS = 480  # of a line at most; more do not show
_LABEL = 16  # pixels between two names

Line = tuple[str, np.ndarray]  # name, values over time; not a number is a gap


def line_chart(
    time: np.ndarray,
    lines: Sequence[Line],
    cuts: Sequence[float],
    title: str,
    end: float,
    others: Sequence[np.ndarray] = (),
) -> str:
    """Lines of shares (0..1, shown in per cent) over time, with cuts as thin vertical lines.

    Args:
        time: (n,) seconds, ascending.
        cuts: seconds.
        title: what the chart shows, read to people who do not see it.
        end: seconds of the whole video.
        others: values to compare with, dashed, one for each line or none.
    """
    end = max(end, 1e-3)
    everything = [*(values for _name, values in lines), *others]
    top = _rounded_up(max((np.nanmax(values, initial=0) for values in everything), default=0))
    drawn = [(name, *_binned(time, values, end)) for name, values in lines]
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts += _grid(top, end)
    parts += [
        f'<path class="cut" d="M{_x(cut, end):.1f} {_TOP}V{_y(0, top):.1f}"/>' for cut in cuts
    ]
    for number, (_name, seconds, values) in enumerate(drawn):
        parts.append(
            f'<path class="line s{number % COLOURS}" d="{_path(seconds, values, end, top)}"/>'
        )
    for number, values in enumerate(others):
        path = _path(*_binned(time, values, end), end, top)
        parts.append(f'<path class="line other s{number % COLOURS}" d="{path}"/>')
    parts += _names([(name, _last(values)) for name, _s, values in drawn], top)
    return "".join([*parts, "</svg>"])


def _x(second: float, end: float) -> float:
    return _LEFT + second / end * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)


def _rounded_up(value: float) -> float:
    """The next of 0.02, 0.05, 0.1, 0.2, 0.5 and 1."""
    return next((top for top in (0.02, 0.05, 0.1, 0.2, 0.5) if value <= top), 1.0)


def _binned(time: np.ndarray, values: np.ndarray, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of as many stretches of time as a chart can show."""
    if len(time) <= _POINTS:
        return time, values
    number = np.minimum((time / end * _POINTS).astype(int), _POINTS - 1)
    known = ~np.isnan(values)
    sums = np.bincount(number[known], values[known], _POINTS)
    counts = np.bincount(number[known], minlength=_POINTS)
    with np.errstate(invalid="ignore"):
        return (np.arange(_POINTS) + 0.5) * end / _POINTS, sums / np.where(counts, counts, np.nan)


def _path(seconds: np.ndarray, values: np.ndarray, end: float, top: float) -> str:
    steps, pen_down = [], False
    for second, value in zip(seconds, values, strict=True):
        if math.isnan(value):
            pen_down = False
            continue
        steps.append(f"{'L' if pen_down else 'M'}{_x(second, end):.1f} {_y(value, top):.1f}")
        pen_down = True
    return "".join(steps)


def _last(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known[-1]) if known.size else 0.0


def _grid(top: float, end: float) -> list[str]:
    parts = []
    for value in np.linspace(0, top, 5 if top in {0.02, 0.2, 1.0} else 6):
        y = _y(value, top)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" class="end">{value * 100:.3g} %</text>'
        )
    step = _time_step(end)
    for second in np.arange(0, end + step / 100, step):
        x = _x(second, end)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 10}" class="mid">{clock(second)}</text>')
    return parts


def _time_step(end: float) -> float:
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    return next((step for step in steps if end / step <= 8), end)


def clock(seconds: float) -> str:
    """A time as people write it: 7.5 s, 1:05, 1:02:03."""
    if seconds < 60:
        return f"{round(seconds, 1):g} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _names(ends: Sequence[tuple[str, float]], top: float) -> list[str]:
    """Names beside the ends of their lines, moved apart where they would overlap."""
    order = sorted(range(len(ends)), key=lambda number: -ends[number][1])
    parts, y = [], -math.inf
    lowest = _HEIGHT - _BOTTOM - _LABEL * (len(order) - 1)
    for place, number in enumerate(order):
        name, value = ends[number]
        y = max(min(_y(value, top), lowest + _LABEL * place), y + _LABEL)
        shown = name if len(name) <= 20 else name[:19] + "…"
        parts.append(
            f'<path class="line s{number % COLOURS}" d="M{_WIDTH - _RIGHT + 6} {y:.1f}h14"/>'
            f'<text x="{_WIDTH - _RIGHT + 26}" y="{y + 4:.1f}">{escape(shown)}</text>'
        )
    return parts
