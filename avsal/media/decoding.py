"""Packets of one stream to frames: past damage, deinterlaced, from a time on."""

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
from avsal.media.clock import Timeline, is_discontinuous, restarts
from avsal.media.source import Source
from avsal.media.view import View

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.filter.context import FilterContext
    from av.packet import Packet
    from av.video.frame import VideoFrame

_ARGUMENTS = "mode=send_frame:deint=interlaced"  # one frame out for one in, flagged ones only

# A file is given up once this many packets are damaged and they outnumber the good ones.
MIN_DAMAGED = 100
_REORDERED = 16  # frames at most that are decoded before one that is shown earlier

_AHEAD, _AHEAD_BYTES = 300, 32 * 2**20  # packets without a time that are read ahead, at most

_MAX_READ_ERRORS = 10  # in a row; FFmpeg finds the next packet after most of them


class Deinterlacer:
    """FFmpeg's bwdif: one frame out for each frame in, in order, one frame later."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._layout: tuple[int, int, str] | None = None

    def push(self, frame: VideoFrame) -> list[VideoFrame]:
        """Take a frame; return those that are ready. Before the first interlaced one: itself."""
        if self._graph is None and not frame.interlaced_frame:
            return [frame]
        layout = frame.width, frame.height, frame.format.name
        ready = self.flush() if layout != self._layout else []
        if self._graph is None:
            self._graph, self._layout = _build(frame), layout
        self._graph.vpush(frame)
        return ready + self._pull()

    def flush(self) -> list[VideoFrame]:
        """Return the frames that are held back."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        rest = self._pull()
        self._graph = self._layout = None
        return rest

    def _pull(self) -> list[VideoFrame]:
        assert self._graph is not None
        frames = []
        while True:
            try:
                frames.append(self._graph.vpull())
            except (BlockingIOError, EOFError):  # it wants more input, or it is flushed
                return frames
            except FFmpegError as error:  # pragma: no cover
                raise RuntimeError(f"the deinterlacing filter failed: {error}") from error


