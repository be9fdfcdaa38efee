"""`avsal weights`: list, download, import, verify and publish weights."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avsal import weights
from avsal.cli import console
from avsal.errors import AvsalError, UsageError, WeightsError

if TYPE_CHECKING:
    from rich.table import Table

    from avsal.weights import Imported, WeightsRow
    from avsal.weights.download import WebFile

app = typer.Typer(
    help="List, pull, import, verify and push weights.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Component(StrEnum):
    """Encoders that can be initialised from other projects' weights."""

    MOTION = "motion"
    IMAGE = "image"
    AUDIO = "audio"


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask about the licence.")]
Force = Annotated[
    bool, typer.Option("--force", help="Replace weights that were made from another file.")
]
Name = Annotated[str | None, typer.Argument(help="Name of weights (default: avsal-small).")]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of the Hub repository.")
]
Checkpoint = Annotated[
    str,
    typer.Argument(help="Checkpoint of a network or of an encoder: a file or its web address."),
]
Network = Annotated[
    str | None, typer.Option("--variant", help="Network (default: detected from the file).")
]
Place = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write to this file instead of avsal's folder."),
]
Part = Annotated[
    Component | None,
    typer.Option(
        "--component",
        help="Import this encoder of another project, as a start for training. Needs "
        "--variant and -o.",
    ),
]
OwnName = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Name for --weights and --model (default: the network's name, plus the fold "
        "unless it is 1).",
    ),
]


@app.command("list")
def list_weights() -> None:
    """List all known weights and where they are."""
    from avsal.weights.places import other_imports, shadowed

    table = _table("name", "network", "present", "licence", "source")
    for row in weights.REGISTRY.values():
        found = weights.locate(row)
        mark = " (default)" if row.name == weights.DEFAULT else ""
        where = found.where if found else "no"
        console.add_row(table, row.name + mark, row.variant, where, row.licence, row.source)
    for name in other_imports():
        console.add_row(table, name, *_imported(name))
    console.print_table(table)
    for path in shadowed():
        console.note(f"{path}: never used, because this name means the shipped weights; rename it")


def _imported(name: str) -> tuple[str, str, str, str]:
    """Cells of imported weights; those of a damaged file are empty, and `verify` says why."""
    from avsal.weights.places import imported
    from avsal.weights.reading import read_metadata

    metadata: dict[str, str] = {}
    if path := imported(name):
        with suppress(WeightsError):
            metadata = read_metadata(path)
    source = metadata.get("source") or str(weights.user_folder())
    return metadata.get("variant", ""), "imported", metadata.get("licence", ""), source


@app.command()
def pull(
    name: Name = None,
    revision: Revision = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not use the network.")] = False,
    fold: Annotated[
        int | None,
        typer.Option(
            "--fold",
            min=1,
            max=3,
            help="Fold of the authors' release, saved as NAME-foldN (default: fold 1, saved as "
            "NAME).",
        ),
    ] = None,
    asset: Annotated[
        str | None, typer.Option("--asset", help="File of the authors' release.")
    ] = None,
    force: Force = False,
    yes: Yes = False,
) -> None:
    """Download weights unless they are here, and print their path.

    They are downloaded from the Hugging Face Hub or, if they are not published
    there, from the authors' release.
    """
    from avsal.weights import places

    row = weights.get_row(name or weights.DEFAULT)
    chosen = fold is not None or asset is not None
    if chosen and not row.released:
        raise UsageError(f"{row.name} is not part of the authors' release; omit --fold and --asset")
    from_release = row.released and (chosen or not places.published(row))
    found = weights.locate(row, revision)
    in_cache = found is not None and found.where == "cached" and not (chosen or force)
    if found and (found.where == "shipped" or (from_release and in_cache)):
        console.say(str(found.path))
    elif from_release:
        console.say(str(_pull_release(row, fold, asset, offline, force, yes)))
    else:
        console.say(str(places.pull(row, offline=offline, revision=revision)))


def _pull_release(
    row: WeightsRow, fold: int | None, asset: str | None, offline: bool, force: bool, yes: bool
) -> Path:
    """Import the file of the authors' release that fits; if several fit, list them."""
    from avsal.weights import download, registry

    name = registry.name_for(row.name, asset or "", fold)
    path = weights.user_folder() / f"{name}.safetensors"
    if not force and download.is_here(path, asset):
        return path
    if offline:
        command = f"avsal weights pull {row.name}" + (f" --fold {fold}" if fold else "")
        raise WeightsError(f"{name}: not on this machine; run {command} without --offline")
    files = download.release_files(row)
    if asset:
        fitting = [download.pick(files, asset)]
    else:
        fitting = download.fitting_files(files, row, fold or registry.DEFAULT_FOLD)
    if len(fitting) != 1:
        for file in fitting or files:
            command = f"avsal weights pull {row.name} --asset {shlex.quote(file.name)}"
            console.note(f"{_megabytes(file.size)}  {command}")
        raise UsageError(
            f"{row.name}: {len(fitting) or 'no'} files in the release fit by name; choose one with "
            "--asset NAME"
        )
    download.check_choice(fitting[0], row, fold, chosen_by_hand=asset is not None)
    fold_unknown = "" if registry.folds_in(fitting[0].name) else ", its name mentions no fold"
    console.note(
        f"{fitting[0].url} ({_megabytes(fitting[0].size)}{fold_unknown}): "
        "the authors state no licence, so ask them before you publish or sell anything that you "
        "make with it"
    )
    _ask(yes)
    convert = partial(weights.import_checkpoint, variant=row.variant, name=name, force=True)
    return _import_from_web(fitting[0], convert).path


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "avsal cannot ask about the licence without a terminal; add --yes to download the file"
        )
    if not typer.confirm("Download it?", err=True):
        raise typer.Exit(1)


