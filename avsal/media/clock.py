"""The time of every frame on the container's clock, also where a file stores none."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from math import gcd, lcm

# Formats that number packets and store no presentation times; what FFmpeg derives for them is
# out of order where there are B-frames (PyAV issue 493).
COUNTING_FORMATS = frozenset({"avi"})

# A clock that started again, as in joined transport streams, steps back; or far ahead, as FFmpeg
# takes a step back of a minute for the wrap of MPEG's clock, which happens every 26.5 hours.
STEP_BACK = Fraction(1)  # seconds
STEP_AHEAD = Fraction(12 * 3600)  # seconds

_RATES = frozenset({1, 1001})  # frame rates are N or N / 1.001; a measured mean is no rate
_MIN_TICKS = 4  # between frames; a rounding error is then small against them


def restarts(step: Fraction) -> bool:
    """Tell whether a step between the expected and the stored time is a clock's new start."""
    return not -STEP_BACK <= step <= STEP_AHEAD


class FrameClock:
    """Turn stored times, in presentation order, into strictly increasing exact seconds.

    Args:
        time_base: the stream's unit of time, in seconds.
        step: nominal time between frames, in seconds; stands in for missing times.
        counting: times come from the packets in file order (`sent`), not from the frames.
        start: time of the first frame if it stores none though later ones do, in seconds.
        first: time of the video's first frame where the frames begin later, in seconds.

    Attributes:
        synthesised: times were missing, or stood still, and follow from the frame rate.
        restarted: the stored clock started again and was continued.
    """

    def __init__(
        self,
        time_base: Fraction,
        step: Fraction,
        counting: bool = False,
        start: Fraction | None = None,
        first: Fraction | None = None,
    ) -> None:
        self.step = step
        self.synthesised = False
        self.restarted = False
        self._time_base = time_base
        self._counting = counting
        self._sent: deque[int] = deque()
        self._start = start
        self._first = first
        ticks = step / time_base
        # Matroska rounds to milliseconds, which few frame rates are a multiple of.
        self._rounded = step.numerator in _RATES and ticks.denominator > 1 and ticks >= _MIN_TICKS
        self._stored: int | None = None
        self._missing = 0  # times without a break
        self._previous: Fraction | None = None
        self._shift = Fraction(0)

    @property
    def unit(self) -> Fraction:
        """The unit of the times that were given, in seconds."""
        if (
            self._rounded or self._start is not None
        ):  # some times are stored and some follow from the rate
            numerators = gcd(self.step.numerator, self._time_base.numerator)
            return Fraction(numerators, lcm(self.step.denominator, self._time_base.denominator))
        return self.step if self.synthesised else self._time_base

    def sent(self, dts: int | None) -> None:
        """Note the time of a packet that goes to the decoder."""
        if self._counting and dts is not None:
            self._sent.append(dts)

    def lost(self) -> None:
        """Note that the packet sent last gives no frame."""
        if self._sent:
            self._sent.pop()

    def continued(self, time: Fraction) -> Fraction:
        """Return a stored time, in seconds, on the line that new starts were continued to."""
        return time + self._shift

    def exact(self, time: Fraction) -> Fraction:
        """Return what a time of a constant rate was before it was rounded; others stay."""
        if not self._rounded or self._first is None:
            return time
        passed = time - self._first
        exact = round(passed / self.step) * self.step
        return self._first + exact if abs(exact - passed) <= self._time_base else time

    def shown(self, duration: int | None) -> Fraction:
        """Return how long a frame is shown that says so itself, or not, in seconds."""
        seconds = duration * self._time_base if duration else self.step
        is_step = self._rounded and abs(seconds - self.step) <= self._time_base
        return self.step if is_step else seconds

    def time(self, pts: int | None) -> Fraction:
        """Return the time of the next frame in presentation order, in seconds."""
        if self._counting:
            pts = self._sent.popleft() if self._sent else None
        missing = pts is None or pts == self._stored
        self._missing = self._missing + 1 if missing else 0
        self._stored = pts
        if pts is None or missing:
            # A single time in between that is missing or stored twice, as transport and program
            # streams have it, is no missing clock.
            self.synthesised |= self._missing > 1 or self._previous is None
            self._previous = self._next()
        else:
            time = self.exact(pts * self._time_base + self._shift)
            self._previous = self._ordered(time)
        if self._first is None:
            self._first = self._previous
        return self._previous

    def _next(self) -> Fraction:
        if self._previous is None:
            return self._start or Fraction(0)
        return self._previous + self.step

    def _ordered(self, time: Fraction) -> Fraction:
        if self._previous is None:
            return time
        if restarts(time - self._previous):
            self.restarted = True
            self._shift += self._next() - time
            return self._next()
        return max(time, self._previous + self._time_base)
