"""Decoding the packets of a stream: skipping damage, deinterlacing, starting at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError
from av.filter import Graph

from avsal.errors import MediaError
from avsal.media.clock import (
    REORDERED,
    STEP_BACK,
    Timeline,
    is_discontinuous,
    is_shown_late,
    restarts,
)
from avsal.media.source import Source
from avsal.media.view import View

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer
    from av.filter.context import FilterContext
    from av.packet import Packet
    from av.video.frame import VideoFrame

_ARGUMENTS = "mode=send_frame:deint=interlaced"  # one frame per frame; flagged ones only

# Reading stops when this many packets are damaged and they outnumber the decoded frames.
MIN_DAMAGED = 100
_AHEAD, _AHEAD_BYTES = 300, 32 * 2**20  # limits of reading ahead for the first time
_MAX_READ_ERRORS = 10  # in a row; FFmpeg finds the next packet after most errors


class Deinterlacer:
    """FFmpeg's bwdif: one frame out for each frame in, in order, one frame later."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._layout: tuple[int, int, str] | None = None

    def push(self, frame: VideoFrame) -> list[VideoFrame]:
        """Add a frame and return those that are ready; frames before an interlaced one pass."""
        if self._graph is None and not frame.interlaced_frame:
            return [frame]
        layout = frame.width, frame.height, frame.format.name
        ready = self.flush() if layout != self._layout else []
        if self._graph is None:
            self._graph, self._layout = _build(frame), layout
        return [*ready, *filtered(self._graph, frame)]

    def flush(self) -> list[VideoFrame]:
        """Return the remaining frames."""
        frames = [] if self._graph is None else list(filtered(self._graph, None))
        self._graph = self._layout = None
        return frames


