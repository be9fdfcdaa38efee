"""Settings that travel through the pipeline, and the words that the command line accepts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from avsal.errors import UsageError

FORMATS = ("png", "png16", "npy", "video")
SCALES = ("frame", "clip", "probability")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")


def exact_seconds(seconds: float) -> Fraction:
    """The decimal number that a person wrote: 0.04 is 1/25, not the nearest binary fraction."""
    return Fraction(str(seconds))


@dataclass(frozen=True)
class MapSize:
    """Size of the maps that are given out: the video's display size unless told otherwise."""

    kind: str = "video"  # "video", "model" or "fixed"
    width: int = 0  # pixels, for "fixed"
    height: int = 0

    @classmethod
    def parse(cls, text: str) -> MapSize:
        """Read "video", "model" or "WIDTHxHEIGHT".

        Raises:
            UsageError: the text is none of these.
        """
        if text in ("video", "model"):
            return cls(text)
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
        if match is None:
            raise UsageError(f"size {text}: give video, model or WIDTHxHEIGHT such as 640x480")
        return cls("fixed", int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}" if self.kind == "fixed" else self.kind


@dataclass(frozen=True)
class PredictSettings:
    """What decides the maps of a video, besides the network and its weights.

    Attributes:
        audio_context: frames of sound that belong to a window, 32 (published inference) or 16
            (training).
        stride: every how many frames the network runs; between them log-densities are interpolated.
            None takes the network's own, 1 for the published ones and 2 for the small one.
        batch: windows in one forward pass; None lets the device's memory decide.
        start: first second to predict, None for the beginning.
        end: second before which to stop, None for the end.
        size: size of the maps.
    """

    audio_context: int = 32
    stride: int | None = None
    batch: int | None = None
    start: float | None = None
    end: float | None = None
    size: MapSize = MapSize()

    def __post_init__(self) -> None:
        if self.audio_context not in (16, 32):
            raise UsageError(f"audio-context {self.audio_context}: give 32 or 16")
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"stride {self.stride}: give 1 or more")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch {self.batch}: give 1 or more")
        if self.start is not None and self.start < 0:
            raise UsageError(f"start {self.start}: give 0 or more seconds")
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError(f"end {self.end}: give a second after start")


@dataclass(frozen=True)
class OutputSettings:
    """How maps are written.

    Attributes:
        format: "png" (8 bit), "png16", "npy" (float32 densities) or "video" (8-bit gray MP4).
        scale: what 0 and the highest level stand for, see `avsal.results.formats`.
    """

    format: str = "png"
    scale: str = "frame"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"format {self.format}: give one of {', '.join(FORMATS)}")
        if self.scale not in SCALES:
            raise UsageError(f"scale {self.scale}: give one of {', '.join(SCALES)}")
