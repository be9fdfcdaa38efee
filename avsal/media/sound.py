"""Reading the packets and frames of a file's sound for several readers at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from avsal.errors import MediaError
from avsal.media.container import choose_audio, choose_video, open_input
from avsal.media.decoding import Decoder
from avsal.media.source import as_source

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.layout import AudioLayout
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.video.stream import VideoStream

    # A packet, or None when the decoder is flushed; and its frames, or why there are no more.
    Read = tuple[Packet | None, list[AudioFrame] | MediaError]
    SoundSource: TypeAlias = "str | os.PathLike[str] | SoundFile"

# If a layout has no name, FFmpeg lists its channels, as in "3 channels (FR+FL+FC)".
_LISTED = " ("
_UNKNOWN = "NONE"  # FFmpeg's name for an unknown channel


def detach_layout(stream: AudioStream) -> tuple[str, ...]:
    """Give a stream a layout that PyAV can free, before decoding, and return its channels.

    A custom channel order is a list in memory. PyAV 18 copies the pointer to it whenever a layout
    is read, and for every frame, and frees it each time, so that the process aborts. This function
    therefore removes the list from the codec context.

    Returns:
        FFmpeg's name of each channel, in the order of the file, for example "FL", "LFE", "AMBI0" or
        "NONE"; empty if the header has no channels.
    """
    context = stream.codec_context
    layout = context.layout
    if layout.nb_channels:
        named = _LISTED not in layout.name
        context.layout = layout.name if named else unnamed_layout(layout.nb_channels)
    return tuple(channel.name for channel in layout.channels)


def unnamed_layout(channels: int) -> str:
    """Return FFmpeg's name for a number of unknown channels."""
    return f"{channels} channels"


def mixings(layout: AudioLayout, channels: tuple[str, ...]) -> Iterator[list[tuple[str, str]]]:
    """Yield lists of filters that prepare a frame for mixing down, the best first.

    Args:
        layout: the frame's layout.
        channels: the file's channels, as returned by `detach_layout`.
    """
    unnamed = layout.name == unnamed_layout(layout.nb_channels)
    if unnamed and layout.nb_channels == len(channels) and _UNKNOWN not in channels:
        order = "|".join(f"{index}-{name}" for index, name in enumerate(channels))
        yield [("channelmap", order)]
    yield []
    # FFmpeg cannot mix down ambisonics, or numbers of channels without a standard layout.
    mean = "+".join(f"{1 / layout.nb_channels}*c{index}" for index in range(layout.nb_channels))
    yield [("pan", f"mono|c0={mean}")]


