"""Many files in a row: videos one by one, still images through the network together."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from avsal.media.frames import tag_of
from avsal.prediction.cache import FrameCache, WindowInput
from avsal.prediction.predictor import Prediction, Predictor
from avsal.prediction.saliency import SaliencyFrame
from avsal.prediction.settings import PredictSettings
from avsal.prediction.threads import run_ahead
from avsal.preprocess.frames import resize_frame
from avsal.shots import ShotFinder

if TYPE_CHECKING:
    from avsal.media.info import VideoInfo
    from avsal.media.video import VideoReader

logger = logging.getLogger("avsal")

Source = TypeVar("Source", bound="str | os.PathLike[str]")


@dataclass(frozen=True)
class Still:
    """A still image that has been read.

    Attributes:
        window: its only one.
        identity: of the file when it was opened.
        notes: what a person should know.
    """

    info: VideoInfo
    window: WindowInput
    notes: list[str]
    identity: dict[str, Any]

    @property
    def size(self) -> tuple[int, ...]:
        """Of the network's input."""
        return self.window.frames[-1].pixels.shape


if TYPE_CHECKING:
    Opened = Still | VideoReader | Exception


def predict_files(
    predictor: Predictor, sources: Iterable[Source], settings: PredictSettings | None = None
) -> Iterator[tuple[Source, Prediction | Exception]]:
    """Predict files in order as `Predictor.predict` does, still images several at a time.

    Args:
        sources: see `Predictor.predict`; taken in a thread, a few ahead of what is given out.
        settings: see `PredictSettings`.

    Yields:
        Every source with its prediction, to be consumed or closed before the next one is asked
        for; or with what is wrong with it.
    """
    settings = predictor.complete(settings or PredictSettings())
    batch = predictor.batch(settings)
    rest = iter(sources)
    opened: Opened | None
    while True:
        opened = None
        with closing(run_ahead(lambda: _opened(predictor, rest, settings), 2 * batch)) as ahead:
            while group := list(itertools.islice(ahead, batch)):
                stills = [opened for _source, opened in group if isinstance(opened, Still)]
                maps = iter(_log_densities(predictor, stills, batch))
                for source, opened in group:
                    if isinstance(opened, Still):
                        yield source, _still_prediction(predictor, opened, settings, next(maps))
                    else:
                        yield source, _video_prediction(predictor, opened, settings)
        if opened is None or isinstance(opened, Still | Exception):
            return  # not stopped by a video


def _opened(
    predictor: Predictor, sources: Iterator[Source], settings: PredictSettings
) -> Generator[tuple[Source, Opened], None, None]:
    """Read still images, up to the first video, which is only opened."""
    for source in sources:
        try:
            opened = _open(predictor, source, settings)
        except Exception as error:  # whatever is wrong with one file, the next one may be fine
            yield source, error
            continue
        yield source, opened
        if not isinstance(opened, Still):
            return


def _open(
    predictor: Predictor, source: str | os.PathLike[str], settings: PredictSettings
) -> Still | VideoReader:
    from avsal.media.video import VideoReader

    video = VideoReader(source)
    if not video.info.is_image or settings.start:
        return video
    with video:
        (frame,) = video
        size = predictor.input_size(video.info.height, video.info.width, video.info.sample_aspect)
        small = tag_of(frame, video.origin), resize_frame(frame.image, size)
        (window,) = FrameCache(settings, predictor.rule(settings)).windows([small])
        return Still(video.info, window, video.warnings, video.identity)


def _log_densities(
    predictor: Predictor, stills: list[Still], batch: int
) -> list[np.ndarray | Exception]:
    """The images' log-densities, (h, w) each, or for each what is wrong with the network; images
    of one size go through it together."""
    found: dict[int, np.ndarray | Exception] = {}
    for size in dict.fromkeys(still.size for still in stills):
        alike = [number for number, still in enumerate(stills) if still.size == size]
        maps = _attempt(predictor, [stills[number] for number in alike], batch)
        found.update(zip(alike, maps, strict=True))
    return [found[number] for number in range(len(stills))]


def _attempt(predictor: Predictor, stills: list[Still], batch: int) -> list[np.ndarray | Exception]:
    try:
        batches = predictor.engine.batches((still.window for still in stills), batch)
        return [log_density for batch in batches for _window, log_density in batch]
    except Exception as error:
        return [error] * len(stills)


def _video_prediction(
    predictor: Predictor, video: VideoReader | Exception, settings: PredictSettings
) -> Prediction | Exception:
    if isinstance(video, Exception):
        return video
    try:
        return predictor.predict(video, settings)
    except Exception as error:
        return error


def _still_prediction(
    predictor: Predictor,
    still: Still,
    settings: PredictSettings,
    log_density: np.ndarray | Exception,
) -> Prediction | Exception:
    if isinstance(log_density, Exception):
        return log_density
    maps = predictor.postprocess([(still.window.frames[-1], log_density)], settings)
    noted = _with_notes(maps, still.notes)
    return Prediction(still.info, 1, ShotFinder(), noted, ExitStack(), still.identity)


def _with_notes(
    maps: Iterator[SaliencyFrame], notes: list[str]
) -> Generator[SaliencyFrame, None, None]:
    yield from maps
    for note in notes:
        logger.warning(note)
