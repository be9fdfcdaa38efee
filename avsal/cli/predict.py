"""`avsal predict` and `avsal batch`."""

from __future__ import annotations

import functools
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from avsal.cli import console, options

if TYPE_CHECKING:
    from avsal.cli.run import Bars
    from avsal.results.isolated import Finished
    from avsal.results.plan import Job
    from avsal.results.work import Work

_ADDRESS = re.compile(r"(local|auto|ray://.+|[\w.-]+:\d+|\[[\da-fA-F:]+\]:\d+)")


class BatchCommand(TyperCommand):
    """Lets `--ray` be given without an address, which typer's options do not allow."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put "local" behind a --ray that no address follows."""
        for place, word in enumerate(args[: args.index("--")] if "--" in args else list(args)):
            if word == "--ray" and not _ADDRESS.fullmatch("".join(args[place + 1 : place + 2])):
                args.insert(place + 1, "local")
        return super().parse_args(ctx, args)


@options.grouped
def batch(
    *,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder of videos and images, with subfolders."),
    ],
    output: options.MapFolder,
    glob: Annotated[
        str | None,
        typer.Option("--glob", help='Only files that match, such as "*.mp4" (default: all).'),
    ] = None,
    files: options.Files,
    ray: options.Ray = None,
    ray_threads: options.RayThreads = 1,
    maps: options.Maps,
    windows: options.Windows,
    network: options.Network,
) -> None:
    """Predict every video and image of a folder; OUT mirrors its tree.

    The maps of sub/talk.mp4 are in OUT/sub/talk/, or in OUT/sub/talk.mp4/ if
    sub/ also has another file or a folder of videos called talk.
    """
    from avsal.cli.run import Run, exit_code, left_out, print_summary
    from avsal.results.plan import check_folder_name, plan_folder

    check_folder_name(output)
    work = _work(files, maps, windows, network, force=True)
    on_cluster = None if ray is None else functools.partial(_on_cluster, work, ray, ray_threads)
    with left_out([folder], files.as_json) as on_omitted:
        plan = plan_folder(folder, output, glob, on_omitted)
        outcomes = Run(work, True, files.as_json, on_cluster).files(plan)
    if not files.quiet:
        print_summary(outcomes, folder)
    raise typer.Exit(exit_code(outcomes))


def _work(
    files: options.Files,
    maps: options.Maps,
    windows: options.Windows,
    network: options.Network,
    force: bool,
) -> Work:
    """What is done with every file; see `avsal.results.work.Work` for `force`."""
    from avsal.results.formats import check_library
    from avsal.results.work import Work

    console.quiet = files.quiet
    settings, written = windows.settings(maps.size), maps.written()
    check_library(written.format)
    return Work(network.load, settings, written, files.skip_existing, console.debug, force)


def _on_cluster(
    work: Work, ray: str, threads: int, plan: list[Job], bars: Bars
) -> Generator[Finished, None, None]:
    from avsal.results.cluster import STRETCH, Worker, predict_on_cluster

    worker = Worker(work.load, work.settings, work.output, work.skip_existing, STRETCH)
    yield from predict_on_cluster(plan, worker, ray, threads, bars.maps_of_all)


Output = Annotated[
    Path | None,
    options.in_results(
        "--output",
        "-o",
        help="Folder for the results; the maps of NAME.mp4 are in OUT/NAME (default: saliency).",
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
    from avsal.results.plan import check_folder_name, plan_inputs

    if output is not None:
        check_folder_name(output)
    work = _work(files, maps, windows, network, force=files.force or output is not None)
    with piped(inputs, needs_output=False) as named, left_out(inputs, files.as_json) as on_omitted:
        plan = plan_inputs(named, output or Path("saliency"), "", on_omitted)
        run = Run(work, isolated=len(plan) > 1, as_json=files.as_json)
        code = exit_code(run.files(plan))
    raise typer.Exit(code)
