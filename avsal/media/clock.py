"""Frame times on one continuous clock, across jumps, gaps and joined files."""

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

# Formats that number packets and store no presentation times. If there are B-frames, the times that
# FFmpeg derives are out of order (PyAV issue 493).
COUNTING_FORMATS = frozenset({"avi"})

# A clock that restarts, as in joined transport streams, steps back; or far ahead, because FFmpeg
# takes a step back of a minute for the overflow of MPEG's clock, which happens every 26.5 hours.
STEP_BACK = Fraction(1)  # seconds
STEP_AHEAD = Fraction(12 * 3600)  # seconds
_RATES = frozenset({1, 1001})  # frame rates are N or N / 1.001; a measured mean is not a rate
_MIN_TICKS = 4  # between frames, so that rounding errors are small in comparison

# In formats for broadcasts and discs, a longer step is a jump of the clock rather than a pause
# (FFmpeg's dts_delta_threshold).
_GAP = Fraction(10)  # seconds
REORDERED = 16  # the most frames that are decoded before one that is shown earlier
_PATIENCE = 500  # packets of sound, about 10 s, that wait for the pictures to jump too


def restarts(step: Fraction) -> bool:
    """Tell whether a step from the expected to the stored time means that the clock restarted."""
    return not -STEP_BACK <= step <= STEP_AHEAD


class FrameClock:
    """Converts stored times, in presentation order, to strictly increasing exact seconds.

    Args:
        time_base: the stream's unit of time, in seconds.
        step: nominal time between frames, in seconds; replaces missing times.
        counting: use the times of the packets in file order (`sent`), not those of the frames.
        start: time of the first frame, in seconds, if only later frames store a time.
        first: time of the video's first frame, in seconds, if reading begins later.

    Attributes:
        synthesised: times were missing or repeated, and were computed from the frame rate.
        restarted: the stored clock restarted and was continued.
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
        # Matroska rounds times to milliseconds; for most frame rates that is not exact.
        self._rounded = step.numerator in _RATES and ticks.denominator > 1 and ticks >= _MIN_TICKS
        self._stored: int | None = None
        self._missing = 0  # missing times in a row
        self._previous: Fraction | None = None
        self._shift = Fraction(0)

    @property
    def unit(self) -> Fraction:
        """The unit of the returned times, in seconds."""
        if self._rounded or self._start is not None:  # some are stored, some follow from the rate
            numerators = gcd(self.step.numerator, self._time_base.numerator)
            return Fraction(numerators, lcm(self.step.denominator, self._time_base.denominator))
        return self.step if self.synthesised else self._time_base

    def sent(self, dts: int | None) -> None:
        """Register a packet's time when the packet is sent to the decoder."""
        if self._counting and dts is not None:
            self._sent.append(dts)

    def lost(self) -> None:
        """Register that the last packet gives no frame."""
        if self._sent:
            self._sent.pop()

    def continued(self, time: Fraction) -> Fraction:
        """Return a stored time, in seconds, on the continued clock."""
        return time + self._shift

    def exact(self, time: Fraction) -> Fraction:
        """Undo the rounding of a time at a constant rate; other times are unchanged."""
        if not self._rounded or self._first is None:
            return time
        passed = time - self._first
        exact = round(passed / self.step) * self.step
        return self._first + exact if abs(exact - passed) <= self._time_base else time

    def shown(self, duration: int | None) -> Fraction:
        """Return how long a frame is shown in seconds, from its stored duration if it has one."""
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
            # In transport and program streams, single times may be missing or repeated. That does
            # not count as a missing clock.
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
    """Tell whether clocks may jump in files of this format, as in transport streams."""
    flag: Any = Flags.ts_discont.value
    return bool(container.format.flags & flag)


@dataclass
class _Track:
    """The position of a stream on the continuous clock, in units of its time base."""

    time_base: Fraction
    offset: int = 0  # from the stored clock to the continuous one
    end: int | None = None
    stored: int | None = None  # stored time of the previous packet

    def time(self, packet: Any) -> Fraction:
        """Return a packet's time in seconds."""
        return (packet.dts + self.offset) * self.time_base

    def is_near(self, time: Fraction) -> bool:
        """Tell whether the stream is near this time, in seconds."""
        return self.end is not None and abs(time - self.end * self.time_base) <= _GAP

    def correct(self, packet: Packet) -> None:
        """Correct a packet's times, and advance the track past the packet."""
        if packet.dts is None:
            return
        stored, self.stored = self.stored, packet.dts
        time, duration = packet.dts + self.offset, packet.duration or 0
        if stored == packet.dts and duration and packet.stream.type == "audio":
            time = max(time, self.end or time)  # its times repeat, as in RealAudio
        shift, self.end = time - packet.dts, time + duration
        if shift:
            packet.dts += shift
            packet.pts = None if packet.pts is None else packet.pts + shift


class Timeline:
    """Corrects the times of packets, in place, where the clock restarts or jumps.

    The streams of a file jump together, but not at the same packet. Sound that has jumped waits for
    the pictures and is moved by the same amount, so that both stay in sync.

    Args:
        leader: the stream that the others follow: the pictures, or the sound if there are none.
        discontinuous: clocks may jump ahead in files of this format.

    Attributes:
        jumped: the clock restarted or jumped, and was continued.
    """

    def __init__(self, leader: Any, discontinuous: bool) -> None:
        self.jumped = False
        self._leader_index = leader.index
        self._leader = _Track(leader.time_base or Fraction(1))
        self._tracks = {leader.index: self._leader}
        self._ahead = _GAP if discontinuous else STEP_AHEAD
        self._waiting: deque[Packet] = deque()
        self._doubtful: list[Any] = []

    def continued(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """Yield the corrected packets; the order within each stream is unchanged."""
        for packet in packets:
            if packet.stream_index == self._leader_index:
                offset = self._leader.offset
                yield from self._lead(packet)
                if self._leader.offset != offset:
                    yield from self._released()
            elif self._waiting or self._must_wait(packet):
                self._waiting.append(packet)
                if len(self._waiting) > _PATIENCE:
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
        if not (self._doubtful or is_shown_late(packet)):
            yield packet
            return
        self._doubtful.append(packet)
        if jump or len(self._doubtful) > REORDERED:
            yield from self._settled(jump)

    def _settled(self, jump: int) -> Iterator[Packet]:
        """Yield the packets since the first one that is shown much later than it is decoded.

        If FFmpeg derives decoding times from presentation times, it notices a jump some packets
        later, and the last packet before the jump has a wrong time. Without a jump, this was a
        pause.
        """
        for packet in self._doubtful:
            if jump and is_shown_late(packet):
                packet.pts -= jump
                if is_shown_late(packet):
                    packet.pts = packet.dts + (packet.duration or 0)
            yield packet
        self._doubtful.clear()

    def _must_wait(self, packet: Packet) -> bool:
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
        while self._waiting:
            packet = self._waiting.popleft()
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
        """Return how far a packet is from the expected time; 0 if it may have been a pause."""
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
            return 0  # a pause of this stream only
        return step


def is_shown_late(packet: Packet) -> bool:
    """Tell whether a packet's two times are too far apart for pictures in another order."""
    if packet.pts is None or packet.dts is None or packet.pts == packet.dts:
        return False
    longest = max(STEP_BACK, REORDERED * (packet.duration or 0) * packet.time_base)
    return abs(packet.pts - packet.dts) * packet.time_base > longest
