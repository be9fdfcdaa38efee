"""Frames to an animated GIF or WebP: short pictures for pages and chats, without sound."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.filter import Graph

from avsal.atomic import new_file
from avsal.errors import MediaError
from avsal.media.suffixes import ANIMATIONS
from avsal.media.writer import encoding_errors

_LONGEST_SIDE = 16_383  # pixels, of WebP; GIF may be longer
_WEBP_QUALITY = "75"  # 0 to 100, as libwebp's default
_TICK = {"gif": Fraction(1, 100), "webp": Fraction(1, 1000)}  # seconds in which times are stored
_RIFF, _CHUNK = 12, 8  # bytes of headers in WebP: of the file, and of each chunk
_DURATION, _DURATION_BYTES = 12, 3  # where a frame's chunk has its milliseconds, little-endian
# An ordered pattern stays where it is from frame to frame, so that still parts cost nothing.
_DITHER = "dither=bayer:bayer_scale=4:diff_mode=rectangle"


@contextmanager
def new_animation(path: Path, width: int, height: int) -> Iterator[Animation]:
    """Write an animation that loops forever; it appears once the block ends without an error.

    Args:
        path: its suffix, .gif or .webp, chooses the format.
        width, height: pixels of its frames.

    Raises:
        MediaError: no frame was written, the frames are too large, or the encoder is missing.
        OutputError: the file cannot be written.
    """
    if max(width, height) > _LONGEST_SIDE:
        raise MediaError(f"{path}: frames of {width}x{height} are too large; give a smaller width")
    kind = ANIMATIONS[path.suffix.lower()]
    with (
        new_file(path) as partial,
        encoding_errors(path),
        tempfile.TemporaryFile(dir=path.parent) as waiting,
        av.open(f"file:{partial}", "w", format=kind, options={"loop": "0"}) as container,
    ):
        animation: Animation
        if kind == "gif":
            animation = _Gif(container, width, height, waiting)
        else:
            animation = _WebP(container, width, height)
        yield animation
        if animation.empty:
            raise MediaError(f"{path}: no frame to write")
        animation.finish()


class Animation:
    """Takes frames with their times.

    Attributes:
        empty: there was no frame yet.
    """

    codec: str
    pixels: str
    options: dict[str, str]

    def __init__(self, container: Any, width: int, height: int) -> None:
        self.empty = True
        self._container = container
        self._tick = _TICK[container.format.name]
        self._origin = Fraction(0)
        try:
            self._stream: Any = container.add_stream(self.codec, rate=25, options=self.options)
        except ValueError:
            raise MediaError(
                f"this FFmpeg build has no encoder {self.codec}; reinstall PyAV from its wheels or "
                "write .mp4"
            ) from None
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = self.pixels
        self._stream.time_base = self._stream.codec_context.time_base = self._tick

    def write(self, image: np.ndarray, pts: Fraction, duration: Fraction) -> None:
        """Add a frame.

        Args:
            image: uint8 (H, W, 3) RGB.
            pts: seconds on any clock, where the frame before ends.
            duration: seconds.
        """
        if self.empty:
            self.empty, self._origin = False, pts
        start, end = (round((time - self._origin) / self._tick) for time in (pts, pts + duration))
        self._add(np.ascontiguousarray(image), start, max(1, end - start))

    def finish(self) -> None:
        """Write what the encoder still has."""
        self._encode(None, 0)

    def _add(self, image: np.ndarray, start: int, duration: int) -> None:
        """Take a frame with its time in ticks."""
        raise NotImplementedError

    def _frame(self, image: np.ndarray, start: int, duration: int) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base, frame.duration = start, self._tick, duration
        return frame

    def _encode(self, frame: Any, duration: int) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = packet.duration or duration
            self._container.mux(packet)


class _WebP(Animation):
    """Encodes frames as they come."""

    codec, pixels, options = "libwebp_anim", "bgra", {"quality": _WEBP_QUALITY}

    def _add(self, image: np.ndarray, start: int, duration: int) -> None:
        self._end = start + duration
        self._encode(self._frame(image, start, duration), duration)

    def finish(self) -> None:
        """Write the animation, which is one packet."""
        for packet in self._stream.encode(None):
            ended = av.Packet(_ended(bytes(packet), self._end))
            ended.stream, ended.pts, ended.dts = self._stream, packet.pts, packet.dts
            ended.time_base = packet.time_base
            self._container.mux(ended)


def _ended(webp: bytes, end: int) -> bytes:
    """Show the last frame until `end`, in milliseconds; libwebp takes the mean time of the others.

    The chunks are those of https://developers.google.com/speed/webp/docs/riff_container.
    """
    data, position, durations = bytearray(webp), _RIFF, []
    while position + _CHUNK <= len(data):
        content = position + _CHUNK
        if data[position : position + 4] == b"ANMF":
            durations.append(slice(content + _DURATION, content + _DURATION + _DURATION_BYTES))
        size = int.from_bytes(data[position + 4 : content], "little")
        position = content + size + size % 2
    if durations:
        start = sum(int.from_bytes(data[place], "little") for place in durations[:-1])
        duration = min(max(1, end - start), 2 ** (8 * _DURATION_BYTES) - 1)
        data[durations[-1]] = duration.to_bytes(_DURATION_BYTES, "little")
    return bytes(data)


class _Gif(Animation):
    """Encodes frames once all are known, because they share a palette of 256 colours.

    Args:
        waiting: a temporary file for the frames until then.
    """

    codec, pixels, options = "gif", "pal8", {}

    def __init__(self, container: Any, width: int, height: int, waiting: IO[bytes]) -> None:
        super().__init__(container, width, height)
        self._shape = height, width, 3
        self._times: list[tuple[int, int]] = []
        self._waiting = waiting
        self._graph = graph = Graph()  # its nodes do not keep it alive
        self._seen, self._palette = self._buffer(graph), graph.add("buffersink")
        graph.link_nodes(self._seen, graph.add("palettegen"), self._palette).configure()

    def _buffer(self, graph: Graph, pixels: str = "rgb24", size: Any = None) -> Any:
        width, height = size or self._shape[1::-1]
        return graph.add_buffer(
            width=width, height=height, format=av.VideoFormat(pixels), time_base=self._tick
        )

    def _add(self, image: np.ndarray, start: int, duration: int) -> None:
        self._seen.push(self._frame(image, start, duration))
        self._waiting.write(image.data)
        self._times.append((start, duration))

    def finish(self) -> None:
        """Encode all frames."""
        self._seen.push(None)
        palette: Any = self._palette.pull()
        graph = Graph()
        frames = self._buffer(graph)
        colours = self._buffer(graph, palette.format.name, (palette.width, palette.height))
        mapping, sink = graph.add("paletteuse", _DITHER), graph.add("buffersink")
        frames.link_to(mapping, 0, 0)
        colours.link_to(mapping, 0, 1)
        mapping.link_to(sink)
        graph.configure()
        colours.push(palette)
        colours.push(None)
        self._waiting.seek(0)
        for start, duration in self._times:
            data = self._waiting.read(math.prod(self._shape))
            image = np.frombuffer(data, np.uint8).reshape(self._shape)
            frames.push(self._frame(image, start, duration))
            self._encode(sink.pull(), duration)
        super().finish()
