"""`avsal.predict` and `avsal.overlay`: a video's saliency, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from avsal.errors import path_of
from avsal.media.sound import SoundFile
from avsal.media.video import VideoReader
from avsal.prediction.predictor import Prediction, Predictor
from avsal.prediction.settings import Size, check_crf, expected_maps, with_changes
from avsal.prediction.style import ColorBy, Colormap, OverlayForm, OverlayStyle
from avsal.results.checks import check_source, choose_folder, choose_output
from avsal.results.folder import Result
from avsal.results.gaze import Maps, MapSource, part_of
from avsal.results.overlay import (
    is_animation,
    matched,
    predicted,
    write_animation,
    write_overlay,
)
from avsal.results.plan import SHEET, STILL, STILLS_FOLDER
from avsal.results.stills import write_sheet, write_still, write_stills

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
        start, end: the part of the video, in seconds; its maps equal those of the whole video.
        stride: run the network on every n-th frame and interpolate in between; None is the
            network's own default.
        size: of the maps: "video" (as displayed), "model" (as predicted), "640x360" or (640, 360).
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
    check_source(path_of("video", video))
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
    still: bool = False,
    contact_sheet: bool = False,
    per_shot: bool = False,
    fps: float | None = None,
    width: int | None = None,
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

    Or, without sound, over an animated GIF or WebP, one still or a contact sheet.

    Args:
        video: a file or an http(s) address.
        output: the file to write; its suffix chooses the format: .mp4, .m4v, .mov, .mkv or .webm,
            .gif or .webp for an animation, .png, .jpg, .webp or .bmp for a picture. None writes
            next to the video: NAME.saliency.mp4.
        colormap, color_by, alpha, threshold, contours, legend, side_by_side: see
            `avsal.prediction.style.OverlayStyle`.
        still: write one picture: the mean gaze on the whole clip, over the frame whose own gaze is
            most like it. Next to the video it is NAME.saliency-still.jpg.
        contact_sheet: write one picture with 12 frames at even intervals, each with its gaze and
            its time. Next to the video it is NAME.saliency-sheet.jpg.
        per_shot: with `still`, write one picture of each shot into a folder, shot-001.jpg and so
            on; next to the video it is NAME.saliency-shots. With `contact_sheet`, show one frame of
            each shot with the mean gaze on the shot.
        fps, width: maximum frames per second and width in pixels of an animation; None is 15, and
            at most 640 pixels wide and high.
        crf: quality of H.264 (VP9 in .webm), 0 to 51; lower means better quality and a larger file.
        saliency: a folder of maps that `avsal predict` wrote; no network runs.
        force: replace an earlier result next to the video, or an earlier folder of stills.
        start, end, stride, audio_context, batch: see `predict`.
        model, weights, device, precision, offline, revision, engine: see `avsal.load_model`.
        progress: called with the number of frames done, and of all frames (None if unknown).

    Returns:
        The file or the folder that was written.

    Raises:
        AvsalError: something cannot be read or written, or does not fit together.
    """
    video = path_of("video", video)
    place = None if output is None else path_of("output", output)
    check_crf(crf)
    style = OverlayStyle(colormap, alpha, color_by, threshold, contours, legend, side_by_side)
    form = OverlayForm(still, contact_sheet, per_shot, fps, width)
    settings = with_changes(None, audio_context, stride, batch, start, end)
    source = MapSource(model, weights, device, precision, offline, revision, engine, settings)
    check_source(video)
    with VideoReader(video) as reader:
        info = reader.info
        out = _choose_place(video, info.is_image, place, form, force)
        maps = source.maps(saliency)
        total = expected_maps(info.frames, info.rate, *part_of(maps))

        def on_map(done: int) -> None:
            progress(done, total)

        if form.folder:
            write_stills(reader, maps, out, style, on_map)
        elif form.still:
            write_still(reader, maps, out, style, on_map)
        elif form.contact_sheet:
            write_sheet(reader, maps, out, style, form.per_shot, on_map)
        else:
            _draw_frames(reader, maps, out, style, form, crf, on_map)
    return out


def _choose_place(
    video: Path, is_image: bool, output: Path | None, form: OverlayForm, force: bool
) -> Path:
    """Where an overlay of this form goes; see `choose_output`."""
    if form.folder:
        return choose_folder(video, output, force, STILLS_FOLDER)
    if form.pictures:
        word = (SHEET if form.contact_sheet else STILL).lstrip(".")
        return choose_output(video, is_image, output, force, word, pictures=True)
    out = choose_output(video, is_image, output, force, animations=True)
    form.check(out, is_animation(out, is_image))
    return out


def _draw_frames(
    video: VideoReader,
    maps: Maps,
    out: Path,
    style: OverlayStyle,
    form: OverlayForm,
    crf: int,
    on_frame: Callable[[int], None],
) -> None:
    """Write a video or an animation, or draw over a still image; see `overlay`."""
    sound = None
    if isinstance(maps, Result):  # nobody but the writer reads the sound
        pairs = matched(video, maps)
    else:
        predictor, settings = maps
        sound = SoundFile(video.path) if video.info.has_audio else None
        pairs = predicted(predictor, video, settings, sound)
    with closing(pairs):
        if is_animation(out, video.info.is_image):
            write_animation(video, out, pairs, style, form.fps, form.width, on_frame)
        else:
            is_part = part_of(maps) != (None, None)
            write_overlay(video, out, pairs, style, crf, is_part, sound, on_frame)
