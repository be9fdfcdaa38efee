"""Video in, one saliency map per frame out: decoding, the network and post-processing together."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import math
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from avsal.errors import MediaError, WeightsError, path_of
from avsal.media.frames import shown_until
from avsal.models.variants import Variant
from avsal.prediction.frames import Engine, FrameCache, Start, read_ahead
from avsal.prediction.inputs import Resize, input_size, resize_frame
from avsal.prediction.live import LatestFrames, aspect_of_pixels, checked_frames, in_part, reader_of
from avsal.prediction.maps import FrameMap, SaliencyFrame, Smoothing, filled, to_density
from avsal.prediction.settings import (
    PredictSettings,
    Seconds,
    Size,
    exact_seconds,
    expected_maps,
    late_start,
    no_frame,
    with_changes,
)
from avsal.prediction.shots import Cut, ShotFinder, ShotNumbers
from avsal.prediction.windows import Rule, rule_for

if TYPE_CHECKING:
    from avsal.media.audio import AudioReader
    from avsal.media.container import VideoInfo
    from avsal.media.frames import VideoFrame
    from avsal.media.sound import SoundFile
    from avsal.media.video import VideoReader

logger = logging.getLogger("avsal")

ONE = Fraction(1)  # square pixels
WINDOWS_AHEAD = 8  # windows whose new frames may wait for the network


@dataclass(frozen=True)
class Description:
    """What made the maps: the part of a result's description that belongs to the network."""

    model: str
    weights: str
    weights_sha256: str
    device: str
    precision: str
    engine: str


