"""Checks that a table of gaze can belong to a video: units, time span, points in the picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from avsal.datasets.gaze_table import COLUMNS, GazeRows
from avsal.errors import DataError

logger = logging.getLogger("avsal")

LARGEST_FRACTION = 1.5  # gaze may leave the picture, but with a larger median it is in pixels
MOST_ODD = 0.5  # fraction of rows outside the picture or the video above which a table is refused
MOST_NEGATIVE = 0.25  # fraction of rows with a negative coordinate; above, the origin is the centre
WORTH_A_WARNING = 0.03  # fraction of unused rows
A_FEW_ROWS = 10  # fewer rows may all have a negative coordinate
ENOUGH_ROWS = 50  # with more rows, it is suspicious if all are in one corner or in a short span
SMALL_PART = 0.55  # of the width and of the height, for that corner
SHORT_SPAN = 0.05  # of the video, for that span
SLACK = 1.2  # times the length of the video: a recording may continue after its end
LONGEST_FIXATION = 10.0  # seconds, for the median; fixations last some tenths of a second
# Median of the durations over the time to the next row of the observer, or of any if unknown.
LONGEST_OVERLAP, LONGEST_OVERLAP_OF_ALL = 3.0, 500.0
# Values besides NaN that trackers write if they lost the eyes.
_LOST_PLACES = ((0, 0), (-1, -1))
_LOST_FROM = 32767.0  # EyeLink writes -32768 or 1e8, in pixels and in fractions
# Unit, ending of the column's name, units per second; the first that fits is the likely one.
_CLOCKS = (("milliseconds", "_ms", 1e3), ("microseconds", "_us", 1e6), ("nanoseconds", "_ns", 1e9))


@dataclass(frozen=True)
class Shown:
    """Properties of the video that a table belongs to.

    Attributes:
        name: name of the file.
        width, height: pixels.
        seconds: length; None if unknown, and for a still image.
        rate: frames per second; None if unknown.
        pixel_note: what to know about coordinates in pixels; None if its pixels are square.
    """

    name: str
    width: int
    height: int
    seconds: float | None = None
    rate: float | None = None
    pixel_note: str | None = None


@dataclass(frozen=True)
class Reading:
    """Summary of a table's rows for one video; `str` gives one line.

    Attributes:
        table: path of the table.
        rows: number of rows for the video.
        observers: number of observers; None without such a column.
        first, last: seconds.
        seconds: length of the video; None if unknown.
        lost, outside, late: numbers of rows in which the tracker lost the eyes, that are outside
            the picture, and that are outside the video's time. A row counts once, as the first of
            these.
        unread: names of the table's columns that have no known meaning.
    """

    table: str
    rows: int
    observers: int | None
    first: float
    last: float
    seconds: float | None
    lost: int
    outside: int
    late: int
    unread: tuple[str, ...] = ()

    @classmethod
    def of_all(cls, readings: Sequence[Reading]) -> Reading:
        """Summary for several videos."""
        one = len(readings) == 1
        observers = [reading.observers or 0 for reading in readings]
        return cls(
            readings[0].table,
            sum(reading.rows for reading in readings),
            None if readings[0].observers is None else max(observers),
            min(reading.first for reading in readings),
            max(reading.last for reading in readings),
            readings[0].seconds if one else None,
            sum(reading.lost for reading in readings),
            sum(reading.outside for reading in readings),
            sum(reading.late for reading in readings),
            readings[0].unread,
        )

    def __str__(self) -> str:
        who = "observers unknown" if self.observers is None else f"{self.observers} observers"
        length = "" if self.seconds is None else f" of {self.seconds:.2f} s"
        unread = ", ".join(self.unread)[:120]
        return (
            f"{Path(self.table).name}: {self.rows} rows, {who}, "
            f"{self.first:.2f} to {self.last:.2f} s{length}; {self.lost} lost, "
            f"{self.outside} outside the picture, {self.late} before the start or after the end"
            f"{unread and '; columns that are not read: '}{unread}"
        )


def checked(rows: GazeRows, shown: Shown, units: str) -> tuple[GazeRows, Reading]:
    """Return the rows as fractions of the picture, without lost samples, and a summary.

    Args:
        units: "pixels", "fractions" or "auto", which decides by the numbers.

    Raises:
        DataError: the rows cannot be gaze on this video; the text names the likely reason.
    """
    count = len(rows) + rows.lost
    found = rows.where(~lost_places(rows.places))
    if not len(found):
        raise DataError(
            f"{rows.table}: all {count} rows for {shown.name} are lost samples, without a "
            "number or at (0, 0) or (-1, -1); check that the columns x and y hold the gaze"
        )
    late = _late(found, shown.seconds)
    _check_times(found, late, shown)
    _check_durations(found, shown)
    in_time = found.where(~late)
    fractions = _as_fractions(found, shown, units)
    outside: np.ndarray = np.any((fractions.places < 0) | (fractions.places >= 1), axis=1)
    _check_places(in_time, outside[~late], shown)
    reading = Reading(
        rows.table,
        count,
        None if rows.observers is None else len(np.unique(rows.observers)),
        float(found.times[0]),
        float((found.times + found.durations).max()),
        shown.seconds,
        count - len(found),
        int((outside & ~late).sum()),
        int(late.sum()),
        tuple(filter(None, rows.unread)),
    )
    if parent_process() is None:  # worker processes do not repeat the warnings
        if shown.pixel_note and fractions is not found:
            logger.warning("%s: %s: %s", rows.table, shown.name, shown.pixel_note)
        for text in _warnings(fractions.where(~late & ~outside), reading, shown):
            logger.warning(text)
    return fractions, reading


def lost_places(places: np.ndarray) -> np.ndarray:
    """Mark the coordinates (n, 2) that mean that the tracker lost the eyes, bool (n,)."""
    lost = ~np.isfinite(places).all(axis=1)
    for place in _LOST_PLACES:
        lost |= (places == place).all(axis=1)
    return lost | (np.abs(places) >= _LOST_FROM).any(axis=1)


def _late(rows: GazeRows, seconds: float | None) -> np.ndarray:
    """Mark rows that end before the video's first frame or start after its end."""
    late = (rows.times < 0) & (rows.times + rows.durations <= 0)
    return late if seconds is None else late | (rows.times >= seconds)


