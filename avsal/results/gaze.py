"""Maps of gaze for what is made of them: saved ones, straight from the network, or handed over."""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from avsal.errors import MediaError, UsageError
from avsal.media.frames import VideoFrame
from avsal.media.info import VideoInfo
from avsal.media.video import VideoReader
from avsal.prediction.predictor import Prediction, Predictor
from avsal.prediction.settings import MapSize, PredictSettings
from avsal.prediction.shots import Shot, find_shots, shots_between
from avsal.results.folder import Result, read_result

Seconds = float | Fraction

# A finished result, or the network that predicts now and how.
Maps = Result | tuple[Predictor, PredictSettings]
_SHAPE_TOLERANCE = 0.01  # by which width to height of two encodes of one video may differ


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
            come after the last one, or a map is none.
    """
    duration, held = _frame_step(rate), None
    for index, (time, density) in enumerate(_with_times(maps, times, duration)):
        if held is not None:
            duration = time - held.pts
            yield replace(held, duration=duration)
        shot = bisect_right(cuts, index)
        held = GazeMap(index, time, duration, checked_map(density, index), shot)
    if held is None:
        return
    duration = duration if end is None else _exact("end", end) - held.pts
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
            more = "more maps than times" if second is None else "more times than maps"
            raise UsageError(f"times: there are {more}, of which there are {index}; give one a map")
        time = _exact(f"time {index}", second)
        if before is not None and time <= before:
            raise UsageError(
                f"times: {float(time):g} s of map {index} does not come after {float(before):g} s"
            )
        before = time
        yield time, density


def _frame_step(rate: Seconds) -> Fraction:
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


@dataclass(frozen=True)
class MapSource:
    """Where the maps of videos come from: a folder with saved ones, or a network.

    Attributes:
        model: a loaded network, or its name with `weights`, `device`, `precision`, `offline`,
            `revision` and `engine` as in `avsal.load_model`. It is loaded when it is first needed.
        settings: how it predicts.
    """

    model: Predictor | str | None = None
    weights: str | os.PathLike[str] | None = None
    device: str = "auto"
    precision: str = "auto"
    offline: bool = False
    revision: str | None = None
    engine: str = "auto"
    settings: PredictSettings = field(default_factory=PredictSettings)

    def result(self, saliency: str | os.PathLike[str] | None) -> Result | None:
        """The result in a folder, None where no folder is given."""
        return None if saliency is None else read_result(Path(saliency))

    def maps(
        self, saliency: str | os.PathLike[str] | None
    ) -> Result | tuple[Predictor, PredictSettings]:
        """The part of a result in a folder, or the network where there is none.

        Raises:
            AvsalError: the result cannot be read, or has no maps in that part.
        """
        result = self.result(saliency)
        if result is None:
            return self.predictor, self.settings
        return result.part(self.settings.start, self.settings.end)

    @cached_property
    def predictor(self) -> Predictor:
        """The network, loaded."""
        if isinstance(self.model, Predictor):
            return self.model
        from avsal.prediction.model import load_model

        return load_model(
            self.model,
            self.weights,
            self.device,
            self.precision,
            offline=self.offline,
            revision=self.revision,
            engine=self.engine,
        )


@dataclass(frozen=True)
class Gaze:
    """The predicted gaze on a video.

    Attributes:
        maps: in order of frames, to be read once.
        shots: the video's shots, complete after the last map.
        frame: gives the frame of the map that was read last, once; only where frames are wanted.
    """

    maps: Iterator[GazeMap]
    shots: list[Shot]
    frame: Callable[[int], VideoFrame]


@contextmanager
def open_gaze(video: VideoReader, maps: Maps, frames: bool = False) -> Iterator[Gaze]:
    """Give the maps of a video one by one, at the size in which they are there at least cost.

    Args:
        video: opened and not yet read; the network reads and closes it. With saved maps it is read
            only where frames are wanted.
        frames: frames are wanted too.

    Raises:
        AvsalError: something cannot be read, or the maps are of another video; also while
            iterating.
    """
    if isinstance(maps, Result):
        shots = _shots_of(video, maps)
        yield Gaze(_saved(video, maps, shots), shots, partial(_frame_of, video))
        return
    predictor, settings = maps
    held = video.keep() if frames else None
    with predictor.predict(video, settings, held, size=MapSize.parse("model")) as prediction:
        shots = []
        yield Gaze(_predicted(prediction, shots, video), shots, video.take)


def _frame_of(video: VideoReader, index: int) -> VideoFrame:
    """Read on to a frame."""
    for frame in video:
        if frame.index == index:
            return frame
    raise MediaError(
        f"{video.path}: has no frame {index}, of which there is a map; give the maps of this video"
    )


def _shots_of(video: VideoReader, result: Result) -> list[Shot]:
    """The shots that a result lists, if it is of this very file; else the file is read through."""
    shots = result.shots()
    if shots and result.header.get("source") == video.identity:
        return _shots_of_part(result, shots)
    check_shape(video.info, result)
    with VideoReader(video.path, start=result.start, end=result.end) as again:
        return find_shots(again)


def _shots_of_part(result: Result, shots: list[Shot]) -> list[Shot]:
    """Shots of a result as far as they are in its part."""
    settings = result.header["settings"]
    if (result.start, result.end) == (settings["start"], settings["end"]):
        return shots
    inside = [(record.index, record.pts) for record in result.records() if result.holds(record)]
    if not inside:
        raise MediaError(f"{result.folder}: no map from {result.start} s to {result.end} s")
    after = (record.pts for record in result.records() if record.index > inside[-1][0])
    first, last, end = inside[0], inside[-1][0], next(after, shots[-1].end)
    cuts = [(shot.first, shot.start) for shot in shots if first[0] < shot.first <= last]
    return shots_between(first, last, end, cuts)


def check_shape(info: VideoInfo, result: Result) -> None:
    """Refuse the maps of a video of another shape; raises MediaError."""
    if abs(result.width * info.height / (result.height * info.width) - 1) > _SHAPE_TOLERANCE:
        raise MediaError(
            f"{result.folder}: maps of a {result.width}x{result.height} video, but {info.path} has "
            f"{info.width}x{info.height}; give the maps of this video"
        )


def _saved(video: VideoReader, result: Result, shots: list[Shot]) -> Iterator[GazeMap]:
    """Maps with durations; the last one's follows from the end of the last shot."""
    last, end = shots[-1].last, shots[-1].end
    ended = (last + 1, end, None)
    records = (
        (record.index, record.pts, density)
        for record, density in result.densities()
        if result.holds(record)
    )
    cuts = [shot.first for shot in shots[1:]]
    for (index, pts, density), (after, until, _none) in itertools.pairwise(
        itertools.chain(records, [ended])
    ):
        if density is None or index + 1 != after or pts >= until:
            raise MediaError(
                f"{video.path}: has frames {shots[0].first} to {last}, the last until "
                f"{float(end):.3f} s, but frame {index} at {float(pts):.3f} s has a map and frame "
                f"{index + 1} does not follow; the maps are of another video"
            )
        duration = Fraction(0) if video.info.is_image else until - pts
        yield GazeMap(index, pts, duration, density, bisect_right(cuts, index))


def _predicted(prediction: Prediction, shots: list[Shot], video: VideoReader) -> Iterator[GazeMap]:
    """Maps straight from the network; `shots` gets the shots that they are in."""
    number = None
    for frame in prediction:
        tag = frame.tag
        if frame.shot == number:
            shots[-1] = replace(shots[-1], last=tag.index, end=tag.pts + tag.duration)
        else:
            shots.append(Shot(tag.index, tag.index, tag.pts, tag.pts + tag.duration))
            number = frame.shot
        duration = Fraction(0) if video.info.is_image else tag.duration
        yield GazeMap(tag.index, tag.pts, duration, frame.density, len(shots) - 1)
        video.forget(tag.index)
