"""`avsal predict`: a saliency map for every frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avsal.cli import console, options

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for the results; the maps of NAME.mp4 are in OUT/NAME (default: saliency).",
        rich_help_panel=options.RESULTS,
    ),
]


@options.grouped
def predict(
    *,
    inputs: options.Inputs,
    output: Output = None,
    files: options.Files,
    maps: options.Maps,
    windows: options.Windows,
    network: options.Network,
) -> None:
    """Write a saliency map for every frame, and saliency.json, to OUT/<name>/.

    OUT mirrors the trees of folders. With --output, earlier maps there are
    replaced; without it, only if --force is given.
    """
    from avsal.cli.run import Run, exit_code, left_out, piped
    from avsal.results.plan import plan_inputs
    from avsal.results.table import check_library
    from avsal.results.work import Work

    console.quiet = files.quiet
    settings, written = windows.settings(maps.size), maps.written()
    check_library(written.format)
    force = files.force or output is not None
    work = Work(network.load, settings, written, files.skip_existing, console.debug, force)
    with piped(inputs, needs_output=False) as named, left_out(inputs, files.as_json) as on_omitted:
        plan = plan_inputs(named, output or Path("saliency"), "", on_omitted)
        run = Run(work, isolated=len(plan) > 1, as_json=files.as_json)
        code = exit_code(run.files(plan))
    raise typer.Exit(code)
