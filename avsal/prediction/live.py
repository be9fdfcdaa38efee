"""Frames that a caller hands over: checked, and for live streams always the latest."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from numbers import Rational
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from avsal.errors import UsageError
from avsal.media.frames import VideoFrame, info_of
from avsal.prediction.frames import CachedFrame, KeptFrames, WindowInput
from avsal.prediction.inputs import Resize
from avsal.prediction.settings import PredictSettings, Seconds, is_finite, no_frame
from avsal.prediction.shots import Differences, find_cut
from avsal.prediction.threads import FORKED, after_fork
from avsal.prediction.windows import Rule

if TYPE_CHECKING:
    from avsal.media.audio import AudioReader
    from avsal.prediction.maps import SaliencyFrame

logger = logging.getLogger("avsal")
_Timed = tuple[Fraction | None, Fraction | None, Any]  # time and duration if known, and the frame
_WANTED = "give NumPy arrays (height, width, 3) of uint8, in RGB"
_SOUND = "a NumPy array (samples,) of floats from -1 to 1, mono at 16 kHz"
_LOUDEST = 8  # beyond 1, by which resampling and mixing overshoot; integers are far beyond
_FAR_APART = 4  # seconds between the first frames; milliseconds at 250 frames per second
_JOIN_SECONDS = 1.0  # a camera that gives nothing any more must not keep its user waiting


def checked_frames(
    frames: Iterable[VideoFrame | np.ndarray],
    fps: Seconds | None = None,
    times: Iterable[Seconds] | None = None,
    live: bool = False,
) -> Generator[VideoFrame, None, None]:
    """Give frames with their numbers and exact times, each as soon as it is taken.

    Args:
        frames: RGB uint8 (H, W, 3), as arrays, or with times of their own.
        fps: frames per second of arrays.
        times: seconds of arrays, one for each, rising; instead of `fps`.
        live: do not ask for the next time to learn how long a frame is shown; `times` may be a
            clock that never ends.

    Raises:
        UsageError: a frame is not such a picture, has no time, or does not come after the last.
    """
    timed: Iterator[_Timed]
    _check_iterables(frames, times)
    if fps is not None and times is not None:
        raise UsageError("fps and times both say when frames are shown; give only one of them")
    if fps is not None:
        rate = _rate(fps)
        timed = ((index / rate, 1 / rate, frame) for index, frame in enumerate(frames))
    elif times is not None:
        timed = _paired(frames, _with_durations(times, live), live)
    else:
        timed = ((None, None, frame) for frame in frames)
    before: VideoFrame | None = None
    for index, (time, duration, frame) in enumerate(timed):
        checked = _checked(frame, index, time, duration, before)
        if index == 1 and before is not None and (gap := checked.pts - before.pts) >= _FAR_APART:
            logger.warning(
                "frames: the second one is shown %g s after the first; times are seconds, and fps "
                "counts frames per second",
                gap,
            )
        yield checked
        before = checked


def in_part(
    maps: Generator[SaliencyFrame, None, None], settings: PredictSettings
) -> Generator[SaliencyFrame, None, None]:
    """Give the maps of handed-over frames.

    Raises:
        UsageError: no frame is in the part that `settings` ask for.
    """
    empty = True
    with closing(maps):
        for frame in maps:
            empty = False
            yield frame
    if empty and settings.start is not None:
        raise UsageError(f"frames: {no_frame(settings)}")


def _check_iterables(frames: Any, times: Any) -> None:
    if isinstance(frames, str | os.PathLike):
        raise UsageError("frames is a path; predict reads files")
    if not isinstance(frames, Iterable):
        raise UsageError(f"frames has the type {type(frames).__name__}; {_WANTED}")
    if isinstance(frames, np.ndarray) and frames.ndim == 3:
        raise UsageError(f"frames is one array of shape {frames.shape}; give a list of arrays")
    if times is not None and not isinstance(times, Iterable):
        raise UsageError(f"times has the type {type(times).__name__}; give one time for each frame")


def _with_durations(
    times: Iterable[Seconds], live: bool
) -> Iterator[tuple[Fraction, Fraction | None]]:
    exact = (
        _decimal_fraction(time, f"the time of frame {index}") for index, time in enumerate(times)
    )
    if live:
        yield from ((time, None) for time in exact)
        return
    for time, after in itertools.pairwise(itertools.chain(exact, [None])):
        assert time is not None  # only the last one is, and it is never the first of a pair
        yield time, None if after is None else after - time


def _paired(
    frames: Iterable[VideoFrame | np.ndarray],
    times: Iterable[tuple[Fraction, Fraction | None]],
    live: bool,
) -> Iterator[_Timed]:
    missing: Any = object()
    pairs = itertools.zip_longest(frames, times, fillvalue=missing)
    for index, (frame, time) in enumerate(pairs):
        if frame is missing and live:
            return  # a clock goes on when the camera ends
        if frame is missing or time is missing:
            fewer, more = ("frames", "times") if frame is missing else ("times", "frames")
            raise UsageError(
                f"there are {index} {fewer} but more {more}; give a time for each frame"
            )
        yield *time, frame


def _checked(
    frame: Any,
    index: int,
    time: Fraction | None,
    duration: Fraction | None,
    before: VideoFrame | None,
) -> VideoFrame:
    if isinstance(frame, VideoFrame):
        if time is not None:
            raise UsageError("VideoFrames have times of their own; omit fps and times")
        if frame.index != index:
            raise UsageError(
                f"frame {index} has the number {frame.index}; number frames from 0 without a gap"
            )
        time = _decimal_fraction(frame.pts, f"the time of frame {index}")
        duration = _decimal_fraction(frame.duration, f"the duration of frame {index}")
        frame = frame.image
    elif time is None:
        _check_image(frame, index)
        raise UsageError("frames that are arrays have no times; give fps or times")
    _check_image(frame, index)
    if before is not None and time <= before.pts:
        raise UsageError(
            f"frame {index} is shown at {float(time):g} s, which is not after the frame before it, "
            f"at {float(before.pts):g} s; give ascending times"
        )
    if duration is None:
        duration = Fraction(0) if before is None else time - before.pts
    return VideoFrame(index, time, duration, frame)


def _check_image(image: Any, index: int) -> None:
    good = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
    if good and image.shape[2] == 3 and image.size:
        return
    cure = _cure(image)
    wanted = f"{_WANTED}{cure and f', such as {cure}'}"
    if image is None:
        wanted = "OpenCV gives None after the last frame; stop there"
    raise UsageError(f"frame {index} has the type {_type_of(image)}; {wanted}")


def _type_of(array: Any) -> str:
    """The name of a type; of an array its shape and the type of its values too."""
    name, shape = type(array).__name__, getattr(array, "shape", None)
    return name if shape is None else f"{name} of {array.dtype}, shape {tuple(shape)}"


def _cure(image: Any) -> str:
    """What to do about the commonest other forms of a picture; empty for all else."""
    if hasattr(image, "to_ndarray"):  # PyAV
        return "frame.to_ndarray(format='rgb24')"
    if hasattr(image, "convert"):  # Pillow
        return "numpy.asarray(frame.convert('RGB'))"
    if hasattr(image, "numpy"):  # PyTorch
        image, code = image.detach().cpu().numpy(), "frame.cpu().numpy()"
    else:
        code = "frame"
    if not isinstance(image, np.ndarray):
        return ""
    axes, shape = image.ndim, image.shape
    cures = (
        (axes == 2 or (axes == 3 and shape[-1] == 1), f"numpy.dstack([{code}] * 3)"),
        (axes == 3 and shape[-1] == 4, f"{code}[..., :3]"),
        (axes == 3 and shape[-1] != 3 and shape[0] == 3, f"{code}.transpose(1, 2, 0)"),
    )
    code = next((cure for fits, cure in cures if fits), code)
    if image.dtype.kind == "f":
        in_unit = not image.size or image.max() <= 1
        code = f"({code} * 255)" if in_unit else code
        code = f"{code}.round().astype('uint8')"
    elif image.dtype == np.uint16:
        code = f"({code} >> 8).astype('uint8')"
    elif image.dtype not in (np.uint8, bool):
        code = f"{code}.astype('uint8')"
    return "" if code == "frame" else code


def _rate(fps: Any) -> Fraction:
    rate = _decimal_fraction(fps, "fps")
    if rate <= 0:
        raise UsageError(f"fps {fps}: give more than 0 frames per second")
    return rate


def aspect_of_pixels(sample_aspect: Any) -> Fraction:
    """Width of a pixel divided by its height; raises UsageError if it is not above 0."""
    aspect = _decimal_fraction(sample_aspect, "sample_aspect")
    if aspect <= 0:
        raise UsageError(f"sample_aspect {sample_aspect}: give a number above 0")
    return aspect


def _decimal_fraction(number: Any, name: str) -> Fraction:
    """The number that a person wrote, as `settings.exact_seconds` has it."""
    if not is_finite(number):
        raise UsageError(f"{name} is {number!r}; give a number")
    return Fraction(number) if isinstance(number, Rational) else Fraction(str(float(number)))


def reader_of(audio: AudioReader | np.ndarray | None) -> AudioReader | None:
    """What reads the samples that a caller hands over.

    Raises:
        UsageError: they are not 16 kHz mono samples, as far as can be seen.
    """
    is_reader = audio is None or hasattr(audio, "read")
    return cast("AudioReader | None", audio if is_reader else _Samples(audio))


class _Samples:
    """Reads an array of samples as `avsal.media.AudioReader` reads those of a file."""

    def __init__(self, samples: Any) -> None:
        if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype.kind != "f":
            raise UsageError(f"audio has the type {_type_of(samples)}; give {_SOUND}")
        if samples.size and not np.abs(samples).max() <= _LOUDEST:  # NaN is not
            raise UsageError(f"audio has samples outside -1 to 1; give {_SOUND}")
        self._samples = np.asarray(samples, np.float32)

    def read(self, start: int, end: int) -> np.ndarray:
        return self._samples[start:end]

    def release(self, before: int) -> None:
        """Nothing: the caller has the array anyway."""


class LatestFrames:
    """Takes frames in a thread as fast as they come and keeps those that the latest one's window
    sees.

    Use it in a `with` statement. When it is left, the thread ends with the next frame.
    """

    def __init__(
        self,
        frames: Iterable[VideoFrame],
        resizing: Callable[[int, int], Resize],
        rule: Rule,
    ) -> None:
        """Start taking frames.

        Args:
            frames: numbered from 0 without a gap; used by the thread alone.
            resizing: gives what brings pictures of a (height, width) to the network's size.
            rule: how windows are laid.
        """
        self._resizing, self._rule = resizing, rule
        self._frames = KeptFrames()
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

    def __exit__(self, *_error: object) -> None:
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
            self._changed.wait_for(lambda: self._ended or self._frames.latest > self._given)
            if self._frames.latest == self._given:
                if self._error is not None:
                    raise self._error
                return None
            self._given = self._frames.latest
            window = self._rule.window(self._given, self._frames.times, None, ended=True)
            assert window is not None  # with `ended` nothing is waited for
            frames = self._frames.seen_by(window)
            cut = find_cut(self._changes)
            self._changes.clear()
        return WindowInput(window, frames, None, cut=cut)

    def _take(self, frames: Iterable[VideoFrame]) -> None:
        origin, resize, differences = None, None, Differences()
        try:
            for frame in frames:
                if self._ended:
                    return
                origin = frame.pts if origin is None else origin
                resize = resize or self._resizing(*frame.image.shape[:2])
                taken = CachedFrame(info_of(frame, origin), resize(frame.image))
                change = differences.next(taken.pixels)
                with self._changed:
                    self._frames.add(taken)
                    self._frames.drop_before(self._rule.oldest(frame.index, self._frames.times))
                    self._changes[frame.index] = change
                    for index in self._changes.keys() - self._frames.keys():
                        del self._changes[index]
                    self._changed.notify()
        except BaseException as error:  # raised again where the maps are consumed
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
