"""`avsal batch`: whole folders."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from avsal.cli import options
from avsal.prediction.settings import EngineName, Format, Precision, Scale

_ADDRESS = re.compile(r"(local|auto|ray://.+|[\w.-]+:\d+|\[[\da-fA-F:]+\]:\d+)")


class BatchCommand(TyperCommand):
    """Lets `--ray` be given without an address, which typer's options do not allow."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put "local" behind a --ray that no address follows."""
        for place, word in enumerate(args[: args.index("--")] if "--" in args else list(args)):
            if word == "--ray" and not _ADDRESS.fullmatch("".join(args[place + 1 : place + 2])):
                args.insert(place + 1, "local")
        return super().parse_args(ctx, args)


def batch(
    folder: Annotated[Path, typer.Argument(help="Folder of videos and images, with subfolders.")],
    output: options.Output,
    glob: Annotated[
        str | None,
        typer.Option("--glob", help='Only files that match, such as "*.mp4" (default: all).'),
    ] = None,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Keep results that are complete and were made with the same settings.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line per file to stdout.")
    ] = False,
    ray: options.Ray = None,
    ray_threads: options.RayThreads = 1,
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
    """Predict every video and image of a folder; OUT mirrors its tree.

    The maps of sub/talk.mp4 are in OUT/sub/talk/, or in OUT/sub/talk.mp4/ if
    sub/ also has another file or a folder of videos called talk.
    """
    from avsal.cli.console import counted, note
    from avsal.cli.run import Run, exit_code, print_summary
    from avsal.prediction.settings import MapSize, OutputSettings, PredictSettings
    from avsal.results.plan import plan_folder

    settings = PredictSettings(int(audio_context), stride, batch, start, end, MapSize.parse(size))
    network = options.Network(model, weights, device, precision, offline, revision, engine)
    written = OutputSettings(format, scale)
    run = Run(network.load, settings, written, True, skip_existing, as_json, ray, ray_threads)
    omitted: Counter[str] = Counter()
    plan = plan_folder(folder, output, glob, lambda reason: omitted.update([reason]))
    if not plan:
        note(f"{folder}: no videos or images found")
    outcomes = run.files(plan)
    if omitted and as_json:
        typer.echo(json.dumps({"source": str(folder), "status": "omitted", "reasons": omitted}))
    print_summary(outcomes, folder)
    if omitted:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(omitted.items()))
        note(f"{folder}: {counted(omitted.total(), 'file')} omitted ({reasons})")
    raise typer.Exit(exit_code(outcomes))
