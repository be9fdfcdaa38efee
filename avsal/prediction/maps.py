"""Maps: log-densities smoothed and interpolated over time, blurred and resized."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np

from avsal.errors import UsageError
from avsal.media.frames import FrameInfo
from avsal.prediction.drawing import overlay
from avsal.prediction.frames import CachedFrame, PredictedBatch, WindowInput
from avsal.prediction.settings import Seconds
from avsal.prediction.style import OverlayStyle
from avsal.prediction.windows import MEMORY

_TO_BGR = cv2.COLOR_RGB2BGR
_CELLS = (108, 192)  # (height, width) of the grid that spread is measured on, at most
BLUR_SIZE = 11  # pixels of the network's grid; the deviation is OpenCV's default for it, 2 pixels
FrameMap = tuple[CachedFrame, np.ndarray]  # a frame and its (h, w) log-density


@dataclass(frozen=True, eq=False)  # arrays have no single equality
class SaliencyFrame:
    """Where people will look while one frame is shown.

    Attributes:
        info: the frame's index, times and size.
        log_density: (h, w) float32 on the network's grid, smoothed over time as the network asks
            for, and interpolated for frames that `stride` skips. Its exponentials sum to 1.
        density: (H, W) float32 at the requested size, blurred as published; it sums to 1.
        picture: uint8 (h, w, 3) RGB, the frame as the network saw it; None if it is unknown.
    """

    info: FrameInfo
    log_density: np.ndarray
    density: np.ndarray
    picture: np.ndarray | None = None

    def __repr__(self) -> str:
        height, width = self.density.shape
        x, y = self.peak
        return (
            f"<SaliencyFrame {self.index} at {self.time:.3f} s: {width}x{height}, peak ({x}, {y})>"
        )

    def _repr_png_(self) -> bytes:
        """The overlay, or without a picture the map, as notebooks show it."""
        if self.picture is None:
            drawn = np.rint(self.saliency * 255).astype(np.uint8)
        else:
            drawn = cv2.cvtColor(overlay(self.picture, self.density, OverlayStyle()), _TO_BGR)
            height, width = self.info.height, self.info.width
            scale = (drawn.shape[0] * drawn.shape[1] / (height * width)) ** 0.5
            drawn = cv2.resize(drawn, (round(width * scale), round(height * scale)))
        return bytes(cv2.imencode(".png", drawn)[1])

    @property
    def tag(self) -> FrameInfo:
        """The former name of `info`."""
        return self.info

    @property
    def index(self) -> int:
        """Frame number from 0."""
        return self.info.index

    @property
    def pts(self) -> Fraction:
        """Presentation time on the container's clock, seconds, exact."""
        return self.info.pts

    @property
    def time(self) -> float:
        """Seconds since the video's first frame."""
        return float(self.info.time)

    @property
    def duration(self) -> float:
        """Seconds for which the frame is shown."""
        return float(self.info.duration)

    @property
    def shot(self) -> int:
        """Number of the frame's shot, from 0 at the first frame that was predicted."""
        return self.info.shot

    @property
    def saliency(self) -> np.ndarray:
        """(H, W) float32: the density scaled to 0..1, this frame's minimum and maximum."""
        low, high = self.density.min(), self.density.max()
        if high <= low:
            return np.zeros_like(self.density)
        return (self.density - low) / (high - low)

    @cached_property
    def peak(self) -> tuple[int, int]:
        """(x, y) of the most salient pixel of `density`."""
        return peak_of(self.density)

    @cached_property
    def centroid(self) -> tuple[float, float]:
        """(x, y) of the mean of `density`, in pixels."""
        return centroid_of(self.density)

    @cached_property
    def spread(self) -> float:
        """Fraction of the picture, 0 to 1, that the smallest area with half of the gaze covers."""
        return spread_of(self.density)

    @cached_property
    def entropy(self) -> float:
        """Entropy in bits; a uniform map has log2 of the number of the grid's cells."""
        share = np.exp(self.log_density) * self.log_density
        return float(-share.sum(dtype=np.float64) / np.log(2))


