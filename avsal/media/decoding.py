"""Demuxing and decoding of one stream, past damaged packets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError

from avsal.errors import MediaError
from avsal.media.source import Source

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

# A file is given up once this many packets are damaged and they outnumber the good ones.
MIN_DAMAGED = 100
_MAX_READ_ERRORS = 10  # in a row; FFmpeg finds the next packet after most of them


class Decoder:
    """Frames of one stream in decoding order of their output, in constant memory.

    Attributes:
        skipped: damaged packets so far.
        decoded: frames so far.
        broken_off: reading stopped at damage before the end of the file.
    """

    def __init__(self, path: Source, container: InputContainer, stream: Any) -> None:
        self.path = path
        self.skipped = 0
        self.decoded = 0
        self.broken_off = False
        self._container: Any = container
        self._stream = stream

    def packets(self) -> Iterator[Packet]:
        """Yield the packets of the stream, the last one empty: it flushes the decoder."""
        errors = 0
        packets = self._container.demux(self._stream)
        while errors < _MAX_READ_ERRORS:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (FFmpegError, IndexError):  # the generator is spent, the container is not
                errors += 1
                self._skip()
                packets = self._container.demux(self._stream)
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

    def _skip(self) -> None:
        self.skipped += 1
        if self.skipped >= MIN_DAMAGED and self.skipped > self.decoded:
            raise MediaError(
                f"{self.path}: too damaged, {self.skipped} packets cannot be decoded and only "
                f"{self.decoded} frames can; get the file again"
            )


def count_frames(decoder: Decoder, first: Fraction, until: Fraction) -> int:
    """Count the frames with first <= time < until (container clock, seconds) without decoding.

    The container stands before the first of them. Exact where one packet is one frame and the
    container stores presentation times.
    """
    count = 0
    for packet in decoder.packets():
        if packet.pts is None or packet.is_discard:  # the flush; cut away by an edit list
            continue
        if packet.dts is not None and packet.dts * packet.time_base >= until:
            break  # later packets are shown later still
        count += first <= packet.pts * packet.time_base < until
    return count
