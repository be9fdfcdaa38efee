"""`avsal.predict` and `avsal.overlay`: a video's saliency, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from avsal.media.sound import SoundFile
from avsal.media.video import VideoReader
from avsal.prediction.predictor import Prediction, Predictor
from avsal.prediction.settings import Size, expected_maps, with_changes
from avsal.prediction.style import ColorBy, Colormap, OverlayStyle
from avsal.results.gaze import MapSource
from avsal.results.overlay import matched, predicted, write_overlay
from avsal.results.plan import check_source, choose_output

File = str | os.PathLike[str]


def predict(
    video: File,
    *,
    start: float | None = None,
    end: float | None = None,
    stride: int | None = None,
    size: Size = "video",
    audio_context: int = 32,
    batch: int | None = None,
    model: str | Predictor | None = None,
    weights: File | None = None,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    revision: str | None = None,
    engine: str = "auto",
) -> Prediction:
    """Predict where people will look in a video or an image, frame by frame.

    Nothing is written. Memory stays constant, whatever the length.

    Args:
        video: a file or an http(s) address.
        start, end: part of the video, in seconds; its maps equal those of the whole.
        stride: run the network on every n-th frame and interpolate in between; None takes the
            network's own.
        size: of the maps: "video", "model", "640x360" or (640, 360).
        audio_context, batch: see `avsal.prediction.PredictSettings`.
        model: a network's name, or one that `avsal.load_model` loaded.
        weights, device, precision, offline, revision, engine: see `avsal.load_model`.

    Returns:
        An iterator of one `SaliencyFrame` for every frame; it may also be used in a `with`
        statement, which closes the file.

    Raises:
        AvsalError: the file cannot be read, or a setting is out of its range.
    """
    settings = with_changes(None, audio_context, stride, batch, start, end, size)
    source = MapSource(model, weights, device, precision, offline, revision, engine, settings)
    check_source(Path(video))
    return source.predictor.predict(video, settings)


def overlay(
    video: File,
    output: File | None = None,
    *,
    colormap: str = Colormap.TURBO,
    color_by: str = ColorBy.SHARE,
    alpha: float = 0.5,
    threshold: float | None = None,
    contours: bool = False,
    legend: bool | None = None,
    side_by_side: bool = False,
    crf: int = 20,
    saliency: File | None = None,
    force: bool = False,
    start: float | None = None,
    end: float | None = None,
    stride: int | None = None,
    audio_context: int = 32,
    batch: int | None = None,
    model: str | Predictor | None = None,
    weights: File | None = None,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    revision: str | None = None,
    engine: str = "auto",
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Path:
    """Draw the predicted gaze over a video and keep its sound, times and duration.

    Args:
        video: a file or an http(s) address.
        output: the file to write; None writes next to the video: NAME.saliency.mp4.
        colormap, color_by, alpha, threshold, contours, legend, side_by_side: see
            `avsal.prediction.style.OverlayStyle`.
        crf: quality of H.264, 0 to 51; lower means better quality and a larger file.
        saliency: a folder of maps that `avsal predict` wrote; no network runs.
        force: replace an earlier result next to the video.
        start, end, stride, audio_context, batch: see `predict`.
        model, weights, device, precision, offline, revision, engine: see `avsal.load_model`.
        progress: called with the frames done, and all frames if known.

    Returns:
        The file that was written.

    Raises:
        AvsalError: something cannot be read or written, or does not fit together.
    """
    style = OverlayStyle(colormap, alpha, color_by, threshold, contours, legend, side_by_side)
    settings = with_changes(None, audio_context, stride, batch, start, end)
    source = MapSource(model, weights, device, precision, offline, revision, engine, settings)
    check_source(Path(video))
    result = source.result(saliency)
    start, end = (start, end) if result is None else result.stretch(start, end)
    with VideoReader(Path(video), start=start) as frames:
        info, place = frames.info, None if output is None else Path(output)
        out = choose_output(Path(video), info.is_image, place, force)
        total = expected_maps(info.frames, info.rate, start, end)
        sound = None
        if result is not None:  # nobody but the writer reads the sound
            pairs = matched(frames, result, start, end)
        else:
            sound = SoundFile(Path(video)) if info.has_audio else None
            pairs = predicted(source.predictor, frames, settings, sound)
        part = start is not None or end is not None
        with closing(pairs):
            write_overlay(
                frames, out, pairs, style, crf, part, sound, lambda done: progress(done, total)
            )
    return out
