"""Copying or encoding the sound of a file into another container."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError
from av.filter import Graph

from avsal.errors import MediaError
from avsal.media.container import open_input
from avsal.media.decoding import filtered
from avsal.media.sound import mixings, queue_of
from avsal.media.source import MATROSKA

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import OutputContainer
    from av.packet import Packet

    from avsal.media.sound import SoundFile, SoundSource

# Codecs that players expect in a container; for Matroska, any that FFmpeg can write.
_PCM = frozenset({"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le"})
_MP4_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_WEBM_CODECS = frozenset({"opus", "vorbis"})
_COPIED = {
    "mp4": _MP4_CODECS,
    "mov": _MP4_CODECS - {"opus", "flac"} | _PCM,
    "webm": _WEBM_CODECS,
}

# Containers in which every packet of AAC has a header with its rate and channels, which may change.
_WITH_HEADERS = frozenset({"mpegts", "aac"})
_PROFILE_RATE_CHANNELS = 0xFDC0  # bits of the header's third and fourth byte

# Containers with edit lists can store packets that a decoder needs before the first audible sample.
_WITH_EDIT_LISTS = frozenset({"mp4", "mov"})
_LEAST_MP3_RATE = 16_000  # Hz; MP4 has no lower ones, and their packets need many before them
_PREROLL = Fraction(1, 10)  # seconds; AAC needs 1024 samples, MP3 1105 and more, Opus 80 ms

# Fills gaps and cuts overlaps above the same threshold as `audio.AudioReader`.
_FILL = "async=1:min_hard_comp=0.01"

_AAC_RATES = frozenset(  # Hz, ISO/IEC 14496-3 table 1.18
    {96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000}
)
_FALLBACK_RATE = 48000
_BITS_PER_CHANNEL = 96_000  # bits per second: transparent for almost all material
# Encoder by muxer, and the rates that it takes; 48 kHz is the only one at which Opus has all bands.
_ENCODERS = {"webm": ("libopus", frozenset({_FALLBACK_RATE}))}
_AAC = ("aac", _AAC_RATES)


class SourceSound:
    """Writes the sound of `source` to an output, in sync with the video.

    The packets are copied where players of the container expect their codec, else the sound is
    encoded as AAC, or as Opus in WebM. Either way it stays on the source's clock.

    Args:
        source: any file, or a `SoundFile` that others read too.

    Attributes:
        exists: whether there is sound.
        start: container time of the first packet, seconds; 0 without sound.
        rate: samples per second; 1 without sound.
        copied: whether the packets are copied; known after `attach`.
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
        """Take rate and start from the first frame; FFmpeg probes only the start of a file."""
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
        """Add the sound's stream to an output whose time 0 is `origin` on the source's clock.

        Raises:
            MediaError: the FFmpeg build lacks the encoder that it needs.
        """
        if not self.exists:
            return
        self._output, self._origin = output, origin
        stream = self._queue.file.stream
        allowed, codec = _COPIED.get(kind), stream.codec_context.codec.canonical_name
        players_expect = allowed is None or codec in allowed
        is_slow = codec == "mp3" and self.rate < _LEAST_MP3_RATE
        if players_expect and not (self._late or is_slow or _changes(self._queue.file)):
            try:
                target: Any = output.add_stream_from_template(stream)
            except (ValueError, FFmpegError):  # the container cannot hold this codec
                pass
            else:
                self.copied = True
                self._packets = self._copy(target, kind in _WITH_EDIT_LISTS)
        if self._packets is None:
            self._packets = self._encode(*_ENCODERS.get(kind, _AAC))

    def mux_until(self, time: Fraction | None) -> None:
        """Write the packets that start before an output time; None writes all remaining ones."""
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
        except MediaError as error:  # the pictures are still useful
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
                continue  # the flush packet
            time = packet.pts * packet.time_base - self._origin
            decoding = round((packet.dts * packet.time_base - self._origin) / tick)
            if time < earliest or (last is not None and decoding <= last):
                continue  # before the beginning, or a decreasing time, which muxers refuse
            last = packet.dts = decoding
            packet.pts = round(time / tick)
            packet.duration = round((packet.duration or 0) * packet.time_base / tick)
            packet.time_base, packet.stream = tick, target
            yield time, packet

    def _earliest(self, codec: str, edit_lists: bool) -> Fraction:
        """Return the time of the first packet to write; those before 0 prepare the decoder."""
        # Matroska has a field for them, which is copied; Opus has one in its header.
        same = self._queue.file.format == MATROSKA and self._origin == 0
        unprepared = codec in _PCM or not (edit_lists or same or codec == "opus")
        return Fraction(0) if unprepared else -_PREROLL

    def _encode(
        self, encoder: str, rates: frozenset[int]
    ) -> Generator[tuple[Fraction, Packet], None, None]:
        file_channels = self._queue.file.channels
        channels = 2 if self._late else min(2, len(file_channels))
        rate = self.rate if self.rate in rates else _FALLBACK_RATE
        try:
            target: Any = self._output.add_stream(encoder, rate=rate)
        except (ValueError, FFmpegError):
            raise MediaError(
                f"this FFmpeg build has no encoder {encoder} for the sound; reinstall PyAV from "
                "its wheels or write .mp4"
            ) from None
        target.layout = layout = "mono" if channels == 1 else "stereo"
        target.bit_rate = _BITS_PER_CHANNEL * channels
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


