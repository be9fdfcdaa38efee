"""`avsal predict`: a saliency map for every frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avsal.cli import options
from avsal.prediction.settings import EngineName, Format, Precision, Scale


def predict(
    videos: Annotated[list[Path], typer.Argument(help="Videos or still images.")],
    output: options.Output = Path("saliency"),
    format: options.Format = Format.PNG,
    scale: options.Scale = Scale.FRAME,
    size: options.Size = "video",
    start: options.Start = None,
    end: options.End = None,
    stride: options.Stride = None,
    audio_context: options.AudioContext = options.SoundFrames.INFERENCE,
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = Precision.AUTO,
    batch: options.Batch = None,
    offline: options.Offline = False,
    revision: options.Revision = None,
    engine: options.Engine = EngineName.AUTO,
) -> None:
    """Write a saliency map for every frame, and saliency.json, to OUT/<name>/."""
    from avsal.cli.run import Run, exit_code
    from avsal.prediction.settings import MapSize, OutputSettings, PredictSettings
    from avsal.results.plan import plan_files, refuse_folders

    refuse_folders(videos)
    settings = PredictSettings(int(audio_context), stride, batch, start, end, MapSize.parse(size))
    network = options.Network(model, weights, device, precision, offline, revision, engine)
    plan = plan_files(videos, output)
    run = Run(network.load, settings, OutputSettings(format, scale), isolated=len(plan) > 1)
    raise typer.Exit(exit_code(run.files(plan)))
