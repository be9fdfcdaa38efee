"""What comes in and goes out as media files. The only part of avsal that imports PyAV.

Importing this package imports neither PyAV nor OpenCV; its names come on first use. `frames` and
`resample` need neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avsal.media.audio import AudioReader
    from avsal.media.frames import VideoFrame
    from avsal.media.info import VideoInfo, library_version
    from avsal.media.source import is_address
    from avsal.media.video import VideoReader, probe
    from avsal.media.writer import VideoWriter

__all__ = [
    "AudioReader",
    "VideoFrame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "is_address",
    "library_version",
    "probe",
]

_HOMES = {
    "AudioReader": "audio",
    "VideoFrame": "frames",
    "VideoInfo": "info",
    "library_version": "info",
    "is_address": "source",
    "VideoReader": "video",
    "probe": "video",
    "VideoWriter": "writer",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avsal.media.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