def peak_of(density: np.ndarray) -> tuple[int, int]:
    """(x, y) of the largest value of a map (h, w)."""
    y, x = np.unravel_index(int(density.argmax()), density.shape)
    return int(x), int(y)


def centroid_of(density: np.ndarray) -> tuple[float, float]:
    """(x, y) of the mean of a map (h, w) in pixels, whole numbers at the pixels' centres.

    A map of zeros has its mean in the middle.
    """
    mean = []
    for axis, side in ((0, density.shape[1]), (1, density.shape[0])):
        sums = density.sum(axis=axis, dtype=np.float64)
        total = sums.sum()
        mean.append(float(sums @ np.arange(side) / total) if total > 0 else (side - 1) / 2)
    return mean[0], mean[1]


def spread_of(density: np.ndarray) -> float:
    """Fraction of the picture that the smallest area with half of a map's sum covers.

    Large maps are measured on a coarser grid, so that sorting costs little. 0.5 is an even map.
    """
    height, width = (min(pair) for pair in zip(density.shape, _CELLS, strict=True))
    cells = cv2.resize(density, (width, height), interpolation=cv2.INTER_AREA)
    largest_first = np.sort(cells, axis=None)[::-1].astype(np.float64)
    held = np.cumsum(largest_first)
    half = held[-1] / 2
    if not half > 0:
        return 0.5
    whole = int(np.searchsorted(held, half))  # cells that hold less than half
    before = held[whole - 1] if whole else 0.0
    return float((whole + (half - before) / largest_first[whole]) / held.size)


