"""What comes in and goes out as media files. The only part of avsal that imports PyAV."""

from __future__ import annotations

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
