"""Video in, one saliency map per frame out: decoding, the network and post-processing together."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from avsal.errors import MediaError, UsageError, WeightsError
from avsal.media.frames import FrameTag
from avsal.models.folding import prepare_for_inference
from avsal.models.network import SaliencyNetwork
from avsal.models.variants import Variant
from avsal.prediction.cache import FrameCache, WindowInput
from avsal.prediction.device import automatic_batch, precision_name
from avsal.prediction.forward import Forward
from avsal.prediction.live import LatestFrames
from avsal.prediction.postprocess import interpolate, to_density
from avsal.prediction.reader import read_ahead
from avsal.prediction.saliency import SaliencyFrame
from avsal.prediction.settings import MapSize, PredictSettings, expected_maps
from avsal.prediction.smoothing import Smoothing
from avsal.prediction.transfer import Fetched, behind
from avsal.preprocess.rules import Rule, rule_for
from avsal.preprocess.shape import input_size

if TYPE_CHECKING:
    from avsal.media.audio import AudioReader
    from avsal.media.frames import VideoFrame
    from avsal.media.info import VideoInfo
    from avsal.media.sound import SoundFile
    from avsal.media.video import VideoReader
    from avsal.shots import ShotFinder

logger = logging.getLogger("avsal")

TaggedMap = tuple[FrameTag, torch.Tensor]  # a frame and its (h, w) log-density

POSTPROCESS = 8  # maps that a GPU brings to display size together
ONE = Fraction(1)  # square pixels
GROUPS_AHEAD = 2  # of so many maps, that a GPU works on while the one before is written
WINDOWS_AHEAD = 4  # windows whose new frames may wait for the network


@dataclass(frozen=True)
class Description:
    """What made the maps: the part of a result's description that belongs to the network."""

    model: str
    weights: str
    weights_sha256: str
    device: str
    precision: str


