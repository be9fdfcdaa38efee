"""`avsal evaluate`: scores against recorded gaze."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import console, options
from avsal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from avsal.evaluation.protocol import Outcome
    from avsal.evaluation.session import Watch
    from avsal.evaluation.sources import MapSource
    from avsal.evaluation.stimulus import Group, Stimulus
    from avsal.settings import PredictSettings

GAZE = "Gaze: one of these"
FOLD = "{fold}"  # stands for the fold's number in --weights

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="STAViS layout: video_frames, video_audio, annotations, fold_lists.",
        rich_help_panel=GAZE,
    ),
]
Database = Annotated[
    str,
    typer.Option(
        "--database",
        help="With --data: DIEM, Coutrot_db1, Coutrot_db2, AVAD, ETMD_av, SumMe or all.",
        rich_help_panel=GAZE,
    ),
]
Fold = Annotated[
    str, typer.Option("--fold", help="With --data: 1, 2, 3 or all.", rich_help_panel=GAZE)
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Image set: images with maps or fixations folders (SALICON, MIT1003), or with "
        "fixations.npz.",
        rich_help_panel=GAZE,
    ),
]
Split = Annotated[
    Path | None,
    typer.Option(
        "--split", help="With --images: file of names, or subfolder.", rich_help_panel=GAZE
    ),
]
Fixations = Annotated[
    Path | None,
    typer.Option(
        "--fixations",
        help="CSV of gaze on VIDEO: time (s), x, y (pixels or fractions), observer.",
        rich_help_panel=GAZE,
    ),
]
Annotations = Annotated[
    Path | None,
    typer.Option(
        "--annotations",
        help="With --predictions: folders of eyeMap and fixMap files, or maps and fixations.",
        rich_help_panel=GAZE,
    ),
]
Predictions = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        help="Score the maps in this folder (png, npy, results of avsal predict); no network runs.",
    ),
]
BaselinesOnly = Annotated[
    bool, typer.Option("--baselines-only", help="Score no maps beside the baselines.")
]
BlurShare = Annotated[
    float,
    typer.Option("--blur", help="Sigma of maps made of points, as share of the longer side."),
]
PixelsPerDegree = Annotated[
    float | None,
    typer.Option("--pixels-per-degree", help="Sigma is one visual degree of so many pixels."),
]


def evaluate(
    video: Annotated[Path | None, typer.Argument(help="Video that --fixations is about.")] = None,
    output: options.Output = Path("evaluation"),
    data: Data = None,
    database: Database = "all",
    fold: Fold = "all",
    images: Images = None,
    split: Split = None,
    fixations: Fixations = None,
    annotations: Annotations = None,
    predictions: Predictions = None,
    baselines_only: BaselinesOnly = False,
    blur: BlurShare = 0.035,
    pixels_per_degree: PixelsPerDegree = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Summary as JSON on stdout, not tables.")
    ] = False,
    stride: options.Stride = 1,
    audio_context: options.AudioContext = 32,
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch: options.Batch = None,
    offline: options.Offline = False,
    revision: options.Revision = None,
) -> None:
    """Score maps against recorded gaze, beside baselines; a second call goes on where it stopped.

    --weights may hold {fold}, which becomes the fold's number.
    """
    from avsal.datasets.points import Blur
    from avsal.settings import PredictSettings

    chosen = _Gaze(data, database, fold, images, split, fixations, video, annotations)
    chosen.check(predictions, baselines_only)
    settings = PredictSettings(audio_context, stride, batch)
    groups = chosen.groups(Blur(blur, pixels_per_degree))
    network = options.Network(model, weights, device, precision, offline, revision)
    source_for = _sources(network, settings, predictions, baselines_only)
    raise typer.Exit(_run(groups, source_for, output, as_json))