class SoundFile:
    """The best audio stream of a file, read once; each `SoundQueue` gets all of it.

    What one queue has read is stored for the others, so they should read at the same pace. Closing
    the last queue closes the file.

    Args:
        path: any file, or an http(s) address.

    Attributes:
        format: FFmpeg's name of the container.
        stream: PyAV's stream; None without sound.
        channels: FFmpeg's names of the channels in order; empty if the header has none.
        notes: warnings for the user, one line each, known from the beginning.

    Raises:
        MediaError: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_source(path)
        self._queues: list[SoundQueue] = []
        self._container = open_input(self.path)
        self.format = self._container.format.name
        self.stream: Any = choose_audio(self._container)
        self.channels = () if self.stream is None else detach_layout(self.stream)
        self.notes = self._other_tracks()
        self._decoder = Decoder(self.path, self._container, self.stream, self._pictures())
        self._reads = self._read()
        self._undecodable: MediaError | None = None
        self._broken: MediaError | None = None

    def _other_tracks(self) -> list[str]:
        tracks = self._container.streams.audio
        if self.stream is None or len(tracks) < 2:
            return []
        number = 1 + [track.index for track in tracks].index(self.stream.index)
        language = self.stream.metadata.get("language", "und")
        named = "" if language == "und" else f" ({language})"
        return [f"{self.path}: has {len(tracks)} sound tracks; only track {number}{named} is used"]

    def _pictures(self) -> VideoStream | None:
        with suppress(MediaError):
            return choose_video(self._container, self.path)
        return None

    @property
    def skipped(self) -> int:
        """Number of damaged packets so far."""
        return self._decoder.skipped

    def queue(self) -> SoundQueue:
        """Add a reader, which begins where the slowest reader is."""
        queue = SoundQueue(self)
        behind = max(self._queues, key=lambda other: len(other.waiting), default=queue)
        queue.waiting.extend(behind.waiting)
        self._queues.append(queue)
        return queue

    def remove(self, queue: SoundQueue) -> None:
        """Remove a reader; removing the last one closes the file."""
        if queue in self._queues:
            self._queues.remove(queue)
        if not self._queues:
            self.close()

    def leave_out(self, before: Fraction, reader: SoundQueue) -> None:
        """Store nothing before a container time for the readers other than `reader`."""
        for queue in self._queues:
            if queue is not reader:
                queue.leave_out(before)

    def advance(self) -> bool:
        """Add another packet to every queue; False at the end.

        Raises:
            MediaError: the remaining packets cannot be read.
        """
        if self._broken is not None:
            raise self._broken
        try:
            read = next(self._reads, None)
        except MediaError as error:
            self._broken = error
            raise
        if read is None:
            return False
        for queue in self._queues:
            queue.add(read)
        return True

    def close(self) -> None:
        """Free the decoder and the file; may be called again."""
        self._reads.close()
        self._container.close()
        self._decoder.close()
        self.stream = None  # the last reference: ends the codec's threads

    def _read(self) -> Generator[Read, None, None]:
        for packet in self._decoder.packets():
            # Decoded first, because writing a packet changes its times, which its frames copy.
            yield packet, self._decoded(packet)
        if self._decoder.broken_off:
            yield None, self._decoded(None)

    def _decoded(self, packet: Packet | None) -> list[AudioFrame] | MediaError:
        if self._undecodable is None and any(queue.decoding for queue in self._queues):
            try:
                return self._decoder.decode(packet)
            except MediaError as error:
                self._undecodable = error
        return self._undecodable or []


class SoundQueue:
    """One reader of the frames or the packets of a `SoundFile`.

    Attributes:
        file: the file.
        waiting: what was read for other queues and not yet for this one.
        decoding: whether this reader needs frames.
    """

    def __init__(self, file: SoundFile) -> None:
        self.file = file
        self.waiting: deque[Read] = deque()
        self.decoding = True
        self._start: Fraction | None = None

    def add(self, read: Read) -> None:
        """Store a packet and its frames until they are read."""
        packet, _frames = read
        time = None if packet is None or packet.pts is None else packet.pts * packet.time_base
        if self._start is None or time is None or time >= self._start:
            self.waiting.append(read)

    def leave_out(self, before: Fraction) -> None:
        """Store nothing before a container time."""
        self._start = before
        waiting, self.waiting = self.waiting, deque()
        for read in waiting:
            self.add(read)

    def frames(self) -> Iterator[AudioFrame]:
        """Yield every frame that can be decoded.

        Raises:
            MediaError: most of the stream is damaged, or memory is exhausted.
        """
        for _packet, frames in self._reads():
            if isinstance(frames, MediaError):
                raise frames
            yield from frames

    def packets(self) -> Iterator[Packet]:
        """Yield every packet, the last one empty; this reader then needs no frames.

        Raises:
            MediaError: most of the stream is damaged.
        """
        self.decoding = False
        self.waiting = deque((packet, []) for packet, _frames in self.waiting)
        for packet, _frames in self._reads():
            if packet is not None:
                yield packet

    def first_frame(self) -> AudioFrame | None:
        """Return the next frame without removing it; None if there is none.

        Raises:
            MediaError: see `frames`.
        """
        index = 0
        while index < len(self.waiting) or self.file.advance():
            frames = self.waiting[index][1]
            if isinstance(frames, MediaError):
                raise frames
            if frames:
                return frames[0]
            index += 1
        return None

    def close(self) -> None:
        """Stop reading; may be called again."""
        self.waiting.clear()
        self.file.remove(self)

    def _reads(self) -> Iterator[Read]:
        while self.waiting or self.file.advance():
            yield self.waiting.popleft()


def queue_of(source: SoundSource) -> SoundQueue:
    """Open a file for one reader, or add a reader to an open file.

    Raises:
        MediaError: the file cannot be opened.
    """
    file = source if isinstance(source, SoundFile) else SoundFile(source)
    return file.queue()
