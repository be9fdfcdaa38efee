"""The reading side: decoded frames to what the network needs of them, in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from avsal.media.frames import FrameTag, VideoFrame, tag_of
from avsal.prediction.threads import run_ahead
from avsal.preprocess.frames import resize_frame

if TYPE_CHECKING:
    from avsal.shots import ShotFinder

MOST_AHEAD = 64  # small frames that may wait for the network

SmallFrame = tuple[FrameTag, torch.Tensor]  # the frame's place, and uint8 (3, h, w)


def read_ahead(
    frames: Iterable[VideoFrame],
    origin: Fraction,
    size: tuple[int, int],
    depth: int,
    finder: ShotFinder | None = None,
) -> Generator[SmallFrame, None, None]:
    """Give each frame's tag and its pixels at the network's size, decoded in a thread.

    Args:
        frames: in order; used by the thread alone until this generator ends or is closed.
        origin: container time of the video's first frame, seconds.
        size: (height, width).
        depth: how many frames the thread may be ahead, bounded by `MOST_AHEAD`.
        finder: is given every frame, and knows of those that are handed over whether a cut lies
            before them.
    """

    def small() -> Generator[SmallFrame, None, None]:
        waiting: deque[SmallFrame] = deque()
        for frame in frames:
            pixels = resize_frame(frame.image, size)
            waiting.append((tag_of(frame, origin), pixels))
            if finder is not None:
                finder.add(frame.index, frame.pts, pixels.permute(1, 2, 0).numpy())
            if finder is None or len(waiting) > finder.look_ahead:
                yield waiting.popleft()
        yield from waiting

    return run_ahead(small, min(depth, MOST_AHEAD))
