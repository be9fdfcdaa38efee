"""Times of frames on one clock, past jumps, gaps and joins."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import TYPE_CHECKING, Any

from av.format import Flags

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

# Formats that number packets and store no presentation times; what FFmpeg derives for them is
# out of order where there are B-frames (PyAV issue 493).
COUNTING_FORMATS = frozenset({"avi"})

# A clock that started again, as in joined transport streams, steps back; or far ahead, as FFmpeg
# takes a step back of a minute for the wrap of MPEG's clock, which happens every 26.5 hours.
STEP_BACK = Fraction(1)  # seconds
STEP_AHEAD = Fraction(12 * 3600)  # seconds
_RATES = frozenset({1, 1001})  # frame rates are N or N / 1.001; a measured mean is no rate
_MIN_TICKS = 4  # between frames; a rounding error is then small against them

# In formats of broadcasts and discs a longer step is a jump of the clock, not time that passed:
# FFmpeg's dts_delta_threshold.
_GAP = Fraction(10)  # seconds
_REORDERED = 16  # frames at most that are decoded before one that is shown earlier
_PATIENCE = 500  # packets of sound that wait for the pictures to jump too, about 10 s


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


def is_discontinuous(container: InputContainer) -> bool:
    """Tell whether clocks may jump in a file of this format, as in transport streams."""
    flag: Any = Flags.ts_discont.value
    return bool(container.format.flags & flag)


@dataclass
class _Track:
    """Where a stream has got to on the continuous clock, in units of its own time base."""

    time_base: Fraction
    offset: int = 0  # from the stored clock to the continuous one
    end: int | None = None
    stored: int | None = None  # time of the packet before, in the file

    def time(self, packet: Any) -> Fraction:
        """Time of a packet in seconds."""
        return (packet.dts + self.offset) * self.time_base

    def is_near(self, time: Fraction) -> bool:
        """Tell whether the stream has got to about this time, seconds."""
        return self.end is not None and abs(time - self.end * self.time_base) <= _GAP

    def correct(self, packet: Packet) -> None:
        """Move a packet by the offset, and the track past the packet."""
        if packet.dts is None:
            return
        stored, self.stored = self.stored, packet.dts
        time, duration = packet.dts + self.offset, packet.duration or 0
        if stored == packet.dts and duration and packet.stream.type == "audio":
            time = max(time, self.end or time)  # its clock stands still, as in RealAudio
        shift, self.end = time - packet.dts, time + duration
        if shift:
            packet.dts += shift
            packet.pts = None if packet.pts is None else packet.pts + shift


class Timeline:
    """Corrects the times of packets, in place, where the clock starts again or jumps.

    The streams of one file jump together but not at the same packet. Sound that has jumped waits
    for the pictures and moves as far as they do, so that both stay in step.

    Args:
        leader: the stream that sets the pace: the pictures, or sound without any.
        discontinuous: clocks may jump ahead in files of this format.

    Attributes:
        jumped: the clock started again or jumped, and was continued.
    """

    def __init__(self, leader: Any, discontinuous: bool) -> None:
        self.jumped = False
        self._leader_index = leader.index
        self._leader = _Track(leader.time_base or Fraction(1))
        self._tracks = {leader.index: self._leader}
        self._ahead = _GAP if discontinuous else STEP_AHEAD
        self._held: deque[Packet] = deque()
        self._doubtful: list[Any] = []

    def continued(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """Yield packets of the leader and of what follows it; the order within each stays."""
        for packet in packets:
            if packet.stream_index == self._leader_index:
                offset = self._leader.offset
                yield from self._lead(packet)
                if self._leader.offset != offset:
                    yield from self._released()
            elif self._held or self._waits(packet):
                self._held.append(packet)
                if len(self._held) > _PATIENCE:
                    yield from self._released()
            else:
                self._follow(packet)
                yield packet
        yield from self._settled(0)
        yield from self._released()

    def _lead(self, packet: Packet) -> Iterator[Packet]:
        jump = self._jump(self._leader, packet)
        self._leader.offset -= jump
        self.jumped |= bool(jump)
        self._leader.correct(packet)
        if not (self._doubtful or _is_shown_late(packet)):
            yield packet
            return
        self._doubtful.append(packet)
        if jump or len(self._doubtful) > _REORDERED:
            yield from self._settled(jump)

    def _settled(self, jump: int) -> Iterator[Packet]:
        """The packets since the first that is shown much later than it is decoded.

        Where FFmpeg makes up the times of decoding from those of showing, it sees a jump some
        packets later; and it gives the last packet before one a time of another place. Without
        a jump there was a pause.
        """
        for packet in self._doubtful:
            if jump and _is_shown_late(packet):
                packet.pts -= jump
                if _is_shown_late(packet):
                    packet.pts = packet.dts + (packet.duration or 0)
            yield packet
        self._doubtful.clear()

    def _waits(self, packet: Packet) -> bool:
        track = self._track(packet)
        return bool(self._jump(track, packet)) and track.offset == self._leaders_offset(track)

    def _follow(self, packet: Packet) -> None:
        track = self._track(packet)
        if self._jump(track, packet):
            self.jumped = True
            track.offset = self._leaders_offset(track)
            if not self._leader.is_near(track.time(packet)):
                track.offset -= self._jump(track, packet)
        track.correct(packet)

    def _released(self) -> Iterator[Packet]:
        while self._held:
            packet = self._held.popleft()
            self._follow(packet)
            yield packet

    def _track(self, packet: Packet) -> _Track:
        index = packet.stream_index
        if index not in self._tracks:
            track = _Track(packet.time_base)
            track.offset = self._leaders_offset(track)
            self._tracks[index] = track
        return self._tracks[index]

    def _leaders_offset(self, track: _Track) -> int:
        return round(self._leader.offset * self._leader.time_base / track.time_base)

    def _jump(self, track: _Track, packet: Packet) -> int:
        """How far a packet is from where the clock should be; 0 where time may have passed."""
        if packet.dts is None:
            return 0
        back, expected = STEP_BACK, track.end
        if expected is None:
            if self._leader.end is None:
                return 0
            back, expected = (
                _GAP,
                round(self._leader.end * self._leader.time_base / track.time_base),
            )
        step = packet.dts + track.offset - expected
        if -back <= step * track.time_base <= self._ahead:
            return 0
        others = (other for other in self._tracks.values() if other is not track)
        if step > 0 and any(other.is_near(track.time(packet)) for other in others):
            return 0  # only this stream paused
        return step


def _is_shown_late(packet: Packet) -> bool:
    if packet.pts is None or packet.dts is None or packet.pts == packet.dts:
        return False
    longest = max(STEP_BACK, _REORDERED * (packet.duration or 0) * packet.time_base)
    return abs(packet.pts - packet.dts) * packet.time_base > longest