def to_density(log_density: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Density at the wanted size, which sums to 1.

    Args:
        log_density: float (h, w), as the network gives it.
        size: (height, width) of the result.

    Returns:
        float32 (height, width).
    """
    blurred = cv2.GaussianBlur(np.asarray(log_density, np.float32), (BLUR_SIZE, BLUR_SIZE), 0)
    density = cv2.resize(cv2.exp(blurred), size[::-1], interpolation=cv2.INTER_LINEAR)
    with np.errstate(invalid="ignore"):  # a network that gives NaN has NaN densities
        np.divide(density, np.float32(cv2.sumElems(density)[0]), out=density)
    return density


def interpolate(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Log-density between two others, renormalised.

    Args:
        before, after: (h, w) log-densities.
        share: position between them, 0 (before) to 1 (after).
    """
    return renormalised(before + np.float32(share) * (after - before))


def renormalised(values: np.ndarray) -> np.ndarray:
    """A log-density (h, w) whose exponentials sum to 1."""
    peak = values.max()
    total = cv2.sumElems(cv2.exp(values - peak))[0]
    return values - np.float32(peak + np.log(total))


class Smoothing:
    """Takes a video's maps in order and smooths them over time.

    A map becomes the weighted mean of the maps around it. Between two maps the video's map is taken
    to change linearly, and weights fall exponentially with time, so that the result hardly depends
    on the frame rate and the stride. On both sides they end after `MEMORY` time constants, so that
    the maps of a part are those of the whole. Maps are not smoothed across a cut.
    """

    def __init__(self, past: Fraction, future: Fraction = Fraction(0)) -> None:
        """Take the time constants, in seconds.

        Args:
            past: time in which the weights of earlier maps fall to 1/e; 0 for none.
            future: the same of later maps; with 0 no map has to wait for later ones.
        """
        self._past, self._future = float(past), float(future)
        self._memory, self._ahead = MEMORY * past, MEMORY * future
        self._maps: deque[tuple[Fraction, np.ndarray]] = deque()  # of one shot
        self._done = 0  # how many of these have been returned

    def add(self, time: Fraction, log_density: np.ndarray, cut: bool) -> list[np.ndarray]:
        """Take the next map.

        Args:
            time: of its frame, seconds.
            log_density: (h, w).
            cut: whether a cut is between its frame and that of the map before.

        Returns:
            The smoothed log-densities (h, w) that need no later map, in order, each once.
        """
        ready = self.end() if cut else []
        self._maps.append((time, log_density))
        while self._done < len(self._maps) and time - self._maps[self._done][0] >= self._ahead:
            ready.append(self._next())
        return ready

    def end(self) -> list[np.ndarray]:
        """Return the remaining maps of the shot, smoothed with the later ones that there are."""
        ready = [self._next() for _ in range(len(self._maps) - self._done)]
        self._maps.clear()
        self._done = 0
        return ready

    def _next(self) -> np.ndarray:
        time, log_density = self._maps[self._done]
        self._done += 1
        while time - self._maps[0][0] > self._memory:
            self._maps.popleft()
            self._done -= 1
        offsets = [(each - time, map_) for each, map_ in self._maps]
        near = [(offset, map_) for offset, map_ in offsets if offset <= self._ahead]
        if len(near) == 1:
            return log_density
        mixed = np.zeros_like(log_density)
        shares = weights([float(offset) for offset, _ in near], self._past, self._future)
        for weight, (_, each) in zip(shares, near, strict=True):
            cv2.scaleAdd(each, weight, mixed, dst=mixed)
        return renormalised(mixed)


def weights(offsets: Sequence[float], past: float, future: float) -> list[float]:
    """Weights of maps in the one at offset 0, which sum to 1.

    Args:
        offsets: seconds from that map, ascending; at least two, and 0 is one of them.
        past, future: time constants before and after it, seconds.

    Returns:
        The integrals of exp(-|offset| / constant) times each map's part in the linear course
        between neighbours.
    """
    found = [0.0] * len(offsets)
    for place, (earlier, later) in enumerate(pairwise(offsets)):
        constant = past if later <= 0 else future
        near, far = sorted((abs(earlier) / constant, abs(later) / constant))
        whole = math.exp(-near) - math.exp(-far)
        distant = whole / (far - near) - math.exp(-far)
        parts = (distant, whole - distant) if later <= 0 else (whole - distant, distant)
        for number, part in enumerate(parts):
            found[place + number] += constant * part
    total = sum(found)
    return [each / total for each in found]


def filled(batches: Iterable[PredictedBatch], smoothing: Smoothing) -> Iterator[FrameMap]:
    """The predicted maps, smoothed, and between them those of skipped frames: interpolated by time,
    or where there is a cut between, the map of their own shot."""
    before: FrameMap | None = None
    for inputs, later in _smoothed(batches, smoothing):
        predicted = inputs.frames[-1]
        first, earlier = before or (predicted, later)
        span = inputs.info.time - first.info.time
        for frame in inputs.skipped:
            share = float((frame.info.time - first.info.time) / span) if span else 1.0
            if inputs.cut is not None:
                share = float(frame.info.index >= inputs.cut)
            yield frame, interpolate(earlier, later, share)
        before = (predicted, later)
        if inputs.wanted:
            yield before


def _smoothed(
    batches: Iterable[PredictedBatch], smoothing: Smoothing
) -> Iterator[tuple[WindowInput, np.ndarray]]:
    """Give each window its smoothed map, as soon as that is known."""
    waiting: deque[WindowInput] = deque()
    for inputs, log_density in itertools.chain.from_iterable(batches):
        waiting.append(inputs)
        for smooth in smoothing.add(inputs.info.time, log_density, inputs.cut is not None):
            yield waiting.popleft(), smooth
    yield from zip(waiting, smoothing.end(), strict=True)


@dataclass(frozen=True)
class GazeMap:
    """The predicted gaze on one frame.

    Attributes:
        index: frame number in the video.
        pts: container time, seconds, exact; for maps that a program hands over, its own time.
        duration: seconds that the frame is shown; 0 for a still image.
        density: (h, w), values that are not negative.
        shot: number of the shot, from 0.
    """

    index: int
    pts: Fraction
    duration: Fraction
    density: np.ndarray
    shot: int = 0


def timed_maps(
    maps: Iterable[np.ndarray],
    times: Sequence[Seconds] | None = None,
    rate: Seconds = 25,
    end: Seconds | None = None,
    cuts: Sequence[int] = (),
) -> Iterator[GazeMap]:
    """Give each map that a program already has its number, time, duration and shot.

    Args:
        maps: (h, w) arrays of finite values that are not negative.
        times: the seconds at which each map's frame begins, ascending, one for each map; None
            counts frames at `rate` frames per second.
        end: seconds at which the last frame ends; None shows it as long as the one before it.
        cuts: numbers of the frames that begin a new shot, ascending.

    Raises:
        UsageError: there are more maps than times or fewer, the times do not ascend, `end` does not
            come after the last one, or a map is not an array of densities.
    """
    if not isinstance(maps, Iterable):
        raise UsageError(f"maps has the type {type(maps).__name__}; give one array for each frame")
    duration, held = _frame_step(rate), None
    for index, (time, density) in enumerate(_with_times(maps, times, duration)):
        if held is not None:
            duration = time - held.pts
            yield replace(held, duration=duration)
        shot = bisect_right(cuts, index)
        held = GazeMap(index, time, duration, checked_map(density, index), shot)
    if held is None:
        return
    duration = duration if end is None else _binary_fraction("end", end) - held.pts
    if duration <= 0:
        raise UsageError(f"end {end}: does not come after the last map's {float(held.pts):g} s")
    yield replace(held, duration=duration)


def _with_times(
    maps: Iterable[np.ndarray], times: Sequence[Seconds] | None, step: Fraction
) -> Iterator[tuple[Fraction, np.ndarray]]:
    if times is None:
        yield from ((index * step, density) for index, density in enumerate(maps))
        return
    before: Fraction | None = None
    pairs = itertools.zip_longest(times, maps)  # neither a time nor a map is None
    for index, (second, density) in enumerate(pairs):
        if second is None or density is None:
            fewer, more = ("times", "maps") if second is None else ("maps", "times")
            raise UsageError(f"there are {index} {fewer} but more {more}; give a time for each map")
        time = _binary_fraction(f"time {index}", second)
        if before is not None and time <= before:
            raise UsageError(
                f"times: {float(time):g} s of map {index} does not come after {float(before):g} s"
            )
        before = time
        yield time, density


def _frame_step(rate: Seconds) -> Fraction:
    """Seconds from one frame to the next.

    Raises:
        UsageError: the rate is not a number above 0.
    """
    exact = _binary_fraction("rate", rate)
    if exact <= 0:
        raise UsageError(f"rate {rate}: give frames per second, more than 0")
    return 1 / exact


def checked_map(density: np.ndarray, index: int) -> np.ndarray:
    """A map as it is.

    Raises:
        UsageError: it has no height and width, or values that are negative or not finite.
    """
    if isinstance(density, SaliencyFrame):
        raise UsageError(f"map {index} is a SaliencyFrame; give its density")
    density = np.asarray(density)
    if density.ndim != 2 or not density.size or density.dtype.kind not in "fiub":
        raise UsageError(
            f"map {index} is an array of {density.dtype} and shape {density.shape}; give numbers "
            "(height, width)"
        )
    if not np.isfinite(density).all() or density.min() < 0:
        raise UsageError(f"map {index}: has values that are negative or not finite; give densities")
    return density


def _binary_fraction(name: str, value: Seconds) -> Fraction:
    """The number as the computer has it: 0.1 is the nearest binary fraction, not 1/10."""
    try:
        return Fraction(value) if isinstance(value, Fraction | int) else Fraction(float(value))
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} {value}: is not a finite number") from None
