"""Which frames and which stretch of sound the network sees to predict a frame.

Index arithmetic alone: no pixels, no files. Frame times are in seconds, counted from the first
frame of the video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from avsal.media.resample import SAMPLE_RATE

CLIP_FRAMES = 16  # frames of a window (paper Section 4.3)
PAST_FRAMES = CLIP_FRAMES - 1  # a window ends at the frame that it predicts

# Frames of sound that belong to a window: the published inference uses 32, training used 16.
AUDIO_CONTEXTS = (32, 16)


@dataclass(frozen=True)
class Window:
    """The inputs of one forward pass.

    Attributes:
        target: index of the frame that is predicted.
        frames: the 16 frame indices in the order in which the network sees them.
        first: the earliest frame, where the window's sound starts.
        reverse: the window is played backwards, sound included.
    """

    target: int
    frames: tuple[int, ...]
    first: int
    reverse: bool


def window_for(target: int, last: int | None = None) -> Window:
    """Return the window that predicts frame `target`.

    Frame i is predicted from frames i-15..i. The first 15 frames have no full past: frame j is
    predicted from frames j..j+15 played backwards (the published rule). Where the video ends
    before j+15, its last frame repeats.

    Args:
        target: frame index, from 0.
        last: index of the video's last frame where it is known, else None.

    Raises:
        ValueError: the target is negative or after the last frame.
    """
    if target < 0 or (last is not None and target > last):
        raise ValueError(f"frame {target} is outside the video (0..{last})")
    if target >= PAST_FRAMES:
        first = target - PAST_FRAMES
        return Window(target, tuple(range(first, target + 1)), first, reverse=False)
    ahead = range(target + PAST_FRAMES, target - 1, -1)
    frames = tuple(i if last is None else min(i, last) for i in ahead)
    return Window(target, frames, target, reverse=True)


def seen_frames(window: Window, count: int) -> tuple[int, ...]:
    """Those of a window's 16 frames that a network of `count` frames sees: evenly spaced, the
    window's last among them."""
    step = CLIP_FRAMES // count
    return window.frames[step - 1 :: step]


def seen_window(
    target: int,
    times: dict[int, Fraction],
    count: int = CLIP_FRAMES,
    audio_context: int | None = None,
    ended: bool = False,
) -> Window | None:
    """Return the window that predicts `target`, with the frames that one network sees.

    This function and `oldest_seen` alone decide which frames a network sees in prediction.

    Args:
        times: seconds since the video's first frame of the frames read so far, in order, from
            `oldest_seen` on at the latest.
        count: how many of the window's 16 frames the network sees.
        audio_context: frames of sound in a window; None where there is no sound.
        ended: the video has no more frames than these.

    Returns:
        None where later frames must be read first.
    """
    latest = next(reversed(times))
    if not ended and latest < _latest_needed(target, audio_context):
        return None
    window = window_for(target, latest if ended else None)
    return replace(window, frames=seen_frames(window, count))


def oldest_seen(target: int, times: dict[int, Fraction]) -> int:
    """Return the index before which no window to come sees any frame.

    Args:
        target: the next frame to predict; after it the windows of later frames follow, and that of
            the frame read last may be among them, as the last of the video.
        times: see `seen_window`.
    """
    latest = next(reversed(times))
    return min(target, latest) - PAST_FRAMES


def _latest_needed(target: int, audio_context: int | None) -> int:
    """Index of the frame that must be known before the window of `target` can be made: its latest
    frame, or the one at whose time its sound ends."""
    first = target - PAST_FRAMES if target >= PAST_FRAMES else target
    latest = first + PAST_FRAMES
    return latest if audio_context is None else max(latest, first + audio_context + 1)


def target_until(index: int, stride: int) -> int:
    """Return the last frame up to `index` on which the network runs: a multiple of the stride."""
    return index // stride * stride


def target_from(index: int, stride: int, last: int | None = None) -> int:
    """Return the first frame from `index` on on which the network runs.

    It is a multiple of the stride, whatever part of the video is asked for, or the last frame of
    the video, where that is known and comes first.
    """
    target = -(-index // stride) * stride
    return target if last is None else min(target, last)


def frames_before(stride: int) -> int:
    """Return how many frames before the first wanted one are needed for its map: the network may
    run up to `stride` - 1 frames earlier, and sees the past of that frame."""
    return PAST_FRAMES + stride - 1


def audio_span(
    window: Window, audio_context: int, frame_time: Callable[[int], Fraction]
) -> tuple[int, int]:
    """Return the window's sound as a range of 16 kHz samples, counted from the first frame.

    For a constant frame rate this is the published rule, round(16000 start / fps) to
    round(16000 (start + n + 1) / fps), with n = `audio_context`; otherwise the frames' own times
    take the place of index / fps.

    Args:
        frame_time: gives the time of a frame by index; asked for frames behind the last one too.
    """
    start = frame_time(window.first)
    end = frame_time(window.first + audio_context + 1)
    return round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
