"""The encoders that a network can be built from, as data.

Each row names the module and the function that makes the encoder; the module is imported when the
encoder is built, so a network costs only its own imports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from avsal.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

Row = TypeVar("Row")

WINDOW_FRAMES = 16
DECODER_FRAMES = 4  # temporal size at which the decoder works


def _build(module: str, maker: str, *settings: int) -> nn.Module:
    """Import `avsal.models.encoders.<module>` and call its `maker`."""
    encoder: nn.Module = getattr(import_module(f"{__name__}.{module}"), maker)(*settings)
    return encoder


@dataclass(frozen=True)
class MotionSpec:
    """A motion encoder: clip (B, 3, T, H, W) -> (v1, v2, v3, v4), spatial strides 4, 8, 16, 32.

    channels and temporal_sizes describe v1..v4, for T = 16 unless `frames` says otherwise; an
    encoder that gives less than four leaves out the finest. fixed_size is the only (H, W) that
    the encoder accepts, or None where every multiple of 32 works. One that `mixes` is given the
    image branch's features of the frames, each (B, T, C, h, w), in place of the clip.
    """

    build: Callable[[], nn.Module]
    channels: tuple[int, ...]
    temporal_sizes: tuple[int, ...]
    fixed_size: tuple[int, int] | None = None
    frames: int = WINDOW_FRAMES
    mixes: bool = False

    @property
    def lateral_strides(self) -> tuple[int, ...]:
        """Temporal stride of the T-convolution of latlayer_0..3; 1 means that it has none."""
        return tuple(size // DECODER_FRAMES for size in self.temporal_sizes)


@dataclass(frozen=True)
class ImageSpec:
    """An image encoder: frames (N, 3, H, W) -> features at strides 16 and 32, `channels` deep."""

    build: Callable[[], nn.Module]
    channels: tuple[int, int]


@dataclass(frozen=True)
class AudioSpec:
    """An audio encoder: spectrogram (B, 1, 257, 111) -> (B, expansion * width, 9, 4).

    `build` takes the width, the channels of the first stage.
    """

    build: Callable[[int], nn.Module]
    expansion: int


MOTION: dict[str, MotionSpec] = {
    "mvitv2s": MotionSpec(partial(_build, "mvitv2", "mvitv2_s"), (96, 192, 384, 768), (8, 8, 8, 8)),
    "s3d": MotionSpec(partial(_build, "s3d", "s3d"), (192, 480, 832, 1024), (8, 8, 4, 4)),
    "x3dl": MotionSpec(partial(_build, "x3d", "x3d_l"), (24, 48, 96, 192), (16, 16, 16, 16)),
    "x3ds": MotionSpec(partial(_build, "x3d", "x3d_s"), (24, 48, 96, 192), (16, 16, 16, 16)),
    "slowfast4x16": MotionSpec(
        partial(_build, "slowfast", "slowfast_4x16"), (320, 640, 1280, 2048), (4, 4, 4, 4)
    ),
    "morphmlps": MotionSpec(
        partial(_build, "morphmlp", "morphmlp_s"), (112, 224, 392, 784), (8, 8, 8, 8), (224, 224)
    ),
    "uniformerb": MotionSpec(
        partial(_build, "uniformer", "uniformer_b"), (64, 128, 320, 512), (8, 8, 8, 8)
    ),
    "videoswins": MotionSpec(
        partial(_build, "videoswin", "videoswin_s"), (96, 192, 384, 768), (8, 8, 8, 8)
    ),
    "recurrent": MotionSpec(
        partial(_build, "recurrent", "Recurrence"), (32, 256, 288), (1, 1, 1), frames=4, mixes=True
    ),
}

IMAGE: dict[str, ImageSpec] = {
    "convnext_t": ImageSpec(partial(_build, "convnext", "convnext_t"), (384, 768)),
    "mobilenet_v2": ImageSpec(partial(_build, "mobilenetv2", "mobilenet_v2"), (96, 320)),
}

AUDIO: dict[str, AudioSpec] = {"resnet18": AudioSpec(partial(_build, "resnet", "ResNet18"), 8)}


def find(table: Mapping[str, Row], kind: str, name: str) -> Row:
    """Look up a row of one of these tables; `kind` tells people what it is.

    Raises UsageError, which names the rows that there are.
    """
    if name not in table:
        raise UsageError(f"no {kind} called {name!r}; there are {', '.join(table)}")
    return table[name]
