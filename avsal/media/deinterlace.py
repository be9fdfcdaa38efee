"""Deinterlacing of frames that are flagged as interlaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from av.error import FFmpegError
from av.filter import Graph

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.video.frame import VideoFrame

_ARGUMENTS = "mode=send_frame:deint=interlaced"  # one frame out for one in, flagged ones only


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
