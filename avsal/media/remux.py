"""The sound of a source file on its way into another container."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError
from av.filter import Graph

from avsal.errors import MediaError
from avsal.media.container import MATROSKA
from avsal.media.sound import mixings, queue_of

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import OutputContainer
    from av.packet import Packet

    from avsal.media.sound import SoundSource

# Codecs that players expect in a container; Matroska takes everything that FFmpeg can put in it.
_PCM = frozenset({"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le"})
_MP4_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_COPIED = {"mp4": _MP4_CODECS, "mov": _MP4_CODECS - {"opus", "flac"} | _PCM}

# Containers with edit lists keep what a decoder needs before the first audible sample.
_WITH_EDIT_LISTS = frozenset({"mp4", "mov"})
_PREROLL = Fraction(1, 10)  # seconds; AAC needs 1024 samples, MP3 1105 and more, Opus 80 ms

# Gaps are filled and overlaps are cut from the same length on as in `audio.AudioReader`.
_FILL = "async=1:min_hard_comp=0.01"

_AAC_RATES = frozenset(  # Hz, ISO/IEC 14496-3 table 1.18
    {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000}
)
_AAC_FALLBACK_RATE = 48000
_AAC_BITS_PER_CHANNEL = 96_000  # bits per second: transparent for almost all material


class SourceSound:
    """Feeds the sound of `source` into an output, in step with its video.

    The packets are copied where players of the container expect their codec, else the sound is
    encoded as AAC. Either way it stays on the source's clock.

    Args:
        source: any file, or its sound that others read too.

    Attributes:
        exists: there is sound.
        start: container time of the first packet, seconds; 0 without sound.
        rate: samples per second; 1 without sound.
        copied: the packets are copied; known after `attach`.
    """

    def __init__(self, source: SoundSource) -> None:
        self.copied = False
        self._queue = queue_of(source)
        self.warnings = list(self._queue.file.notes)
        stream = self._queue.file.stream
        self.exists = stream is not None
        self.start, self.rate = Fraction(0), 1
        if stream is not None:
            self.rate = stream.codec_context.sample_rate
            if stream.start_time is not None:
                self.start = stream.start_time * Fraction(stream.time_base or 0)
        self._late = self.rate == 0
        if self._late:
            self._find_beginning()
        self._packets: Generator[tuple[Fraction, Packet], None, None] | None = None
        self._next: tuple[Fraction, Packet] | None = None

    def _find_beginning(self) -> None:
        """Learn from the first frame what FFmpeg did not: it looks only at a file's beginning."""
        try:
            first = self._queue.first_frame()
        except MediaError:
            first = None
        if first is None:
            self.warnings.append(
                f"{self._queue.file.path}: its sound cannot be decoded and is omitted"
            )
            self.exists, self.rate = False, 1
            return
        self.rate = first.sample_rate
        if first.pts is not None:
            self.start = first.pts * Fraction(first.time_base or 0)

    def attach(self, output: OutputContainer, kind: str, origin: Fraction) -> None:
        """Add the sound's stream to an output whose time 0 is `origin` on the source's clock."""
        if not self.exists:
            return
        self._output, self._origin = output, origin
        stream = self._queue.file.stream
        allowed = _COPIED.get(kind)
        players_expect = allowed is None or stream.codec_context.codec.canonical_name in allowed
        if players_expect and not self._late:
            try:
                target: Any = output.add_stream_from_template(stream)
            except (ValueError, FFmpegError):  # the container cannot hold this codec
                pass
            else:
                self.copied = True
                self._packets = self._copy(target, kind in _WITH_EDIT_LISTS)
        if self._packets is None:
            self._packets = self._encode()

    def mux_until(self, time: Fraction | None) -> None:
        """Write the packets that start before an output time; all that are left for None."""
        while self._packets is not None:
            if self._next is None:
                self._next = self._advance()
            if self._next is None or (time is not None and self._next[0] >= time):
                return
            self._output.mux(self._next[1])
            self._next = None

    def close(self) -> None:
        """Free the source; may be called again."""
        if self._packets is not None:
            self._packets.close()
        self._queue.close()

    def _advance(self) -> tuple[Fraction, Packet] | None:
        assert self._packets is not None
        try:
            return next(self._packets, None)
        except MediaError as error:  # the pictures are still worth having
            self.warnings.append(f"{error}; the sound ends there")
            return None

    def _copy(
        self, target: Any, edit_lists: bool
    ) -> Generator[tuple[Fraction, Packet], None, None]:
        earliest = self._earliest(target.codec_context.codec.canonical_name, edit_lists)
        tick = Fraction(1, self.rate)  # AVI counts whole packets
        last: int | None = None
        for packet in self._queue.packets():
            if packet.pts is None or packet.dts is None:
                continue  # the flush
            time = packet.pts * packet.time_base - self._origin
            decoding = round((packet.dts * packet.time_base - self._origin) / tick)
            if time < earliest or (last is not None and decoding <= last):
                continue  # before the beginning; muxers refuse times that go back
            last = packet.dts = decoding
            packet.pts = round(time / tick)
            packet.duration = round((packet.duration or 0) * packet.time_base / tick)
            packet.time_base, packet.stream = tick, target
            yield time, packet

    def _earliest(self, codec: str, edit_lists: bool) -> Fraction:
        """From when on packets are kept, seconds; those before 0 only prepare the decoder."""
        # Matroska has a field for that, which is copied; Opus' is in its own header.
        same = self._queue.file.format == MATROSKA and self._origin == 0
        unprepared = codec in _PCM or not (edit_lists or same or codec == "opus")
        return Fraction(0) if unprepared else -_PREROLL

    def _encode(self) -> Generator[tuple[Fraction, Packet], None, None]:
        file_channels = self._queue.file.channels
        channels = 2 if self._late else min(2, len(file_channels))
        rate = self.rate if self.rate in _AAC_RATES else _AAC_FALLBACK_RATE
        target: Any = self._output.add_stream("aac", rate=rate)
        target.layout = layout = "mono" if channels == 1 else "stereo"
        target.bit_rate = _AAC_BITS_PER_CHANNEL * channels
        origin = round(self._origin * rate)
        frames = _leveled(self._queue.frames(), file_channels, rate, layout, origin)
        return self._encoded(target, frames, origin)

    def _encoded(
        self, target: Any, frames: Iterator[Any], origin: int
    ) -> Generator[tuple[Fraction, Packet], None, None]:
        for frame in frames:
            frame.pts -= origin
            for packet in target.encode(frame):
                yield packet.pts * packet.time_base, packet
        for packet in target.encode(None):
            yield packet.pts * packet.time_base, packet