def _build(frame: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    nodes: list[FilterContext] = [source, graph.add("bwdif", _ARGUMENTS), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    return graph


def filtered(graph: Graph, frame: AudioFrame | VideoFrame | None) -> Iterator[Any]:
    """Push a frame, or None for a flush, into a filter graph and yield the frames that come out."""
    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (BlockingIOError, EOFError):  # more input is needed, or it is flushed
            return


@dataclass(frozen=True)
class Slot:
    """A decoded frame and its position in the video; deinterlacing replaces `frame`.

    Attributes:
        index: position in the video, from 0.
        time: presentation time on the container's clock, seconds.
        nominal: duration, as stored or from the frame rate, seconds.
        view: how it is displayed.
        frame: the picture as stored.
    """

    index: int
    time: Fraction
    nominal: Fraction
    view: View
    frame: VideoFrame


def up_to(target: Fraction, lead: int, slots: Iterable[Slot]) -> Iterator[Slot]:
    """Yield up to `lead` slots before the target, and the first one at or after it."""
    earlier: deque[Slot] = deque(maxlen=lead)
    for slot in slots:
        if slot.time >= target:
            yield from earlier
            yield slot
            return
        earlier.append(slot)


def from_time(target: Fraction, lead: int, slots: Iterator[Slot]) -> Iterator[Slot]:
    """Yield up to `lead` slots before the target, and all from there on."""
    yield from up_to(target, lead, slots)
    yield from slots


def deinterlaced(slots: Iterable[Slot]) -> Iterator[Slot]:
    """Deinterlace the frames that are flagged as interlaced."""
    deinterlacer = Deinterlacer()
    waiting: deque[Slot] = deque()
    for slot in slots:
        waiting.append(slot)
        for frame in deinterlacer.push(slot.frame):
            yield replace(waiting.popleft(), frame=frame)
    for frame in deinterlacer.flush():
        yield replace(waiting.popleft(), frame=frame)


class Decoder:
    """Reads and decodes the packets of one stream in constant memory.

    Args:
        path: the file, for messages.
        container: the open file.
        stream: the stream to read.
        partner: the sound that belongs to the pictures, or the pictures to the sound, if any.

    Attributes:
        skipped: number of damaged packets so far.
        decoded: number of frames so far.
        broken_off: damage ended the reading before the end of the file.
    """

    def __init__(
        self, path: Source, container: InputContainer, stream: Any, partner: Any = None
    ) -> None:
        self.path = path
        self.skipped = 0
        self.decoded = 0
        self.broken_off = False
        self._container: Any = container
        self._stream = stream
        self._streams, self._timeline = [stream], None
        jumps = is_discontinuous(container)
        if jumps and partner is not None:  # both clocks jump together
            self._streams.append(partner)
        if stream is not None and (jumps or stream.type == "audio"):
            leader = next((s for s in self._streams if s.type == "video"), stream)
            self._timeline = Timeline(leader, jumps)

    @property
    def jumped(self) -> bool:
        """Whether the clock of the packets restarted or jumped, and was continued."""
        return self._timeline is not None and self._timeline.jumped

    def packets(self) -> Iterator[Packet]:
        """Yield the packets of the stream; the last one is empty and flushes the decoder.

        Where the clock restarts or jumps, it is continued.
        """
        packets = self._demuxed()
        if self._timeline is None:
            yield from packets
            return
        for packet in self._timeline.continued(packets):
            if packet.stream_index == self._stream.index:
                yield packet

    def _demuxed(self) -> Iterator[Packet]:
        errors = 0
        packets = self._container.demux(*self._streams)
        while errors < _MAX_READ_ERRORS:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (FFmpegError, IndexError):  # this ends the generator, but not the container
                errors += 1
                self._skip()
                packets = self._container.demux(*self._streams)
                continue
            errors = 0
            yield packet
        self.broken_off = True

    def decode(self, packet: Packet | None) -> list[Any]:
        """Return the frames that a packet completes; None flushes the decoder.

        Raises:
            MediaError: most of the stream is damaged, or memory is exhausted.
        """
        try:
            frames = self._stream.decode(packet)
        except EOFError:  # flushed before
            return []
        except MemoryError as error:
            raise MediaError(f"{self.path}: a frame is too large for the free memory") from error
        except FFmpegError:
            self._skip()
            return []
        self.decoded += len(frames)
        return frames

    def close(self) -> None:
        """Release the stream, so that its decoder and threads can end."""
        self._container = self._stream = None
        self._streams = []

    def _skip(self) -> None:
        self.skipped += 1
        if self.skipped >= MIN_DAMAGED and self.skipped > self.decoded:
            raise MediaError(
                f"{self.path}: too damaged, {self.skipped} packets cannot be decoded and only "
                f"{self.decoded} frames can; get the file again"
            )


def with_start(
    packets: Iterator[Packet], time_base: Fraction, step: Fraction
) -> tuple[Iterator[Packet], Fraction | None]:
    """Find the time of the first frame if the first packets have none, from later packets.

    Matroska files that were cut begin with such packets, because times before 0 are not stored.

    Args:
        packets: the packets of a stream, from its beginning.
        time_base: unit of their times, in seconds.
        step: duration of a packet that stores none, in seconds.

    Returns:
        The same packets, and the time of the first frame in seconds; None if it stores a time
        itself, or if no frame does.
    """
    ahead: list[Packet] = []
    times: list[int] = []
    untimed, size = Fraction(0), 0
    for packet in packets:
        ahead.append(packet)
        size += packet.size
        if packet.pts is not None:
            times.append(packet.pts)
        elif packet.size and not times:
            untimed += packet.duration * time_base if packet.duration else step
        if not untimed or len(times) > REORDERED or len(ahead) > _AHEAD or size > _AHEAD_BYTES:
            break
    start = min(times) * time_base - untimed if times and untimed else None
    return chain(ahead, packets), start


def is_empty(packet: Packet) -> bool:
    """Tell whether a packet is empty, which means that the previous picture stays."""
    timed = packet.pts is not None or packet.dts is not None
    return not packet.size and timed  # without a time, it flushes the decoder


class Outstanding:
    """Repeats the previous picture for each one that is lost.

    A picture is lost if a later one arrives before it, or none at all: its packet, or one that it
    refers to, is damaged. With the repetitions, there are as many frames as packets.

    Args:
        time_base: unit of the stored times, in seconds.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._times: list[int] = []  # stored times of the packets whose frames have not arrived
        self._opening: set[int] = set()  # those of the first packets
        self._recent: deque[int] = deque(maxlen=REORDERED)  # those of the last packets
        self._lost: set[int] = set()
        self._first: int | None = None  # stored time of the first frame
        self._shown: Any = None
        self._back = int(STEP_BACK / time_base)

    def sent(self, packet: Packet) -> None:
        """Register a packet that is sent to the decoder."""
        if packet.pts is not None and not packet.is_discard:
            self._times.append(packet.pts)
            self._recent.append(packet.pts)
            if len(self._opening) < 2 * REORDERED:
                self._opening.add(packet.pts)

    def shown(self, frame: Any) -> list[tuple[Any, int | None]]:
        """Return what to show when a frame arrives, with stored times; the frame comes last."""
        pts, before = frame.pts, self._shown
        if pts in self._lost or (pts is not None and self._precedes(pts)):
            return []  # too late: another one was shown instead
        self._shown = frame
        self._first = pts if self._first is None else self._first
        if pts is None or pts not in self._times:
            return [(frame, pts)]
        self._times.remove(pts)
        return [*self._repeated(before, pts), (frame, pts)]

    def ended(self) -> list[tuple[Any, int | None]]:
        """Return what to show for the last pictures if they never arrived."""
        self._times = [time for time in self._times if time in self._recent]
        return self._repeated(self._shown, None)

    def _repeated(self, before: Any, until: int | None) -> list[tuple[Any, int | None]]:
        """Repeat a frame for the pictures that should have come before a time, if it is known."""
        if before is None or before.pts is None or before.interlaced_frame:
            return []  # it is the first; or a packet may be half a frame
        lost = sorted(
            time
            for time in self._times
            if before.pts - self._back < time  # much earlier ones: the clock restarted
            and (until is None or time < until)
            and not self._precedes(time)
        )
        self._times = [time for time in self._times if time not in lost]
        self._lost.update(lost)
        return [(before, time) for time in lost]

    def _precedes(self, time: int) -> bool:
        """Tell whether a picture precedes the first frame: it refers to one that is not there."""
        if self._first is None or time not in self._opening:
            return False
        return self._first - self._back < time < self._first


def count_frames(packets: Iterable[Packet], first: Fraction, keyframe: Packet) -> int | None:
    """Count the frames from a time, in seconds, up to a keyframe without decoding them.

    The packets must begin before the first of these frames. The count is exact if each packet is a
    frame and the container stores presentation times.

    Returns:
        The number of frames; None if times are missing, repeated or jump on the way, or the
        keyframe is not reached, as in damaged files.
    """
    if keyframe.pts is None or not keyframe.is_keyframe:
        return None
    count, latest, reached = 0, None, False
    until = keyframe.pts * keyframe.time_base
    recent: deque[int] = deque(maxlen=REORDERED)
    for packet in packets:
        if packet.is_discard or not packet.size:
            continue  # cut by an edit list, a repeated picture, or a flush
        if packet.pts is None or packet.pts in recent or is_shown_late(packet):
            return None
        recent.append(packet.pts)
        time = packet.pts * packet.time_base
        if packet.dts is not None:
            decoded = packet.dts * packet.time_base
            if latest is not None and (decoded < latest or restarts(time - latest)):
                return None
            latest = decoded
        reached = reached or (packet.pos == keyframe.pos and packet.pts == keyframe.pts)
        if time > until and not reached:
            return None
        if reached and latest is not None and latest >= until:
            break  # later packets are shown later still
        count += first <= time < until
    return count if reached else None
