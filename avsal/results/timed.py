"""Maps that a program already has, with a time for each: one definition for `plan` and `shares`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from avsal.errors import UsageError

Seconds = float | Fraction


def timed_maps(
    maps: Iterable[np.ndarray], times: Sequence[Seconds] | None, rate: Seconds
) -> Iterator[tuple[int, Fraction, np.ndarray]]:
    """Number maps and give each its time.

    Args:
        maps: (h, w) arrays of finite values that are not negative.
        times: the seconds at which each map's frame begins, ascending, one for each map; None
            counts frames at `rate` frames per second.

    Raises:
        UsageError: there are more maps than times or fewer, the times do not ascend, or a map is
            none.
    """
    if times is None:
        step = frame_step(rate)
        for index, density in enumerate(maps):
            yield index, index * step, checked_map(density, index)
        return
    before: Fraction | None = None
    pairs = itertools.zip_longest(times, maps)  # neither a time nor a map is None
    for index, (second, density) in enumerate(pairs):
        if second is None or density is None:
            more = "more maps than times" if second is None else "more times than maps"
            raise UsageError(f"times: there are {more}, of which there are {index}; give one a map")
        time = _exact(f"time {index}", second)
        if before is not None and time <= before:
            raise UsageError(
                f"times: {float(time):g} s of map {index} does not come after {float(before):g} s"
            )
        before = time
        yield index, time, checked_map(density, index)


def frame_step(rate: Seconds) -> Fraction:
    """Seconds from one frame to the next.

    Raises:
        UsageError: the rate is no number above 0.
    """
    exact = _exact("rate", rate)
    if exact <= 0:
        raise UsageError(f"rate {rate}: give frames per second, more than 0")
    return 1 / exact


def checked_map(density: np.ndarray, index: int) -> np.ndarray:
    """A map as it is.

    Raises:
        UsageError: it has no height and width, or values that are negative or not finite.
    """
    density = np.asarray(density)
    if density.ndim != 2 or not density.size or density.dtype.kind not in "fiub":
        raise UsageError(
            f"map {index}: is {density.dtype} of shape {density.shape}; give numbers (h, w)"
        )
    if not np.isfinite(density).all() or density.min() < 0:
        raise UsageError(f"map {index}: has values that are negative or not finite; give densities")
    return density


def _exact(name: str, value: Seconds) -> Fraction:
    try:
        return Fraction(value) if isinstance(value, Fraction | int) else Fraction(float(value))
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} {value}: is no finite number") from None
