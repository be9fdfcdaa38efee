"""One continuous clock for the packets of a file whose own clock starts again or jumps."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.format import Flags

from avsal.media.clock import STEP_AHEAD, STEP_BACK

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

# In formats of broadcasts and discs a longer step is a jump of the clock, not time that passed:
# FFmpeg's dts_delta_threshold.
_GAP = Fraction(10)  # seconds
_REORDERED = 16  # frames at most that are decoded before one that is shown earlier
_PATIENCE = 500  # packets of sound that wait for the pictures to jump too, about 10 s


def is_discontinuous(container: InputContainer) -> bool:
    """Tell whether clocks may jump in a file of this format, as in transport streams."""
    return bool(container.format.flags & Flags.ts_discont.value)


@dataclass
class _Track:
    """Where a stream has got to; `end` is on the continuous clock, `stored` as in the file."""

    offset: Fraction = Fraction(0)
    end: Fraction | None = None
    stored: int | None = None


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
        self._leader = leader.index
        self._ahead = _GAP if discontinuous else STEP_AHEAD
        self._tracks: defaultdict[int, _Track] = defaultdict(_Track)
        self._held: deque[Packet] = deque()
        self._doubtful: list[Packet] = []

    def continued(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """Yield packets of the leader and of what follows it; the order within each stays."""
        for packet in packets:
            if packet.stream_index == self._leader:
                offset = self._tracks[self._leader].offset
                yield from self._lead(packet)
                if self._tracks[self._leader].offset != offset:
                    yield from self._released()
            elif self._held or self._waits(packet):
                self._held.append(packet)
                if len(self._held) > _PATIENCE:
                    yield from self._released()
            else:
                self._follow(packet)
                yield packet
        yield from self._settled(Fraction(0))
        yield from self._released()

    def _lead(self, packet: Packet) -> Iterator[Packet]:
        track = self._tracks[self._leader]
        jump = self._jump(track, packet)
        track.offset -= jump
        self.jumped |= bool(jump)
        _correct(track, packet)
        if not (self._doubtful or _is_shown_late(packet)):
            yield packet
            return
        self._doubtful.append(packet)
        if jump or len(self._doubtful) > _REORDERED:
            yield from self._settled(jump)

    def _settled(self, jump: Fraction) -> Iterator[Packet]:
        """The packets since the first that is shown much later than it is decoded.

        Where FFmpeg makes up the times of decoding from those of showing, it sees a jump some
        packets later. Without a jump there was a pause.
        """
        for packet in self._doubtful:
            if jump and _is_shown_late(packet):
                packet.pts -= round(jump / packet.time_base)
            yield packet
        self._doubtful.clear()

    def _waits(self, packet: Packet) -> bool:
        track, leader = self._tracks[packet.stream_index], self._tracks[self._leader]
        return bool(self._jump(track, packet)) and track.offset == leader.offset

    def _follow(self, packet: Packet) -> None:
        track, leader = self._tracks[packet.stream_index], self._tracks[self._leader]
        if track.end is None:
            track.offset = leader.offset
        if self._jump(track, packet):
            self.jumped = True
            track.offset = leader.offset
            if not _near(_time(packet) + track.offset, leader):
                track.offset -= self._jump(track, packet)
        _correct(track, packet)

    def _released(self) -> Iterator[Packet]:
        while self._held:
            packet = self._held.popleft()
            self._follow(packet)
            yield packet

    def _jump(self, track: _Track, packet: Packet) -> Fraction:
        """How far a packet is from where the clock should be; 0 where time may have passed."""
        leader = self._tracks[self._leader]
        expected = leader.end if track.end is None else track.end
        if packet.dts is None or expected is None:
            return Fraction(0)
        time = _time(packet) + track.offset
        back = _GAP if track.end is None else STEP_BACK
        if -back <= time - expected <= self._ahead:
            return Fraction(0)
        others = (other for other in self._tracks.values() if other is not track)
        if time > expected and any(_near(time, other) for other in others):
            return Fraction(0)  # only this stream paused
        return time - expected


def _time(packet: Packet) -> Fraction:
    return packet.dts * packet.time_base


def _is_shown_late(packet: Packet) -> bool:
    if packet.pts is None or packet.dts is None:
        return False
    return abs(packet.pts - packet.dts) * packet.time_base > _GAP


def _near(time: Fraction, track: _Track) -> bool:
    return track.end is not None and abs(time - track.end) <= _GAP


def _correct(track: _Track, packet: Packet) -> None:
    """Move a packet by its track's offset, and the track past the packet."""
    if packet.dts is None:
        return
    stored, track.stored = track.stored, packet.dts
    duration = (packet.duration or 0) * packet.time_base
    time = _time(packet) + track.offset
    if stored == packet.dts and duration and packet.stream.type == "audio":
        time = max(time, track.end or time)  # its clock stands still, as in RealAudio
    shift = round((time - _time(packet)) / packet.time_base)
    if shift:
        packet.dts += shift
        packet.pts = None if packet.pts is None else packet.pts + shift
    track.end = time + duration
