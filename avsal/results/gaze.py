"""Maps of gaze for everything that is made from them: saved maps, or maps from the network."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, partial

from avsal.errors import MediaError, UsageError
from avsal.media.frames import VideoFrame, shown_until
from avsal.media.video import VideoReader
from avsal.prediction.maps import GazeMap
from avsal.prediction.predictor import Prediction, Predictor
from avsal.prediction.settings import MapSize, PredictSettings, exact_seconds
from avsal.prediction.shots import LOOK_AHEAD, Shot, find_shots, shots_between
from avsal.results.description import FrameRecord
from avsal.results.folder import Result, read_result

logger = logging.getLogger("avsal")

# A finished result, or the network that predicts now and how.
Maps = Result | tuple[Predictor, PredictSettings]
_TIME_ROUNDING = Fraction(1, 1_000_000)  # seconds; of the time of a record
_SHAPE_TOLERANCE = 0.01  # by which width to height of two encodes of one video may differ


def part_of(maps: Maps) -> tuple[float | None, float | None]:
    """The seconds from which and up to which there are maps; None is the video's own end."""
    part = maps if isinstance(maps, Result) else maps[1]
    return part.start, part.end


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

    def __post_init__(self) -> None:
        for name in ("weights", "device", "precision", "offline", "revision", "engine"):
            is_set = getattr(self, name) != getattr(MapSource, name)
            if is_set and isinstance(self.model, Predictor):
                raise UsageError(f"{name}: the model is loaded already; give {name} to load_model")

    def maps(self, saliency: str | os.PathLike[str] | None) -> Maps:
        """The part of a result in a folder, or the network where there is none.

        Raises:
            AvsalError: the result cannot be read, or has no maps in that part.
        """
        if saliency is None:
            return self.predictor, self.settings
        return read_result(saliency).part(self.settings.start, self.settings.end)

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
        frame: returns the frame of the latest map, once; only if `frames` was set.
    """

    maps: Iterator[GazeMap]
    shots: list[Shot]
    frame: Callable[[int], VideoFrame]


@contextmanager
def open_gaze(video: VideoReader, maps: Maps, frames: bool = False) -> Iterator[Gaze]:
    """Give the maps of a video one by one, at the size that costs least.

    The last one counts up to the part's end, though its frame may be shown for longer.

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
    room = video.buffer_frames() if frames else None
    settings = replace(settings, size=MapSize("model"))
    with predictor.predict_reader(video, settings, room) as prediction:
        shots = []
        yield Gaze(_predicted(prediction, shots, video), shots, video.pop_frame)


def end_of_part(video: VideoReader, part: Result) -> Fraction | None:
    """Container time at which a part ends, seconds; None is the end of the video."""
    return None if part.end is None else video.origin + exact_seconds(part.end)


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
    check_source_of(result, video)
    with VideoReader(video.path, start=result.start, lead=LOOK_AHEAD) as again:
        start = None if result.start is None else video.origin + exact_seconds(result.start)
        return find_shots(again, start, end_of_part(video, result))


def _shots_of_part(result: Result, shots: list[Shot]) -> list[Shot]:
    """Shots of a result as far as they are in its part."""
    settings = result.header["settings"]
    if (result.start, result.end) == (settings["start"], settings["end"]):
        return shots
    inside = [(record.index, record.pts) for record in result.records() if result.holds(record)]
    if not inside:
        raise no_maps(result)
    after = (record.pts for record in result.records() if record.index > inside[-1][0])
    first, last, end = inside[0], inside[-1][0], next(after, shots[-1].end)
    cuts = [(shot.first, shot.start) for shot in shots if first[0] < shot.first <= last]
    return shots_between(first, last, end, cuts)


def no_maps(result: Result) -> MediaError:
    """The error of a result without maps in its part."""
    until = "the end" if result.end is None else f"{result.end} s"
    return MediaError(f"{result.folder}: no map from {result.start or 0} s to {until}")


def check_source_of(result: Result, video: VideoReader) -> None:
    """Refuse the maps of a video of another shape, and tell if its file was changed since.

    Raises:
        MediaError: the maps cannot be of this video.
    """
    info, source = video.info, result.header.get("source")
    if abs(result.width * info.height / (result.height * info.width) - 1) > _SHAPE_TOLERANCE:
        raise MediaError(
            f"{result.folder}: maps of a {result.width}x{result.height} video, but {info.path} has "
            f"{info.width}x{info.height}; give the maps of this video"
        )
    known = source if isinstance(source, dict) else {}
    same_name = known.get("name") == video.identity.get("name")
    if same_name and known.get("bytes") != video.identity.get("bytes"):
        logger.warning(
            "%s: was changed after its maps in %s were made; run avsal predict again if its "
            "pictures differ",
            video.path,
            result.folder,
        )


def _saved(video: VideoReader, result: Result, shots: list[Shot]) -> Iterator[GazeMap]:
    """Saved maps on the video's clock; they have to be those of all frames of the shots."""
    cuts, end = [shot.first for shot in shots[1:]], end_of_part(video, result)
    shift, before = _shift(video, result), None
    for record, duration, density in result.timed(shots[-1].end - shift):
        if before is not None and record.index != before.index + 1:
            raise _other_video(video, shots, before)
        before = record
        if duration <= 0:
            raise _other_video(video, shots, record)
        shown = Fraction(0) if video.info.is_image else duration
        shot = bisect_right(cuts, record.index)
        pts = record.pts + shift
        yield shown_until(GazeMap(record.index, pts, shown, density, shot), end)
    if before is not None and before.index != shots[-1].last:
        raise _other_video(video, shots, before)


def _shift(video: VideoReader, result: Result) -> Fraction:
    """Seconds by which the video's clock is ahead of that of the file that maps were made from.

    The same video may begin at 0 s in one container and at 1.4 s in another.
    """
    first = next(filter(result.holds, result.records()), None)
    if first is None:
        return Fraction(0)
    shift = video.origin - (first.pts - exact_seconds(first.time))
    return shift if abs(shift) > _TIME_ROUNDING else Fraction(0)


def _other_video(video: VideoReader, shots: list[Shot], record: FrameRecord) -> MediaError:
    end = float(shots[-1].end - video.origin)
    return MediaError(
        f"{video.path}: has frames {shots[0].first} to {shots[-1].last}, the last until "
        f"{end:.3f} s, but frame {record.index} at {record.time:.3f} s has "
        f"a map and frame {record.index + 1} does not follow; the maps are of another video"
    )


def _predicted(prediction: Prediction, shots: list[Shot], video: VideoReader) -> Iterator[GazeMap]:
    """Maps straight from the network; `shots` gets the shots that they are in."""
    number = None
    for frame in prediction:
        info = frame.info
        if frame.shot == number:
            shots[-1] = replace(shots[-1], last=info.index, end=info.pts + info.duration)
        else:
            shots.append(Shot(info.index, info.index, info.pts, info.pts + info.duration))
            number = frame.shot
        duration = Fraction(0) if video.info.is_image else info.duration
        yield GazeMap(info.index, info.pts, duration, frame.density, len(shots) - 1)
        video.drop_before(info.index + 1)