def _check_times(rows: GazeRows, late: np.ndarray, shown: Shown) -> None:
    if shown.seconds is None or late.mean() <= MOST_ODD:
        return
    span = f"{rows.times[0]:.10g} to {rows.times[-1]:.10g} s"
    raise DataError(
        f"{rows.table}: times from {span}, but {shown.name} lasts {shown.seconds:.2f} s; "
        f"{_likely_clock(rows.times, shown, shown.seconds)}"
    )


def _likely_clock(times: np.ndarray, shown: Shown, seconds: float) -> str:
    """The likely unit of the times, and what to do about it."""
    last, span, longest = times[-1], times[-1] - times[0], SLACK * seconds
    frames = (shown.rate or 0) * seconds
    if (times == np.round(times)).all() and frames / 2 < last < SLACK * frames:
        return f"are they frame numbers? divide them by {shown.rate:.6g}"
    for unit, column, per_second in _CLOCKS:
        fits = SHORT_SPAN * seconds <= span / per_second and last / per_second <= longest
        if times[0] >= 0 and fits:
            remedy = f"call the column time{column}, or divide them by {per_second:.0f}"
            return f"they look like {unit}: {remedy}"
    if span <= longest:
        return "they look like times of a clock: subtract the time of the first frame"
    for unit, column, per_second in _CLOCKS:
        if span <= longest * per_second:
            remedy = f"subtract the time of the first frame, and call the column time{column}"
            return f"they look like {unit} of a clock: {remedy}"
    return "give seconds from the first frame, and the video that was shown"


