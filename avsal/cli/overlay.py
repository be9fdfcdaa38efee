"""`avsal overlay`: a heatmap over the video, with its sound."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import options
from avsal.errors import UsageError
from avsal.prediction.style import ColorBy, Colormap

if TYPE_CHECKING:
    from avsal.prediction.style import OverlayForm

in_looks = options.panel("Looks")
in_forms = options.panel("Pictures and animations")

Colors = Annotated[
    Colormap,
    in_looks(metavar="NAME", help=f"Colour map of the heatmap: {', '.join(Colormap)}."),
]
ColoredBy = Annotated[
    ColorBy,
    in_looks(
        help="What colours stand for: the share of the gaze inside, the same in every frame, or "
        "the density of each frame.",
    ),
]
Alpha = Annotated[
    float, in_looks(min=0, max=1, help="Opacity of the heatmap where it is strongest.")
]
Threshold = Annotated[
    float | None,
    in_looks(
        min=0,
        max=1,
        help="Draw only the smallest area that holds this share of the gaze (default: 0.85).",
    ),
]
Contours = Annotated[
    bool, in_looks("--contours", help="Draw lines around 25, 50 and 75 % of the gaze.")
]
Legend = Annotated[
    bool | None,
    in_looks(
        "--legend/--no-legend",
        help="Explain the colours in a corner (default: where the picture is large enough).",
    ),
]
SideBySide = Annotated[
    bool, in_looks("--side-by-side", help="Show the original frame to the left.")
]

Still = Annotated[
    bool,
    in_forms(
        "--still", help="Write one picture: the mean gaze on the whole clip, over a frame of it."
    ),
]
ContactSheet = Annotated[
    bool,
    in_forms(
        "--contact-sheet",
        help="Write one picture with 12 frames at even intervals, their gaze and their times.",
    ),
]
PerShot = Annotated[
    bool,
    in_forms(
        "--per-shot",
        help="With --still: one picture of each shot, in a folder. With --contact-sheet: one frame "
        "of each shot.",
    ),
]
Fps = Annotated[
    float | None,
    in_forms(metavar="N", help="Frames per second of a .gif or .webp, at most (default: 15)."),
]
Width = Annotated[
    int | None,
    in_forms(
        metavar="PIXELS",
        help="Width of a .gif or .webp, at most (default: 640, and 640 in height).",
    ),
]


@options.grouped
def overlay(
    *,
    inputs: options.Inputs,
    output: options.Output = None,
    files: options.Files,
    saliency: options.Saliency = None,
    colormap: Colors = Colormap.TURBO,
    color_by: ColoredBy = ColorBy.SHARE,
    alpha: Alpha = 0.5,
    threshold: Threshold = None,
    contours: Contours = False,
    legend: Legend = None,
    side_by_side: SideBySide = False,
    still: Still = False,
    contact_sheet: ContactSheet = False,
    per_shot: PerShot = False,
    fps: Fps = None,
    width: Width = None,
    crf: options.Crf = 20,
    windows: options.Windows,
    network: options.Network,
) -> None:
    """Draw the predicted gaze over a video and keep its sound, times and duration.

    The result of NAME.mp4 is NAME.saliency.mp4 next to it; in a folder of
    results it is NAME.mp4. A still image gives an image. The suffix of --output
    may also be .mkv, .mov or .webm, or .gif or .webp for an animation without sound.
    """
    from avsal.cli.run import run_on_files
    from avsal.media.suffixes import WRITABLE_STILLS
    from avsal.prediction.style import OverlayForm, OverlayStyle
    from avsal.results.api import overlay as draw

    windows.settings()  # what is wrong here is wrong for every file
    style = OverlayStyle(colormap, alpha, color_by, threshold, contours, legend, side_by_side)
    form = OverlayForm(still, contact_sheet, per_shot, fps, width)
    if form.folder:
        if output is not None and output.suffix.lower() in WRITABLE_STILLS:
            raise UsageError(f"{output}: --still --per-shot writes a folder; give a folder's name")
        files = replace(files, force=files.force or output is not None)  # only its own is replaced
    function = functools.partial(
        draw,
        **asdict(style),
        **asdict(form),
        crf=crf,
        **windows.keywords(),
    )
    code = run_on_files(function, inputs, output, _ending(form), files, network, saliency)
    raise typer.Exit(code)


def _ending(form: OverlayForm) -> str:
    """What follows the name of an input in that of its result; see `plan_inputs`."""
    from avsal.results.plan import BY_KIND, OVERLAY, SHEET, STILL, STILLS_FOLDER

    if form.folder:
        return STILLS_FOLDER
    return (SHEET if form.contact_sheet else STILL if form.still else OVERLAY) + BY_KIND
