"""`avsal weights`: list, fetch, import, check and publish weights."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    help="List, pull, import, verify and push weights.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PIPE_WIDTH = 1000  # columns


class Component(StrEnum):
    """Encoders that training can start from."""

    MOTION = "motion"
    IMAGE = "image"
    AUDIO = "audio"


Name = Annotated[str | None, typer.Argument(help="Name of weights; the default's when left out.")]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of the Hub repository.")
]


@app.command("list")
def list_weights() -> None:
    """Show all known weights and where they are."""
    from avsal import weights
    from avsal.weights.places import other_imports

    table = _table("name", "network", "here", "licence", "source")
    for row in weights.REGISTRY.values():
        found = weights.locate(row)
        mark = " (default)" if row.name == weights.DEFAULT else ""
        where = found.where if found else "no"
        table.add_row(row.name + mark, row.variant, where, row.licence, row.source)
    for name in other_imports():
        table.add_row(name, "", "imported", "", str(weights.user_folder()))
    _print(table)


@app.command()
def pull(
    name: Name = None,
    revision: Revision = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only look into the Hub's cache.")
    ] = False,
) -> None:
    """Download weights from the Hub, unless they came with avsal, and print where they are."""
    from avsal import weights
    from avsal.weights import hub

    row = weights.get_row(name or weights.DEFAULT)
    found = weights.locate(row, revision)
    if found and found.where == "shipped":
        typer.echo(found.path)
    else:
        typer.echo(hub.pull(row, offline=offline, revision=revision))


@app.command("import")
def import_weights(
    file: Annotated[Path, typer.Argument(help="The authors' .pt file, or an encoder's.")],
    variant: Annotated[
        str | None, typer.Option("--variant", help="Network; told from the file if left out.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write here, not into avsal's folder."),
    ] = None,
    component: Annotated[
        Component | None,
        typer.Option(
            "--component",
            help="The file is this encoder of another project. Needs --variant and -o; training "
            "can start from the result.",
        ),
    ] = None,
) -> None:
    """Turn a checkpoint into safetensors, checked against its network."""
    from avsal import weights

    if component is None:
        made = weights.import_checkpoint(file, variant, output)
        typer.echo(
            f"{made.path}: {made.variant}, {made.tensors} tensors ({made.dropped} of training "
            f"heads left out); use it with --weights {made.name}"
        )
        return
    from avsal.errors import UsageError
    from avsal.weights.convert.component import import_component

    if variant is None or output is None:
        raise UsageError("--component needs --variant NAME and -o OUT.safetensors")
    made = import_component(file, component, variant, output)
    typer.echo(
        f"{made.path}: {component} encoder of {made.variant}, {made.tensors} tensors; upstream "
        f"tensors left out: {made.dropped}"
    )


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or files; all that are here if left out.")
    ] = None,
) -> None:
    """Read weights, compare them with their network and, where it is published, their sha256."""
    from avsal import weights
    from avsal.errors import AvsalError

    table = _table("weights", "network", "sha256", "result")
    failed = False
    for name in names or weights.present():
        try:
            loaded = weights.load_state(name, offline=True)
            table.add_row(name, loaded.variant, loaded.sha256, "fine")
        except AvsalError as error:
            failed = True
            table.add_row(name, "", "", str(error))
    _print(table)
    if failed:
        raise typer.Exit(1)


@app.command()
def path(name: Name = None, revision: Revision = None) -> None:
    """Print the path of weights that are on this machine, and nothing else."""
    from avsal import weights

    typer.echo(weights.resolve(name, offline=True, revision=revision))


@app.command()
def push(
    name: Annotated[str, typer.Argument(help="Name of weights, or a safetensors file.")],
    repo: Annotated[
        str | None,
        typer.Option("--repo", envvar="AVSAL_HUB_REPO", help="Hub repository, owner/name."),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="Name in the repository; as here if left out.")
    ] = None,
    revision: Revision = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the repository, private, if it is missing.")
    ] = False,
) -> None:
    """Upload weights to the Hub and print the commit and their sha256."""
    from avsal import weights
    from avsal.errors import UsageError
    from avsal.weights import hub

    if repo is None:
        raise UsageError("push needs --repo OWNER/NAME, or AVSAL_HUB_REPO")
    path = weights.resolve(name, offline=True)
    typer.echo(hub.push(path, repo, file or path.name, revision=revision, create=create))
    typer.echo(f"sha256 {weights.sha256_of(path)}")


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    """Print to stdout; into a pipe or file, each row is one line however long it is."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