def _check_durations(rows: GazeRows, shown: Shown) -> None:
    lasting = rows.where(rows.durations > 0)
    if not len(lasting):
        return
    median = float(np.median(lasting.durations))
    longest = min(LONGEST_FIXATION, shown.seconds or LONGEST_FIXATION)
    limit = LONGEST_OVERLAP_OF_ALL if rows.observers is None else LONGEST_OVERLAP
    if median > longest or _overlap(lasting) > limit:
        raise DataError(
            f"{rows.table}: half of the durations are {median:g} s or more, longer than fixations "
            "and the time between them; they look like milliseconds: call the column duration_ms, "
            "or divide them by 1000"
        )


def _overlap(rows: GazeRows) -> float:
    """Median ratio of a duration to the time until the observer's next row; 0 if unknown."""
    observers = np.zeros(len(rows), int) if rows.observers is None else rows.observers
    order = np.lexsort((rows.times, observers))
    same = np.diff(observers[order]) == 0
    steps = np.diff(rows.times[order])[same]
    durations = rows.durations[order][:-1][same]
    known = steps > 0
    return float(np.median(durations[known] / steps[known])) if known.any() else 0.0


def _as_fractions(rows: GazeRows, shown: Shown, units: str) -> GazeRows:
    pixels = units == "pixels"
    if units == "auto":
        pixels = bool((np.median(np.abs(rows.places), axis=0) > LARGEST_FRACTION).any())
    return replace(rows, places=rows.places / (shown.width, shown.height)) if pixels else rows


def _check_places(rows: GazeRows, outside: np.ndarray, shown: Shown) -> None:
    """Refuse coordinates (as written) of which most are outside the picture."""
    if not len(rows):
        return
    negative = float((rows.places < 0).any(axis=1).mean())
    centred = negative > MOST_NEGATIVE and len(rows) >= A_FEW_ROWS
    if outside.mean() <= MOST_ODD and not centred:
        return
    (left, top), (right, bottom) = rows.places.min(axis=0), rows.places.max(axis=0)
    origin = "count from the upper left corner, x to the right and y down"
    if negative > MOST_NEGATIVE:
        likely = f"are they offsets from the centre (as PsychoPy's, or degrees)? {origin}"
    else:
        likely = (
            "are they pixels of the screen, or of another size of the video? give pixels of the "
            "video as it is, or fractions of its width and height"
        )
    raise DataError(
        f"{rows.table}: {100 * outside.mean():.0f} % of the points for {shown.name} are outside "
        f"the picture (x {left:.4g} to {right:.4g}, y {top:.4g} to {bottom:.4g}; the picture is "
        f"{shown.width}x{shown.height}); {likely}"
    )


def _warnings(counted: GazeRows, reading: Reading, shown: Shown) -> Iterator[str]:
    """Warnings about what may be wrong; `counted` are the rows in the picture and the video."""
    if reading.lost + reading.outside + reading.late > WORTH_A_WARNING * reading.rows:
        yield f"{shown.name}: some gaze is not used: {reading}"
    if reading.observers is None and reading.unread:
        yield (
            f"{reading.table}: no column names the observers (it may be called "
            f"{', '.join(COLUMNS['observer'][::5][:3])}), so their agreement is not scored; "
            f"columns that are not read: {', '.join(reading.unread)[:120]}"
        )
    if len(counted) < ENOUGH_ROWS:
        return
    if (counted.places.max(axis=0) < SMALL_PART).all():
        yield (
            f"{reading.table}: all gaze on {shown.name} is in the upper left quarter; if that is "
            "not so, give pixels of the video as it is, or fractions of its size (no percent)"
        )
    if shown.seconds is not None and reading.last < SHORT_SPAN * shown.seconds:
        yield (
            f"{reading.table}: all gaze on {shown.name} is in its first {reading.last:.2f} of "
            f"{shown.seconds:.2f} s; times are seconds from its first frame"
        )
