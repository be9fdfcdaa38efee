"""Video in, one saliency map a frame out: decoding, the network and post-processing together."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from avsal import media, models
from avsal.errors import MediaError
from avsal.media.frames import FrameTag
from avsal.prediction.cache import FeatureCache
from avsal.prediction.device import (
    automatic_batch,
    choose_device,
    choose_precision,
    precision_name,
    slow_precision,
)
from avsal.prediction.feed import AudioSource, Frame, WindowFeed, WindowInput
from avsal.prediction.postprocess import interpolate, to_density
from avsal.prediction.saliency import SaliencyFrame
from avsal.prediction.settings import PredictSettings
from avsal.prediction.threads import run_ahead
from avsal.preprocess.windows import PAST_FRAMES
from avsal.weights import load_weights

logger = logging.getLogger("avsal")

TaggedMap = tuple[FrameTag, torch.Tensor]  # a frame and its (h, w) log-density

POSTPROCESS = 8  # maps that are brought to display size together
WINDOWS_AHEAD = 4  # windows that the decoding thread may be in front of the network


@dataclass(frozen=True)
class Description:
    """What made the maps: the part of a result's description that belongs to the network."""

    model: str
    weights: str
    weights_sha256: str
    device: str
    precision: str


class Predictor:
    """A network with its weights on a device, ready for any number of videos."""

    def __init__(
        self,
        network: models.MSPI,
        variant: models.Variant,
        device: torch.device,
        precision: torch.dtype,
        origin: tuple[str, str] = ("unknown", ""),
    ) -> None:
        """Take a loaded network.

        Args:
            network: in the state in which `load_state_dict` leaves it; put into inference form.
            precision: number type of the network's products; the rest stays float32.
            origin: name and sha256 of the weights.
        """
        self.variant = variant
        self.device = device
        self.precision = precision
        self.origin = origin
        self.network = models.prepare_for_inference(network.eval()).to(device)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input and of its log-densities."""
        return self.variant.height, self.variant.width

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

    def predict(
        self,
        source: str | os.PathLike[str],
        settings: PredictSettings | None = None,
        **changes: Any,
    ) -> Iterator[SaliencyFrame]:
        """Predict a video file or a still image, frame by frame and in constant memory.

        Args:
            source: path of anything FFmpeg decodes.
            settings: see `PredictSettings`; keyword arguments replace single fields.

        Yields:
            One `SaliencyFrame` for every frame from start to end.

        Raises:
            MediaError: the file cannot be read, or holds no frame in the wanted stretch.
            UsageError: a setting is out of its range.
        """
        settings = self.complete(dataclasses.replace(settings or PredictSettings(), **changes))

        def windows() -> Generator[WindowInput, None, None]:
            with ExitStack() as files:
                video = files.enter_context(
                    media.VideoReader(source, start=settings.start, lead=PAST_FRAMES)
                )
                audio = None
                if video.info.has_audio and self.uses_audio:
                    audio = files.enter_context(media.AudioReader(source, video.origin))
                yield from self._feed(video, audio, video.origin, settings)
                for note in (*video.warnings, *(audio.warnings if audio else ())):
                    logger.warning(note)

        empty = True
        for frame in self._predict(windows, settings):
            empty = False
            yield frame
        if empty:
            raise MediaError(f"{source}: no frame at or after {settings.start or 0} s")

    def predict_frames(
        self,
        frames: Iterable[Frame],
        audio: AudioSource | None = None,
        settings: PredictSettings | None = None,
    ) -> Iterator[SaliencyFrame]:
        """Predict frames that are already decoded; see `predict`.

        Args:
            frames: in order; sample 0 of the sound is at the first one's time.
            audio: gives 16 kHz mono samples.
        """
        settings = self.complete(settings or PredictSettings())
        rest = iter(frames)
        first = next(rest, None)
        if first is None:
            return
        everything = itertools.chain([first], rest)
        yield from self._predict(
            lambda: self._feed(everything, audio, first.pts, settings), settings
        )

    def _feed(
        self,
        frames: Iterable[Frame],
        audio: AudioSource | None,
        origin: Fraction,
        settings: PredictSettings,
    ) -> Generator[WindowInput, None, None]:
        return WindowFeed(settings, self.size, audio, origin).windows(frames)

    def _predict(
        self, windows: Callable[[], Generator[WindowInput, None, None]], settings: PredictSettings
    ) -> Iterator[SaliencyFrame]:
        height, width = self.size
        batch = settings.batch or automatic_batch(
            self.device, height * width, self.precision, self.variant.cpu_batch
        )
        cache = FeatureCache(self.network, self.device, self.precision, batch)
        before: TaggedMap | None = None
        with closing(run_ahead(windows, max(WINDOWS_AHEAD, batch))) as ahead:
            for results in cache.batches(ahead):
                yield from self.postprocess(_filled(before, results), settings)
                inputs, log_density = results[-1]
                before = (inputs.tag, log_density)

    def postprocess(
        self, maps: Iterable[TaggedMap], settings: PredictSettings
    ) -> Iterator[SaliencyFrame]:
        """Post-process log-densities on the device, a few frames of one output size together."""
        for (_part, size), group in itertools.groupby(
            enumerate(maps),
            key=lambda entry: (entry[0] // POSTPROCESS, self._output_size(entry[1][0], settings)),
        ):
            tags, log_densities = zip(*(tagged for _place, tagged in group), strict=True)
            stacked = torch.stack(log_densities)
            densities = to_density(stacked, size).cpu().numpy()
            yield from map(SaliencyFrame, tags, stacked.cpu().numpy(), densities)

    def _output_size(self, tag: FrameTag, settings: PredictSettings) -> tuple[int, int]:
        if settings.size.kind == "video":
            return tag.height, tag.width
        if settings.size.kind == "model":
            return self.size
        return settings.size.height, settings.size.width


def _filled(
    before: TaggedMap | None, results: list[tuple[WindowInput, torch.Tensor]]
) -> Iterator[TaggedMap]:
    """The predicted maps, and between them those of skipped frames: interpolated by time, or where
    there is a cut between, the map of their own scene."""
    for inputs, later in results:
        first, earlier = before or (inputs.tag, later)
        span = inputs.tag.time - first.time
        for tag in inputs.skipped:
            share = float((tag.time - first.time) / span) if span else 1.0
            if inputs.cut is not None:
                share = float(tag.index >= inputs.cut)
            yield tag, interpolate(earlier, later, share)
        before = (inputs.tag, later)
        yield before


def load_model(
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    offline: bool = False,
    revision: str | None = None,
) -> Predictor:
    """Load a network with its weights.

    Args:
        name: a row of the weights registry such as "mspi-mvitv2s", or a network variant such as
            "s3d-224x384" (then `weights` says which weights); None takes the default.
        weights: path of a .safetensors or .pt file, a name in the registry, or "untrained".
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32", "fp16" or "bf16".
        offline: never ask the Hub, take what is on this machine.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        WeightsError: no weights, damaged weights, or weights of another network.
        UsageError: unknown name, device or precision.
    """
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    loaded = load_weights(name, weights, offline=offline, revision=revision)
    variant = models.VARIANTS[loaded.variant]
    network = models.build(variant.name)
    network.load_state_dict(loaded.state)
    for note in (*loaded.notes, *slow_precision(dtype, where)):
        logger.warning(note)
    return Predictor(network, variant, where, dtype, (loaded.name, loaded.sha256))
