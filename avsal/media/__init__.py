"""What comes in and goes out as media files. The only part of avsal that imports PyAV.

Importing this package imports neither PyAV nor OpenCV; its names come on first use. `frames` and
`resample` need neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avsal.lazy import names_from

if TYPE_CHECKING:
    from avsal.media.audio import AudioReader as AudioReader
    from avsal.media.frames import VideoFrame as VideoFrame
    from avsal.media.info import VideoInfo as VideoInfo
    from avsal.media.info import library_version as library_version
    from avsal.media.source import is_address as is_address
    from avsal.media.video import VideoReader as VideoReader
    from avsal.media.video import probe as probe
    from avsal.media.writer import VideoWriter as VideoWriter

__getattr__ = names_from(
    __name__,
    {
        "AudioReader": "audio",
        "VideoFrame": "frames",
        "VideoInfo": "info",
        "library_version": "info",
        "is_address": "source",
        "VideoReader": "video",
        "probe": "video",
        "VideoWriter": "writer",
    },
)
