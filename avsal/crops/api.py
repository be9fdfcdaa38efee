"""`avsal.reframe`: a video in another shape, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from avsal.crops import render
from avsal.crops.export import check_export, write_export
from avsal.crops.file import check_edited, name_part, path_beside, read_head
from avsal.crops.settings import Fill, Fit, Motion, ReframeSettings, find_preset, parse_size
from avsal.errors import UsageError, path_of
from avsal.media.video import VideoReader
from avsal.prediction.predictor import Predictor
from avsal.prediction.settings import PredictSettings
from avsal.results.checks import check_source, choose_output
from avsal.results.gaze import MapSource

File = str | os.PathLike[str]
Progress = Callable[[str, int, int | None], None]  # step, frames done, frames in all if known


def reframe(
    video: File,
    output: File | None = None,
    *,
    aspect: str | None = None,
    motion: str = Motion.STEADY,
    fit: str | None = None,
    pad: str | None = None,
    zoom: float = 1.0,
    preset: str | None = None,
    size: str | tuple[int, int] | None = None,
    crf: int = 20,
    path: File | None = None,
    saliency: File | None = None,
    export: File | None = None,
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
    progress: Progress = lambda _step, _done, _total: None,
) -> Path:
    """Crop a video or image to another shape without losing what people look at.

    Sound, times and duration are kept. The crop of every frame is written next to the result, as
    NAME.reframe.json.

    Args:
        video: a file or an http(s) address.
        output: the file to write; None writes next to the video: NAME.9x16.mp4.
        aspect: shape of the result, "9:16" by default.
        motion: "steady" stays still unless moving keeps clearly more of the gaze, "follow" moves
            sooner, "still" never moves within a shot.
        fit: how to show a shot whose gaze does not fit into one crop. "crop", the default, crops
            nevertheless; "pad" shows more of the picture between bars; "split" shows two panels;
            "auto" chooses for each shot.
        pad: what the bars show, "blur" (the default) or "black"; alone it means fit "pad".
        zoom: crop closer by at most this factor, 1 to 4, where little gaze is lost.
        preset: "shorts", "reels", "square" or "portrait": the aspect and size for a platform.
        size: (width, height) or "1080x1920", size of the result; None is the preset's or the
            crop's.
        crf: quality of H.264, 0 to 51; lower means better quality and a larger file.
        path: an edited .reframe.json to render; no network runs.
        saliency: a folder of maps that `avsal predict` wrote; no network runs.
        export: also write the crop path for another program; see `avsal.crops.export`.
        force: replace an earlier result next to the video, and a path file that was edited.
        start, end, stride, audio_context, batch: see `avsal.prediction.PredictSettings`.
        model, weights, device, precision, offline, revision, engine: see `avsal.load_model`.
        progress: called with "gaze" or "video", the number of frames done, and of all frames (None
            if unknown).

    Returns:
        The file that was written.

    Raises:
        AvsalError: something cannot be read or written, or does not fit together.
    """
    video = path_of("video", video)
    place = None if output is None else path_of("output", output)
    path_file = None if path is None else path_of("path", path)
    check_path(path_file, aspect=aspect, preset=preset, motion=motion, fit=fit, zoom=zoom)
    check_path(path_file, saliency=saliency, start=start, end=end)
    if export is not None:
        check_export(path_of("export", export))
    settings = settings_of(aspect, motion, fit, pad, zoom, preset, size, crf)
    predict = PredictSettings(audio_context, stride, batch, start, end)
    source = MapSource(model, weights, device, precision, offline, revision, engine, predict)

    def count(step: str, total: int | None) -> Callable[[int], None]:
        return lambda done: progress(step, done, total)

    check_source(video)
    with VideoReader(video) as reader:
        shape = settings.aspect if path_file is None else read_head(path_file).aspect
        out = choose_output(video, reader.info.is_image, place, force, name_part(shape))
        if not force:
            check_edited(out, path_file)
        on_map, on_frame = (count(step, reader.info.frames) for step in ("gaze", "video"))
        if path_file is not None:
            render.rerender(reader, out, path_file, pad, settings.size, crf, on_frame)
        else:
            render.reframe(reader, out, settings, source.maps(saliency), on_map, on_frame)
    if export is not None:
        write_export(path_beside(out), export, video)
    return out


def settings_of(
    aspect: str | None,
    motion: str,
    fit: str | None,
    pad: str | None,
    zoom: float,
    preset: str | None,
    size: str | tuple[int, int] | None,
    crf: int,
) -> ReframeSettings:
    """The settings that the arguments of `reframe` mean.

    Raises:
        UsageError: one is out of its range, or two contradict each other.
    """
    shape = None if size is None else parse_size(size)
    if preset is not None:
        if aspect is not None:
            raise UsageError(f"aspect {aspect}: {preset} decides it already; omit one of them")
        aspect, usual = find_preset(preset)
        shape = shape or usual
    fit = fit or (Fit.CROP if pad is None else Fit.PAD)
    if pad is None and fit in (Fit.PAD, Fit.AUTO):
        pad = Fill.BLUR
    return ReframeSettings(aspect or "9:16", motion, zoom, fit, pad, shape, crf)


def check_path(path: File | None, **arguments: object) -> None:
    """Refuse arguments of `reframe` that a path file decides.

    Raises:
        UsageError: one of them is given together with a path.
    """
    defaults = {"motion": Motion.STEADY, "zoom": 1}
    for name, value in arguments.items():
        if path is not None and value not in (None, defaults.get(name)):
            word = "preset (--for)" if name == "preset" else name
            raise UsageError(f"{word}: {path} decides that already; omit one of them")