def _import_from_web(file: WebFile, convert: Callable[..., Imported]) -> Imported:
    """Download a file with a progress bar and import it."""
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    from avsal.weights.download import use_download

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, console=console.stderr, disable=not console.stderr.is_terminal
    ) as progress:
        task = progress.add_task("download", total=file.size)
        return use_download(
            file,
            lambda path: convert(path, url=file.url),
            lambda received, total: progress.update(task, completed=received, total=total),
        )


def _megabytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size / 1e6:.1f} MB"


@app.command("import")
def import_weights(
    file: Checkpoint,
    variant: Network = None,
    output: Place = None,
    component: Part = None,
    name: OwnName = None,
    force: Force = False,
) -> None:
    """Convert a checkpoint to safetensors and check that it fits its network."""
    from avsal.weights.download import WebFile

    given: dict[str, Any] = {"variant": variant, "output": output, "force": force}
    convert: Callable[..., Imported]
    if component is None:
        convert = partial(weights.import_checkpoint, name=name, **given)
    elif variant is None or output is None:
        raise UsageError("--component needs --variant NAME and -o OUT.safetensors")
    else:
        convert = partial(weights.import_component, component=component, **given)
    if name is not None and output is not None:
        raise UsageError("give --name or -o, not both: a name is for files in avsal's folder")
    if file.lower().startswith(("https://", "http://")):
        _check_address(file, name)
        imported = _import_from_web(WebFile(file, file), convert)
    else:
        imported = convert(Path(file))
    if component is None:
        console.say(
            f"{imported.path}: {imported.variant}, {imported.tensors} tensors ({imported.dropped} "
            f"of training heads omitted); use it with --weights {shlex.quote(imported.name)}"
        )
    else:
        console.say(
            f"{imported.path}: {component} encoder of {imported.variant}, {imported.tensors} "
            f"tensors; {imported.dropped} other tensors omitted"
        )


def _check_address(address: str, name: str | None) -> None:
    """Refuse what cannot become weights before it is downloaded."""
    from avsal.weights import registry

    if name is not None:
        registry.require_free(name)
    if registry.is_archive(registry.file_name(address)):
        raise UsageError(f"{address}: is an archive; download and unpack it, then import the file")


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names or files (default: all on this machine)."),
    ] = None,
) -> None:
    """Check that weights are readable, fit their network and have the published sha256."""
    table = _table("weights", "network", "sha256", "result")
    failed = False
    for name in names or weights.present():
        try:
            loaded = weights.load_state(name, offline=True)
            console.add_row(table, name, loaded.variant, loaded.sha256, "fine")
        except AvsalError as error:
            failed = True
            console.add_row(table, name, "", "", str(error))
    console.print_table(table)
    if failed:
        raise typer.Exit(1)


@app.command()
def path(name: Name = None, revision: Revision = None) -> None:
    """Print only the path of weights on this machine."""
    typer.echo(weights.resolve(name, offline=True, revision=revision))


@app.command()
def push(
    name: Annotated[str, typer.Argument(help="Name of weights, or a safetensors file.")],
    repo: Annotated[
        str | None,
        typer.Option("--repo", envvar="AVSAL_HUB_REPO", help="Hub repository, owner/name."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", help="Name in the repository (default: the file's name)."),
    ] = None,
    revision: Revision = None,
    create: Annotated[
        bool,
        typer.Option("--create", help="Create the repository, as a private one, if it is missing."),
    ] = False,
) -> None:
    """Upload weights to the Hub and print the commit and their sha256."""
    from avsal.weights import places

    if repo is None:
        raise UsageError("push needs --repo OWNER/NAME or AVSAL_HUB_REPO")
    path = weights.resolve(name, offline=True)
    typer.echo(places.push(path, repo, file or path.name, revision=revision, create=create))
    typer.echo(f"sha256 {weights.sha256_of(path)}")


def _table(*columns: str) -> Table:
    from rich.table import Column, Table

    headers = (Column(name, overflow="fold") for name in columns)
    return Table(*headers, box=None, pad_edge=False)
