"""Reading and writing media files. Only this package imports PyAV.

Importing it imports neither PyAV nor OpenCV: its names are imported when they are first used. The
modules `frames` and `resample` need neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avsal.names import names_from

if TYPE_CHECKING:
    from avsal.media.audio import AudioReader as AudioReader
    from avsal.media.container import VideoInfo as VideoInfo
    from avsal.media.container import library_version as library_version
    from avsal.media.frames import VideoFrame as VideoFrame
    from avsal.media.source import is_address as is_address
    from avsal.media.video import VideoReader as VideoReader
    from avsal.media.video import probe as probe
    from avsal.media.writer import VideoWriter as VideoWriter

__getattr__ = names_from(
    __name__,
    {
        "audio": "AudioReader",
        "frames": "VideoFrame",
        "container": "VideoInfo library_version",
        "source": "is_address",
        "video": "VideoReader probe",
        "writer": "VideoWriter",
    },
)
