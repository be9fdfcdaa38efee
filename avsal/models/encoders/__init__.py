"""The encoders that a network can be built from.

Each row names the module and the class of an encoder. The module is imported when the encoder is
built, so a network imports only its own encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from avsal.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

Row = TypeVar("Row")

DECODER_FRAMES = 4  # temporal size at which the decoder works


def _build(module: str, name: str, **settings: Any) -> nn.Module:
    """Import `avsal.models.encoders.<module>` and make an encoder of its class `name`."""
    return getattr(import_module(f"{__name__}.{module}"), name)(**settings)


@dataclass(frozen=True)
class MotionSpec:
    """A motion encoder: clip (B, 3, T, H, W) -> (v1, v2, v3, v4), spatial strides 4, 8, 16, 32.

    T is 16. `channels` and `temporal_sizes` describe v1..v4. `fixed_size` is the only (H, W) that
    the encoder accepts; None means every multiple of 32.
    """

    build: Callable[[], nn.Module]
    channels: tuple[int, ...]
    temporal_sizes: tuple[int, ...]
    fixed_size: tuple[int, int] | None = None

    @property
    def lateral_strides(self) -> tuple[int, ...]:
        """Temporal stride of the T-convolution of latlayer_0..3; 1 means that it has none."""
        return tuple(size // DECODER_FRAMES for size in self.temporal_sizes)


@dataclass(frozen=True)
class ImageSpec:
    """An image encoder: frames (N, 3, H, W) -> features at strides 16 and 32, `channels` deep."""

    build: Callable[[], nn.Module]
    channels: tuple[int, int]


MOTION: dict[str, MotionSpec] = {
    "mvitv2s": MotionSpec(partial(_build, "mvitv2", "MViTv2"), (96, 192, 384, 768), (8, 8, 8, 8)),
    "s3d": MotionSpec(partial(_build, "s3d", "S3D"), (192, 480, 832, 1024), (8, 8, 4, 4)),
    "x3dl": MotionSpec(
        partial(_build, "x3d", "X3D", depth=5.0), (24, 48, 96, 192), (16, 16, 16, 16)
    ),
    "slowfast4x16": MotionSpec(
        partial(_build, "slowfast", "SlowFast"), (320, 640, 1280, 2048), (4, 4, 4, 4)
    ),
    "morphmlps": MotionSpec(
        partial(_build, "morphmlp", "MorphMLP"), (112, 224, 392, 784), (8, 8, 8, 8), (224, 224)
    ),
    "uniformerb": MotionSpec(
        partial(_build, "uniformer", "UniFormer"), (64, 128, 320, 512), (8, 8, 8, 8)
    ),
    "videoswins": MotionSpec(
        partial(_build, "videoswin", "VideoSwin"), (96, 192, 384, 768), (8, 8, 8, 8)
    ),
}

IMAGE: dict[str, ImageSpec] = {
    "convnext_t": ImageSpec(partial(_build, "convnext", "ConvNeXtTiny"), (384, 768)),
    "mobilenet_v2": ImageSpec(partial(_build, "mobilenetv2", "MobileNetV2"), (96, 320)),
}


def find(table: Mapping[str, Row], kind: str, name: str) -> Row:
    """Look up a row of one of these tables; `kind` is its name in messages.

    Raises UsageError, which lists the rows, for an unknown name.
    """
    if name not in table:
        raise UsageError(f"no {kind} called {name!r}; there are {', '.join(table)}")
    return table[name]
