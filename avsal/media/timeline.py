"""One continuous clock for the packets of a file whose own clock starts again or jumps."""

from __future__ import annotations

from collections import deque
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