def _leveled(
    decoded: Iterator[AudioFrame], channels: tuple[str, ...], rate: int, layout: str, origin: int
) -> Iterator[AudioFrame]:
    """Frames of one format without gaps, from the sample `origin` on."""
    wanted = f"sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}"
    graph: Graph | None = None
    shape: tuple[int, str, str] | None = None
    for frame in _timed(decoded, Fraction(origin, rate)):
        if shape != (frame.sample_rate, frame.format.name, frame.layout.name):
            if graph is not None:
                yield from _pulled(graph, None)
            first = f":first_pts={origin}" if graph is None else ""
            graph = _graph(frame, channels, f"{_FILL}{first}", wanted)
            shape = (frame.sample_rate, frame.format.name, frame.layout.name)
        assert graph is not None
        yield from _pulled(graph, frame)
    if graph is not None:
        yield from _pulled(graph, None)


def _timed(decoded: Iterator[AudioFrame], start: Fraction) -> Iterator[AudioFrame]:
    """Frames that all have a time; one without, as a flush gives, follows the one before."""
    end, unit = start, None
    for frame in decoded:
        unit = frame.time_base or unit or Fraction(1, frame.sample_rate)
        if frame.pts is None:
            frame.pts, frame.time_base = round(end / unit), unit
        end = frame.pts * unit + Fraction(frame.samples, frame.sample_rate)
        yield frame


def _graph(frame: AudioFrame, channels: tuple[str, ...], resampling: str, wanted: str) -> Graph:
    """Resample and mix down frames like this one, as FFmpeg does where it can."""
    *mixes, last = mixings(frame.layout, channels)
    for mix in mixes:
        with suppress(FFmpegError):  # it knows no mix of these channels
            return _linked(frame, [*mix, ("aresample", resampling), ("aformat", wanted)])
    return _linked(frame, [*last, ("aresample", resampling), ("aformat", wanted)])


def _linked(frame: AudioFrame, filters: list[tuple[str, str]]) -> Graph:
    graph = Graph()
    source = graph.add_abuffer(
        sample_rate=frame.sample_rate,
        format=frame.format.name,
        layout=frame.layout.name,
        time_base=frame.time_base,
    )
    nodes = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(source, *nodes, graph.add("abuffersink")).configure()
    return graph


def _pulled(graph: Graph, frame: AudioFrame | None) -> Iterator[Any]:
    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (BlockingIOError, EOFError):  # it wants more input, or it is flushed
            return