def _build(frame: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    nodes: list[FilterContext] = [source, graph.add("bwdif", _ARGUMENTS), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    return graph


@dataclass(frozen=True)
class Slot:
    """A decoded frame with its place in the video; `frame` may be replaced by a deinterlaced one.

    Attributes:
        index: position in the video, from 0.
        time: when it is shown on the container's clock, seconds.
        nominal: how long it is shown, as it says itself or by the frame rate, seconds.
        view: how it is shown.
        frame: the picture as stored.
    """

    index: int
    time: Fraction
    nominal: Fraction
    view: View
    frame: VideoFrame


def up_to(target: Fraction, lead: int, slots: Iterable[Slot]) -> Iterator[Slot]:
    """The first slot at or after the target, preceded by up to `lead` slots."""
    past: deque[Slot] = deque(maxlen=lead)
    for slot in slots:
        if slot.time >= target:
            yield from past
            yield slot
            return
        past.append(slot)


def from_time(target: Fraction, lead: int, slots: Iterator[Slot]) -> Iterator[Slot]:
    """The slots from `lead` ones before the first at or after the target on."""
    yield from up_to(target, lead, slots)
    yield from slots


def deinterlaced(slots: Iterable[Slot]) -> Iterator[Slot]:
    """The same slots, their frames deinterlaced where they are flagged as interlaced."""
    deinterlacer = Deinterlacer()
    waiting: deque[Slot] = deque()
    for slot in slots:
        waiting.append(slot)
        for frame in deinterlacer.push(slot.frame):
            yield replace(waiting.popleft(), frame=frame)
    for frame in deinterlacer.flush():
        yield replace(waiting.popleft(), frame=frame)


class Decoder:
    """Frames of one stream in decoding order of their output, in constant memory.

    Args:
        path: the file, for errors.
        container: where it is open.
        stream: what to read, sound or pictures.
        partner: the pictures to the sound, or the sound to the pictures, if the file has both.

    Attributes:
        skipped: damaged packets so far.
        decoded: frames so far.
        broken_off: reading stopped at damage before the end of the file.
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
        if jumps and partner is not None:  # whose clock jumps at the same place
            self._streams.append(partner)
        if stream is not None and (jumps or stream.type == "audio"):
            leader = next((s for s in self._streams if s.type == "video"), stream)
            self._timeline = Timeline(leader, jumps)

    @property
    def jumped(self) -> bool:
        """The clock of the packets started again or jumped, and was continued."""
        return self._timeline is not None and self._timeline.jumped

    def packets(self) -> Iterator[Packet]:
        """Yield the packets of the stream, the last one empty: it flushes the decoder.

        Their clock is continued where it starts again or jumps.
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
            except (FFmpegError, IndexError):  # the generator is spent, the container is not
                errors += 1
                self._skip()
                packets = self._container.demux(*self._streams)
                continue
            errors = 0
            yield packet
        self.broken_off = True

    def decode(self, packet: Packet | None) -> list[Any]:
        """Return the frames that a packet completes; None flushes what the decoder holds.

        Raises:
            MediaError: more is damaged than not, or memory is short.
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

    def frames(self) -> Iterator[Any]:
        """Yield every frame that can be decoded, then those that the decoder still holds."""
        for packet in self.packets():
            yield from self.decode(packet)
        if self.broken_off:
            yield from self.decode(None)

    def close(self) -> None:
        """Let go of the stream, so that its decoder and threads can end."""
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
    """Tell when a stream begins whose first packets have no time, by the first that have one.

    Matroska files that were cut have such packets: times before 0 are lost on the way.

    Args:
        packets: of one stream, from its beginning.
        time_base: unit of their times, in seconds.
        step: time between frames, in seconds, where a packet tells none.

    Returns:
        The same packets, and the time of the first frame in seconds; None where it has one, and
        where no frame has.
    """
    held: list[Packet] = []
    times: list[int] = []
    untimed, size = Fraction(0), 0
    for packet in packets:
        held.append(packet)
        size += packet.size
        if packet.pts is not None:
            times.append(packet.pts)
        elif packet.size and not times:
            untimed += packet.duration * time_base if packet.duration else step
        if not untimed or len(times) > _REORDERED or len(held) > _AHEAD or size > _AHEAD_BYTES:
            break
    start = min(times) * time_base - untimed if times and untimed else None
    return chain(held, packets), start


def is_empty(packet: Packet) -> bool:
    """Tell whether a packet holds nothing, which means that the picture before stays."""
    timed = packet.pts is not None or packet.dts is not None
    return not packet.size and timed  # the one without a time flushes the decoder


class Outstanding:
    """Shows the picture before again in place of each one that is lost.

    A picture that does not come although a later one does is lost: its packet is damaged, or what
    it refers to is. Packets and frames then have the same numbers.
    """

    def __init__(self) -> None:
        self._times: list[int] = []  # stored ones of the packets whose frames have not come yet
        self._lost: set[int] = set()
        self._shown: Any = None

    def sent(self, packet: Packet) -> None:
        """Note a packet that goes to the decoder."""
        if packet.pts is not None and not packet.is_discard:
            self._times.append(packet.pts)

    def shown(self, frame: Any) -> list[tuple[Any, int | None]]:
        """Return what to show as a frame comes, with stored times; the last one is the frame."""
        pts, before = frame.pts, self._shown
        if pts in self._lost:  # it comes too late, the one before was shown in its place
            return []
        self._shown = frame
        if pts is None or pts not in self._times:
            return [(frame, pts)]
        self._times.remove(pts)
        if before is None or before.pts is None or frame.interlaced_frame:
            return [(frame, pts)]  # nothing was shown before; a packet may be half a frame
        lost = sorted(time for time in self._times if before.pts < time < pts)
        self._times = [time for time in self._times if not before.pts < time < pts]
        self._lost.update(lost)
        return [*((before, time) for time in lost), (frame, pts)]


def count_frames(packets: Iterable[Packet], first: Fraction, until: Fraction) -> int | None:
    """Count the frames with first <= time < until (container clock, seconds) without decoding.

    The packets begin before the first of them. Exact where one packet is one frame and the
    container stores presentation times; None where the clock jumps on the way.
    """
    count, previous = 0, None
    for packet in packets:
        if packet.pts is None or packet.is_discard or not packet.size:
            continue  # the flush; cut away by an edit list; the picture before stays
        if packet.dts is not None:
            decoded = packet.dts * packet.time_base
            if previous is not None and restarts(decoded - previous):
                return None
            if decoded >= until:
                break  # later packets are shown later still
            previous = decoded
        count += first <= packet.pts * packet.time_base < until
    return count