class Prediction(Iterator[SaliencyFrame]):
    """The maps of one file, one after the other.

    Iterate to the end, or use it in a `with` statement, or call `close`; leaving early is fine.

    Attributes:
        info: the video's properties, see `avsal.media.VideoInfo`.
        identity: of the file when it was opened, see `avsal.media.source.file_identity`.
        total: expected number of maps, from start, end and the video's headers; None if unknown.
        finder: finds the cuts of the frames that are read.
    """

    def __init__(
        self,
        info: VideoInfo,
        total: int | None,
        finder: ShotFinder,
        maps: Generator[SaliencyFrame, None, None],
        files: ExitStack,
        identity: dict[str, Any],
    ) -> None:
        self.info = info
        self.identity = identity
        self.total = total
        self.finder = finder
        self._maps = maps
        self._files = files

    def __repr__(self) -> str:
        count = "frames" if self.total is None else f"{self.total} frames"
        return f"<Prediction of {self.info.path}: {count}, to be iterated once>"

    def __next__(self) -> SaliencyFrame:
        return next(self._maps)

    def __enter__(self) -> Prediction:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the reading thread and close the file; may be called again."""
        self._maps.close()
        self._files.close()


class Predictor:
    """A network with its weights on a device; it predicts any number of videos.

    Attributes:
        variant: the network's row in the table of networks.
        engine: computes the network.
        weights_id: name and sha256 of the weights.
    """

    def __init__(
        self, variant: Variant, engine: Engine, weights_id: tuple[str, str] = ("unknown", "")
    ) -> None:
        self.variant = variant
        self.engine = engine
        self.weights_id = weights_id

    def __repr__(self) -> str:
        made_by = self.description
        return (
            f"<Predictor {made_by.weights}: {made_by.model} on {made_by.device}, "
            f"{made_by.precision}, {made_by.engine}>"
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input and of its log-densities. If they follow the shape
        of the picture, see `input_size`."""
        return self.variant.height, self.variant.width

    def input_size(self, height: int, width: int, sample_aspect: Fraction = ONE) -> tuple[int, int]:
        """(height, width) of the network's input and log-densities for a picture.

        Args:
            height: of the picture, in pixels.
            width: of the picture, in pixels.
            sample_aspect: width of a displayed pixel divided by its height.
        """
        return input_size(self.variant, height, width, sample_aspect)

    def resizing(self, height: int, width: int, sample_aspect: Fraction = ONE) -> Resize:
        """What brings pictures of a size to the network's; arguments as of `input_size`."""
        size = self.input_size(height, width, sample_aspect)
        return functools.partial(resize_frame, size=size, halve=self.variant.halves)

    @property
    def uses_audio(self) -> bool:
        """Whether the network has an audio stream."""
        return self.variant.audio

    @property
    def description(self) -> Description:
        """The names of the network, weights, device, precision and engine."""
        engine = self.engine
        return Description(
            self.variant.name, *self.weights_id, engine.device, engine.precision, engine.name
        )

    def with_defaults(self, settings: PredictSettings) -> PredictSettings:
        """Settings, with the network's own value for each that is None."""
        return dataclasses.replace(settings, stride=settings.stride or self.variant.stride)

    def rule(self, settings: PredictSettings, batch: int | None = None) -> Rule:
        """How the network's windows are laid; `batch` windows at once, None for as many as fit."""
        return rule_for(self.variant, settings.stride, batch or self.batch(settings))

    def predict(
        self,
        source: str | os.PathLike[str],
        settings: PredictSettings | None = None,
        *,
        audio_context: int | None = None,
        stride: int | None = None,
        batch: int | None = None,
        start: float | None = None,
        end: float | None = None,
        size: Size | None = None,
    ) -> Prediction:
        """Predict a video file or a still image, frame by frame and in constant memory.

        Args:
            source: a file or an http(s) address that FFmpeg can decode. It is opened now, once for
                its pictures and, if the network uses sound, once for its sound. It is closed after
                the last map.
            settings: see `PredictSettings`. Keywords with the names of its fields replace these;
                `size` may also be "video", "model", "640x360" or (640, 360).

        Returns:
            An iterator of one `SaliencyFrame` for every frame from start to end; see `Prediction`.

        Raises:
            MediaError: the file cannot be read, or has no frame between start and end; this may
                also come while iterating.
            UsageError: a setting is out of its range.
        """
        from avsal.media.video import VideoReader

        settings = with_changes(settings, audio_context, stride, batch, start, end, size)
        return self.predict_reader(VideoReader(path_of("video", source)), settings)

    def predict_reader(
        self,
        video: VideoReader,
        settings: PredictSettings,
        most_waiting: int | None = None,
        sound: SoundFile | None = None,
    ) -> Prediction:
        """As `predict`, for a file that is open already.

        Args:
            video: not yet read; closed after the last map.
            most_waiting: limit on frames that were read and have no map yet, in addition to those
                that one map needs; None depends on the device's memory.
            sound: the file's sound, if others read it too; None opens it if the network uses it.
        """
        from avsal.media.audio import AudioReader

        settings = self.with_defaults(settings)
        with ExitStack() as opening:
            opening.enter_context(video)
            audio = None
            if video.info.has_audio and self.uses_audio:
                audio = opening.enter_context(AudioReader(sound or video.path, video.origin))
            files = opening.pop_all()
        info = video.info
        total = expected_maps(info.frames, info.rate, settings.start, settings.end)
        finder = ShotFinder()
        maps = self._file_maps(video, audio, settings, finder, files, most_waiting)
        return Prediction(info, total, finder, maps, files, video.identity)

    def batch(self, settings: PredictSettings) -> int:
        """Windows in one forward pass."""
        height, width = self.size
        return settings.batch or self.engine.automatic_batch(height * width)

    def predict_frames(
        self,
        frames: Iterable[VideoFrame | np.ndarray],
        audio: AudioReader | np.ndarray | None = None,
        settings: PredictSettings | None = None,
        *,
        fps: Seconds | None = None,
        times: Iterable[Seconds] | None = None,
        sample_aspect: float | Fraction = ONE,
        audio_context: int | None = None,
        stride: int | None = None,
        batch: int | None = None,
        start: float | None = None,
        end: float | None = None,
        size: Size | None = None,
    ) -> Generator[SaliencyFrame, None, None]:
        """Predict frames that are already decoded; see `predict`.

        Args:
            frames: RGB uint8 (H, W, 3) in order, as arrays, or as `VideoFrame`s numbered from 0.
                OpenCV's frames are BGR: give `frame[..., ::-1]`. The iterator is used in another
                thread.
            audio: float (n,) samples from -1 to 1, mono, 16 kHz, the first one at the time of the
                first frame; or an `avsal.media.AudioReader`. None is no sound.
            settings: see `PredictSettings`; keywords replace its fields as in `predict`.
            fps: frames per second, if frames are arrays.
            times: instead of `fps`, the time of each array in seconds, ascending.
            sample_aspect: width of a displayed pixel divided by its height.

        Yields:
            One `SaliencyFrame` for every frame from start to end.

        Raises:
            UsageError: a setting is out of its range. While iterating: a frame is not such a
                picture, has no time, or does not come after the frame before it; or there is none
                from start to end.
        """
        settings = self.with_defaults(
            with_changes(settings, audio_context, stride, batch, start, end, size)
        )
        cuts_matter = settings.stride != 1 or self.rule(settings).smoothing
        finder = ShotFinder() if cuts_matter else None
        checked, aspect = checked_frames(frames, fps, times), aspect_of_pixels(sample_aspect)
        maps = self._decoded_maps(checked, reader_of(audio), settings, finder, sample_aspect=aspect)
        return in_part(maps, settings)

    def predict_from(
        self,
        frames: Iterable[VideoFrame],
        audio: AudioReader | None,
        origin: Fraction,
        settings: PredictSettings,
        sample_aspect: Fraction = ONE,
    ) -> Generator[SaliencyFrame, None, None]:
        """Predict decoded frames from the middle of a video on, reading as little ahead as can be.

        Args:
            frames: numbered as in the whole video, from as far before `settings.start` on as
                `rule(settings).before` says, or from the first one.
            audio: see `predict_frames`.
            origin: container time of the video's first frame, seconds.
            sample_aspect: width to height of a displayed pixel.

        Yields:
            As `predict`.
        """
        settings, finder = self.with_defaults(settings), ShotFinder()
        return self._decoded_maps(
            iter(frames), audio, settings, finder, origin, sample_aspect, most_waiting=0
        )

    def _decoded_maps(
        self,
        frames: Iterator[VideoFrame],
        audio: AudioReader | None,
        settings: PredictSettings,
        finder: ShotFinder | None,
        origin: Fraction | None = None,
        sample_aspect: Fraction = ONE,
        most_waiting: int | None = None,
    ) -> Generator[SaliencyFrame, None, None]:
        """`origin` is None where the first of the frames is the video's first."""
        first = next(frames, None)
        if first is not None:
            height, width = first.image.shape[:2]
            resize = self.resizing(height, width, sample_aspect)
            everything = itertools.chain([first], frames)
            origin = first.pts if origin is None else origin
            yield from self._maps(everything, audio, origin, resize, settings, finder, most_waiting)

    def stream(
        self,
        frames: Iterable[VideoFrame | np.ndarray],
        size: Size | None = None,
        *,
        fps: Seconds | None = None,
        times: Iterable[Seconds] | None = None,
    ) -> Generator[SaliencyFrame, None, None]:
        """Predict frames as they arrive, always the latest one: for cameras and live streams.

        If frames arrive faster than the network runs, those in between get no map, but the
        network sees them as the past of later ones. A map is late by two forward passes at most:
        it is smoothed with earlier maps alone, while those of `predict` also use later ones.
        Only pictures are used: the sound of a map's time range has not arrived yet.

        Args:
            frames, fps, times: see `predict_frames`. The iterators are used in another thread and
                may wait for the next frame; `times` may be a clock, `iter(time.monotonic, None)`.
            size: size of the maps as in `predict`; None is the size of the frames.

        Yields:
            A `SaliencyFrame` for the latest frame, until the frames end. The last frame has a map.

        Raises:
            UsageError: see `predict_frames`.
        """
        settings = with_changes(None, stride=1, size=size)
        return self._live_maps(checked_frames(frames, fps, times, live=True), settings)

    def _live_maps(
        self, frames: Iterable[VideoFrame], settings: PredictSettings
    ) -> Generator[SaliencyFrame, None, None]:
        rule = rule_for(self.variant, settings.stride, live=True)
        with LatestFrames(frames, self.resizing, rule) as latest:
            batches = self.engine.batches(iter(latest.window, None), batch=1)
            maps = filled(batches, Smoothing(rule.smoothing, rule.smoothing_ahead))
            yield from self.postprocess(maps, settings)

    def _file_maps(
        self,
        video: VideoReader,
        audio: AudioReader | None,
        settings: PredictSettings,
        finder: ShotFinder,
        files: ExitStack,
        most_waiting: int | None,
    ) -> Generator[SaliencyFrame, None, None]:
        with files:
            first, info = None, video.info
            resize = self.resizing(info.height, info.width, info.sample_aspect)
            maps = self._maps(
                video, audio, video.origin, resize, settings, finder, most_waiting, video
            )
            for frame in maps:
                first = first or frame.info
                yield frame
            if first is None:
                raise MediaError(f"{video.path}: {no_frame(settings)}")
            late = late_start(video.path, settings.start, first.time)
            for note in (*video.warnings, *(audio.warnings if audio else ()), *late):
                logger.warning(note)

    def _maps(
        self,
        frames: Iterable[VideoFrame],
        audio: AudioReader | None,
        origin: Fraction,
        resize: Resize,
        settings: PredictSettings,
        finder: ShotFinder | None = None,
        most_waiting: int | None = None,
        video: VideoReader | None = None,
    ) -> Iterator[SaliencyFrame]:
        """`video` where `frames` are those of a file, which may be read from the middle on."""
        batch, stride = self.batch(settings), settings.stride or 1
        depth = max(WINDOWS_AHEAD, batch) * stride
        if most_waiting is not None:  # a third reads ahead, one is in the network, one behind it
            rate = (video.info.rate if video else None) or 0
            third = (most_waiting - math.ceil(self.rule(settings).ahead * rate)) // 3
            batch = max(1, min(batch, third // stride))
            depth = max(1, min(depth, third))
        rule = self.rule(settings, batch)
        cache = FrameCache(settings, rule, audio, finder)
        start = Start(video, rule, settings.start) if video and settings.start else None
        with closing(read_ahead(frames, origin, resize, depth, finder, start)) as small_frames:
            batches = self.engine.batches(cache.windows(small_frames), batch)
            maps = filled(batches, Smoothing(rule.smoothing, rule.smoothing_ahead))
            yield from self.postprocess(maps, settings, finder.changes if finder else ())

    def postprocess(
        self, maps: Iterable[FrameMap], settings: PredictSettings, cuts: Sequence[Cut] = ()
    ) -> Iterator[SaliencyFrame]:
        """Bring log-densities to the wanted size, number the shots between `cuts`, and end the last
        frame of a part with the part.

        Raises:
            WeightsError: a map is not finite.
        """
        end = None if settings.end is None else exact_seconds(settings.end)
        numbers = ShotNumbers(cuts)
        for frame, log_density in maps:
            self._check_finite(log_density)
            info = dataclasses.replace(frame.info, shot=numbers.of(frame.info.index))
            height, width = settings.size.of_map(log_density.shape, info)
            density = to_density(log_density, (height, width))
            info = shown_until(info, None if end is None else info.pts - info.time + end)
            yield SaliencyFrame(info, log_density, density, frame.pixels)

    def _check_finite(self, log_density: np.ndarray) -> None:
        if not np.isfinite(log_density).all():
            name, precision = self.description.weights, self.description.precision
            cure = "" if precision == "fp32" else ", or --precision fp32"
            raise WeightsError(
                f"{name}: the network's maps are not finite numbers; the weights are damaged or "
                f"too large for {precision}; use other weights{cure}"
            )
