"""A stream of frames as it comes: always the map of the latest frame, never a growing delay."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from fractions import Fraction
from types import TracebackType

from avsal.errors import UsageError
from avsal.media.frames import VideoFrame, tag_of
from avsal.prediction.cache import CachedFrame, WindowInput
from avsal.prediction.threads import FORKED, after_fork
from avsal.preprocess import cuts
from avsal.preprocess.frames import resize_frame
from avsal.preprocess.rules import Rule

_JOIN_SECONDS = 1.0  # a camera that gives nothing any more must not keep its user waiting


class LatestFrames:
    """Takes frames in a thread as fast as they come and keeps those that the latest one's window
    sees.

    Use it in a `with` statement. When it is left, the thread ends with the next frame.
    """

    def __init__(
        self,
        frames: Iterable[VideoFrame],
        input_size: Callable[[int, int], tuple[int, int]],
        rule: Rule,
    ) -> None:
        """Start taking frames.

        Args:
            frames: numbered from 0 without a gap; used by the thread alone.
            input_size: gives (height, width) of the network's input for those of the frames.
            rule: how windows are laid.
        """
        self._input_size, self._rule = input_size, rule
        self._frames: dict[int, CachedFrame] = {}
        self._changes: dict[int, float] = {}  # of the frames since the latest window
        self._given = -1  # the frame of the window that was given out last
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._take, args=(frames,), name="avsal-live", daemon=True
        )
        after_fork(self)

    def orphan(self) -> None:
        """End in a child process, which does not have the thread."""
        self._changed = threading.Condition()
        self._ended, self._error = True, UsageError(FORKED)

    def __enter__(self) -> LatestFrames:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self._thread.join(_JOIN_SECONDS)

    def window(self) -> WindowInput | None:
        """Wait for a frame that had no window yet; give the window of the latest one.

        While there are not enough frames, one stands for those that are missing: the first frame
        is predicted like a still image.

        Returns:
            None when the frames have ended; what their iterator raised is raised here.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._latest > self._given)
            if self._latest == self._given:
                if self._error is not None:
                    raise self._error
                return None
            self._given = self._latest
            window = self._rule.window(self._given, self._times, None, ended=True)
            assert window is not None  # with `ended` nothing is waited for
            frames = tuple(self._frames[index] for index in window.frames)
            cut = cuts.find_cut(self._changes)
            self._changes.clear()
        return WindowInput(window, frames, None, cut=cut)

    @property
    def _latest(self) -> int:
        return next(reversed(self._frames), -1)

    @property
    def _times(self) -> dict[int, Fraction]:
        return {index: frame.tag.time for index, frame in self._frames.items()}

    def _take(self, frames: Iterable[VideoFrame]) -> None:
        origin, size, differences = None, None, cuts.Differences()
        try:
            for frame in frames:
                if self._ended:
                    return
                origin = frame.pts if origin is None else origin
                size = size or self._input_size(*frame.image.shape[:2])
                taken = CachedFrame(tag_of(frame, origin), resize_frame(frame.image, size))
                change = differences.next(taken.pixels)
                with self._changed:
                    self._frames[frame.index] = taken
                    self._changes[frame.index] = change
                    oldest = self._rule.oldest(frame.index, self._times)
                    for index in [index for index in self._frames if index < oldest]:
                        del self._frames[index]
                        self._changes.pop(index, None)
                    self._changed.notify()
        except BaseException as error:  # raised again where the maps are consumed
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