class Prediction(Iterator[SaliencyFrame]):
    """The maps of one file, one after the other, and what is known of it before the first.

    Iterate to the end, or use it in a `with` statement, or call `close`; leaving early is fine.

    Attributes:
        info: the video's properties, see `avsal.media.VideoInfo`.
        total: number of maps that start, end and the video's headers let expect, None if untold.
        finder: finds the cuts of the frames that are read.
    """

    def __init__(
        self,
        info: VideoInfo,
        total: int | None,
        finder: ShotFinder,
        maps: Generator[SaliencyFrame, None, None],
        files: ExitStack,
    ) -> None:
        self.info = info
        self.total = total
        self.finder = finder
        self._maps = maps
        self._files = files

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
    """A network with its weights on a device, ready for any number of videos."""

    def __init__(
        self,
        network: SaliencyNetwork,
        variant: Variant,
        device: torch.device,
        precision: torch.dtype,
        origin: tuple[str, str] = ("unknown", ""),
    ) -> None:
        """Take a loaded network.

        Args:
            network: in the state in which `load_state_dict` leaves it; put into inference form.
            precision: compute dtype; below float32 by autocast, weights stay float32.
            origin: name and sha256 of the weights.
        """
        self.variant = variant
        self.device = device
        self.precision = precision
        self.origin = origin
        self.network = prepare_for_inference(network.eval()).to(device)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input and of its log-densities; where these follow the
        picture's shape, those of a picture of the same shape."""
        return self.variant.height, self.variant.width

    def input_size(self, height: int, width: int, sample_aspect: Fraction = ONE) -> tuple[int, int]:
        """(height, width) of the network's input and log-densities for a picture.

        Args:
            height, width: of the picture in pixels.
            sample_aspect: width to height of a displayed pixel.
        """
        return input_size(self.variant, height, width, sample_aspect)

    @property
    def uses_audio(self) -> bool:
        """Whether the network has an audio stream."""
        return self.network.uses_audio

    @property
    def description(self) -> Description:
        """Model, weights, device and precision, for people and for saved results."""
        name, sha256 = self.origin
        device, precision = str(self.device), precision_name(self.precision)
        return Description(self.variant.name, name, sha256, device, precision)

    def complete(self, settings: PredictSettings) -> PredictSettings:
        """Settings with what they leave to the network."""
        return dataclasses.replace(settings, stride=settings.stride or self.variant.stride)

    def open(
        self, source: str | os.PathLike[str] | VideoReader, settings: PredictSettings | None = None
    ) -> VideoReader:
        """Open a file's pictures for `predict`, from the first frame on that it needs.

        Args:
            source: a file, or its pictures where they are opened already and not yet read.

        Raises:
            MediaError: the file cannot be read.
        """
        from avsal.media.video import VideoReader
        from avsal.shots import LOOK_AHEAD

        settings = self.complete(settings or PredictSettings())
        seconds, lead = self.rule(settings).before
        video = source if isinstance(source, VideoReader) else VideoReader(source)
        if settings.start is not None:  # cuts are judged by as many frames before as behind
            video.skip_to(max(0.0, settings.start - float(seconds)), lead + LOOK_AHEAD)
        return video

    def rule(self, settings: PredictSettings) -> Rule:
        """How the network's windows are laid."""
        return rule_for(self.variant, settings.stride, self.batch(settings))

    def predict(
        self,
        source: str | os.PathLike[str] | VideoReader,
        settings: PredictSettings | None = None,
        held: int | None = None,
        sound: SoundFile | None = None,
        **changes: Any,
    ) -> Prediction:
        """Predict a video file or a still image, frame by frame and in constant memory.

        Args:
            source: path of anything FFmpeg decodes, or its pictures, opened and not yet read. It
                is opened now, once for its pictures and once for its sound where the network
                hears, and closed after the last map.
            settings: see `PredictSettings`; keyword arguments replace single fields.
            held: how many frames may be read and still have no map, besides those that the
                network needs for one map; None leaves it to the device's memory.
            sound: the file's sound where others read it too; None opens it if the network hears.

        Returns:
            An iterator of one `SaliencyFrame` for every frame from start to end, which also tells
            what is known of the video before the first one.

        Raises:
            MediaError: the file cannot be read; while iterating, too, and where it has no frame
                in the wanted stretch.
            UsageError: a setting is out of its range.
        """
        from avsal.media.audio import AudioReader
        from avsal.shots import ShotFinder

        settings = self.complete(dataclasses.replace(settings or PredictSettings(), **changes))
        with ExitStack() as opening:
            video = opening.enter_context(self.open(source, settings))
            audio = None
            if video.info.has_audio and self.uses_audio:
                audio = opening.enter_context(AudioReader(sound or video.path, video.origin))
            files = opening.pop_all()
        info = video.info
        total = expected_maps(info.frames, info.rate, settings.start, settings.end)
        finder = ShotFinder()
        maps = self._file_maps(video, audio, settings, finder, files, held)
        return Prediction(info, total, finder, maps, files)

    def batch(self, settings: PredictSettings) -> int:
        """Windows in one forward pass."""
        height, width = self.size
        return settings.batch or automatic_batch(
            self.device, height * width, self.precision, self.variant.cpu_batch
        )

    def predict_frames(
        self,
        frames: Iterable[VideoFrame],
        audio: AudioReader | None = None,
        settings: PredictSettings | None = None,
    ) -> Iterator[SaliencyFrame]:
        """Predict frames that are already decoded; see `predict`.

        Needs neither PyAV nor OpenCV. Where OpenCV or PySceneDetect is missing, maps of skipped
        frames know only those cuts that change colours coarsely.

        Args:
            frames: in order, numbered from 0, RGB uint8 (H, W, 3); they are taken in a thread.
            audio: gives 16 kHz mono samples like `avsal.media.AudioReader`, sample 0 at the time
                of the first frame; None for no sound.
            settings: see `PredictSettings`.

        Yields:
            One `SaliencyFrame` for every frame from start to end.

        Raises:
            UsageError: the numbers of the frames are not 0, 1, 2, ...
        """
        rest = iter(frames)
        first = next(rest, None)
        if first is not None:
            if first.index != 0:
                raise UsageError(f"the first frame has the number {first.index}; it must be 0")
            everything = itertools.chain([first], rest)
            settings = self.complete(settings or PredictSettings())
            cuts_matter = settings.stride != 1 or self.rule(settings).smoothing
            finder = _shot_finder() if cuts_matter else None
            size = self.input_size(*first.image.shape[:2])
            yield from self._maps(everything, audio, first.pts, size, settings, finder)

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
        rest = iter(frames)
        first = next(rest, None)
        if first is not None:
            everything, settings = itertools.chain([first], rest), self.complete(settings)
            height, width = first.image.shape[:2]
            size = self.input_size(height, width, sample_aspect)
            finder = _shot_finder()
            yield from self._maps(everything, audio, origin, size, settings, finder, held=0)

    def stream(
        self, frames: Iterable[VideoFrame], size: MapSize | None = None
    ) -> Iterator[SaliencyFrame]:
        """Predict frames as they come, always the latest one: for cameras and live streams.

        Where the network is slower than the frames come, those between get no map, though it
        sees them as the past of later ones. A map is thus late by two forward passes at most.
        Pictures alone count: sound belongs to a stretch of time that has not come yet. Needs
        neither PyAV nor OpenCV.

        Args:
            frames: in order, numbered from 0, RGB uint8 (H, W, 3); its iterator is used in a
                thread and waits until the next frame is there.
            size: size of the maps; None for that of the frames.

        Yields:
            A `SaliencyFrame` for the latest frame, until the frames end; the last one has a map.
        """
        settings = PredictSettings(stride=1, size=size or MapSize())
        forward = Forward(self.network, self.device, self.precision, batch=1)
        rule = self.rule(settings)
        with LatestFrames(frames, self.input_size, rule) as latest:
            batches = forward.batches(iter(latest.window, None))
            for tagged in _filled(batches, Smoothing(rule.smoothing)):
                yield from self.postprocess([tagged], settings)

    def _file_maps(
        self,
        video: VideoReader,
        audio: AudioReader | None,
        settings: PredictSettings,
        finder: ShotFinder,
        files: ExitStack,
        held: int | None,
    ) -> Generator[SaliencyFrame, None, None]:
        with files:
            empty, info = True, video.info
            size = self.input_size(info.height, info.width, info.sample_aspect)
            for frame in self._maps(video, audio, video.origin, size, settings, finder, held):
                empty = False
                yield frame
            if empty:
                raise MediaError(f"{video.path}: no frame at or after {settings.start or 0} s")
            for note in (*video.warnings, *(audio.warnings if audio else ())):
                logger.warning(note)

    def _maps(
        self,
        frames: Iterable[VideoFrame],
        audio: AudioReader | None,
        origin: Fraction,
        size: tuple[int, int],
        settings: PredictSettings,
        finder: ShotFinder | None = None,
        held: int | None = None,
    ) -> Iterator[SaliencyFrame]:
        batch, stride = self.batch(settings), settings.stride or 1
        depth, groups = max(WINDOWS_AHEAD, batch) * stride, GROUPS_AHEAD
        if held is not None:  # a third of them reads ahead, one is in the network, one behind it
            third = held // 3
            batch = max(1, min(batch, third // stride))
            depth = max(1, min(depth, third))
            groups = min(groups, third // POSTPROCESS)
        rule = self.rule(settings)
        cache = FrameCache(settings, rule, audio, finder)
        forward = Forward(self.network, self.device, self.precision, batch)
        with closing(read_ahead(frames, origin, size, depth, finder)) as small_frames:
            batches = forward.batches(cache.windows(small_frames))
            maps = _filled(batches, Smoothing(rule.smoothing))
            yield from self.postprocess(maps, settings, 0 if self._copies is None else groups)

    def postprocess(
        self, maps: Iterable[TaggedMap], settings: PredictSettings, ahead: int = 0
    ) -> Iterator[SaliencyFrame]:
        """Post-process log-densities on the device, a few frames of one output size together.

        Args:
            ahead: groups of frames that are started before the first one is waited for.

        Raises:
            WeightsError: a map is not finite.
        """
        for tags, fetched in behind(self._started(maps, settings), ahead):
            log_densities, densities = (tensor.numpy() for tensor in fetched.wait())
            self._check_finite(log_densities)
            yield from map(SaliencyFrame, tags, log_densities, densities)

    def _started(
        self, maps: Iterable[TaggedMap], settings: PredictSettings
    ) -> Iterator[tuple[tuple[FrameTag, ...], Fetched]]:
        """The frames' tags, their log-densities and densities, which may still be on their way."""
        together = 1 if self.device.type == "cpu" else POSTPROCESS
        for (_part, size), group in itertools.groupby(
            enumerate(maps),
            key=lambda entry: (entry[0] // together, _output_size(entry[1], settings)),
        ):
            tags, log_densities = zip(*(tagged for _place, tagged in group), strict=True)
            stacked = torch.stack(log_densities)
            yield tags, Fetched((stacked, to_density(stacked, size)), self._copies)

    def _check_finite(self, maps: np.ndarray) -> None:
        if not np.isfinite(maps).all():
            name, precision = self.description.weights, self.description.precision
            cure = "" if precision == "fp32" else ", or --precision fp32"
            raise WeightsError(
                f"{name}: the network's maps are not finite numbers; the weights are damaged or "
                f"too large for {precision}; use other weights{cure}"
            )


def _output_size(tagged: TaggedMap, settings: PredictSettings) -> tuple[int, int]:
    tag, log_density = tagged
    if settings.size.kind == "video":
        return tag.height, tag.width
    if settings.size.kind == "model":
        return log_density.shape[0], log_density.shape[1]
    return settings.size.height, settings.size.width


def _shot_finder() -> ShotFinder | None:
    """None where what it needs is not installed."""
    try:
        from avsal.shots import ShotFinder
    except ImportError:
        return None
    return ShotFinder()


def _filled(
    batches: Iterable[list[tuple[WindowInput, torch.Tensor]]], smoothing: Smoothing
) -> Iterator[TaggedMap]:
    """The predicted maps, and between them those of skipped frames: interpolated by time, or where
    there is a cut between, the map of their own scene."""
    before: TaggedMap | None = None
    for inputs, log_density in itertools.chain.from_iterable(batches):
        later = smoothing.add(inputs.tag.time, log_density, inputs.cut is not None)
        first, earlier = before or (inputs.tag, later)
        span = inputs.tag.time - first.time
        for tag in inputs.skipped:
            share = float((tag.time - first.time) / span) if span else 1.0
            if inputs.cut is not None:
                share = float(tag.index >= inputs.cut)
            yield tag, interpolate(earlier, later, share)
        before = (inputs.tag, later)
        if inputs.wanted:
            yield before
