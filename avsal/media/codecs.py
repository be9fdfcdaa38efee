"""Which encoder of this FFmpeg build writes videos, and how quality is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
from av.error import FFmpegError

from avsal.errors import MediaError

_MPEG4_MAX_CLOCK = 65_535  # ISO/IEC 14496-2: vop_time_increment_resolution has 16 bits
MAX_CLOCK = 2**24  # ticks per second; finer ones overflow 32 bit fields within minutes

# In order of preference. Some builds lack libx264 (PyAV issue 1483).
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")


@dataclass(frozen=True)
class Encoder:
    """An encoder and its settings.

    Attributes:
        name: FFmpeg's name of it.
        options: its settings.
        max_clock: the finest clock that it takes, ticks per second.
        note: what a person should know about the choice, "" for nothing.
    """

    name: str
    options: tuple[tuple[str, str], ...]
    max_clock: int = MAX_CLOCK
    note: str = ""


def choose_encoder(crf: int) -> Encoder:
    """Return the best encoder of this build.

    Raises:
        MediaError: there is none.
    """
    for name in ENCODERS:
        if _works(name):
            return _settings(name, crf)
    raise MediaError(
        f"this FFmpeg build has no encoder of {', '.join(ENCODERS)}; reinstall PyAV from its wheels"
    )


def _settings(name: str, crf: int) -> Encoder:
    if name == "libx264":
        # Beside a network the encoder should take little time. Without B-frames decoding order is
        # display order, and only then does MP4 store the duration of a variable rate rightly.
        return Encoder(name, (("crf", str(crf)), ("preset", "veryfast"), ("bf", "0")))
    if name == "mpeg4":
        # H.264's step doubles every 6 of its scale and is 1 about 12; MPEG-4 counts steps.
        step = str(min(31, max(1, round(2 ** ((crf - 12) / 6)))))
        options = (("qmin", step), ("qmax", step))
        note = "no H.264 encoder in this FFmpeg build, MPEG-4 is used"
        return Encoder(name, options, _MPEG4_MAX_CLOCK, note)
    note = f"no libx264 in this FFmpeg build, {name} is used and --crf is only approximate"
    return Encoder(name, (("qmin", str(max(1, crf))), ("qmax", str(max(1, crf)))), note=note)


@lru_cache
def _works(name: str) -> bool:
    """Tell whether an encoder is built in and opens (a hardware encoder may be built in only)."""
    try:
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt = 64, 64, "yuv420p"
        context.framerate = 25
        context.open()
    except (ValueError, FFmpegError):
        return False
    return True