def _changes(file: SoundFile) -> bool:
    """Whether AAC changes its rate or channels midway, as where broadcasts are joined.

    Other containers have room for those of the beginning alone, so it cannot be copied.
    """
    if file.format not in _WITH_HEADERS or file.stream.codec_context.name != "aac":
        return False
    settings: int | None = None
    with suppress(FFmpegError), open_input(file.path) as container:
        for packet in container.demux(container.streams[file.stream.index]):
            before = settings
            if packet.size > 4:
                settings = int.from_bytes(bytes(packet)[2:4]) & _PROFILE_RATE_CHANNELS
            if before is not None and settings != before:
                return True
    return False


def _leveled(
    decoded: Iterator[AudioFrame], channels: tuple[str, ...], rate: int, layout: str, origin: int
) -> Iterator[AudioFrame]:
    """Yield frames of one format without gaps, from the sample `origin` on."""
    target = f"sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}"
    graph: Graph | None = None
    shape: tuple[int, str, str] | None = None
    end = origin

    def passed(graph: Graph, frame: AudioFrame | None) -> Iterator[AudioFrame]:
        nonlocal end
        for ready in filtered(graph, frame):
            end = ready.pts + ready.samples
            yield ready

    for frame in _timed(decoded, Fraction(origin, rate)):
        if shape != (frame.sample_rate, frame.format.name, frame.layout.name):
            if graph is not None:
                yield from passed(graph, None)
            # The next format continues where the last one ended, though its times may overlap.
            first = round(Fraction(end * frame.sample_rate, rate))  # in samples of the source
            graph = _graph(frame, channels, f"{_FILL}:first_pts={first}", target)
            shape = (frame.sample_rate, frame.format.name, frame.layout.name)
        assert graph is not None
        yield from passed(graph, frame)
    if graph is not None:
        yield from passed(graph, None)


def _timed(decoded: Iterator[AudioFrame], start: Fraction) -> Iterator[AudioFrame]:
    """Give every frame a time; a frame without one, as after a flush, follows the previous one."""
    end, unit = start, None
    for frame in decoded:
        unit = frame.time_base or unit or Fraction(1, frame.sample_rate)
        if frame.pts is None:
            frame.pts, frame.time_base = round(end / unit), unit
        end = frame.pts * unit + Fraction(frame.samples, frame.sample_rate)
        yield frame


def _graph(frame: AudioFrame, channels: tuple[str, ...], resampling: str, target: str) -> Graph:
    """Resample and mix down frames like this one, with FFmpeg's own mix if there is one."""
    *mixes, last = mixings(frame.layout, channels)
    for mix in mixes:
        with suppress(FFmpegError):  # FFmpeg has no mix for these channels
            return _linked(frame, [*mix, ("aresample", resampling), ("aformat", target)])
    return _linked(frame, [*last, ("aresample", resampling), ("aformat", target)])


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
