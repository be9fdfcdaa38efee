"""Import of a whole network: a published .pt becomes safetensors that say what they are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from avsal.errors import UsageError, WeightsError
from avsal.models.variants import VARIANTS
from avsal.version import __version__
from avsal.weights.keys import (
    check,
    check_values,
    detect,
    expected_shapes,
    whole_network,
    without_heads,
)
from avsal.weights.names import file_name, name_for, require_free, sizes_in
from avsal.weights.places import SUFFIX, user_folder
from avsal.weights.reading import read_metadata, sha256_of, unchanged
from avsal.weights.registry import find_row, resolve_variant
from avsal.weights.state import State, read_state, write_state


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        path: the safetensors file.
        name: by which `--weights` and `--model` find it, or the path of a file elsewhere.
        variant: the network that it belongs to.
        tensors: how many the file holds.
        dropped: how many tensors of training heads were left out.
    """

    path: Path
    name: str
    variant: str
    tensors: int
    dropped: int


def import_checkpoint(
    source: Path,
    variant: str | None = None,
    output: Path | None = None,
    *,
    name: str | None = None,
    url: str | None = None,
    force: bool = False,
) -> Imported:
    """Turn a checkpoint of a whole network into safetensors.

    Args:
        source: PyTorch checkpoint or safetensors file.
        variant: network variant or registry name; None tells it from the names and shapes. Of two
            variants that differ in their input size only, it is the one in the file's name, else
            the larger one.
        output: where to write; None takes the user's folder, where the weights have a name.
        name: that name; None takes the registry's for the network, with the fold in the file's
            name unless it is the first.
        url: address that the file was downloaded from.
        force: replace weights that were made from another file.

    Raises:
        WeightsError: the file is damaged, could run code, or does not fit the network.
        UsageError: no such variant, a name that means other weights, or other weights are there.
    """
    if name is not None:
        require_free(name)
    with unchanged(source):
        everything, metadata = read_state(source)
        digest = sha256_of(source)
    everything = whole_network(everything, source)
    state = without_heads(everything)
    file = file_name(url or source.name)
    chosen = resolve_variant(variant) if variant else metadata.get("variant")
    if chosen not in VARIANTS:
        chosen = _of_size(_detect_or_explain(state, source), sizes_in(file))
    check(state, chosen, source, option="--variant")
    check_values(state, chosen, source)
    name = name or _local_name(chosen, file)
    path = output or user_folder() / f"{name}{SUFFIX}"
    if not force:
        refuse_replacing(path, digest)
    write_state(path, state, {**describe(chosen), **describe_source(source, digest, url)})
    return Imported(
        path, str(path) if output else name, chosen, len(state), len(everything) - len(state)
    )


def describe(variant: str) -> dict[str, str]:
    """Metadata that says what the weights are for, for `write_state`."""
    height, width = VARIANTS[variant].size
    return {"variant": variant, "size": f"{height}x{width}", "avsal": __version__}


def refuse_replacing(path: Path, digest: str) -> None:
    """Make sure that a file is not there yet, or was made from the same source.

    Raises:
        UsageError: it holds something else.
    """
    if not path.exists():
        return
    try:
        metadata = read_metadata(path)
    except WeightsError:
        metadata = {}
    if metadata.get("source_sha256") != digest:
        what = f"weights from {metadata['source']}" if "source" in metadata else "something else"
        raise UsageError(
            f"{path}: exists and holds {what}; choose another name, or --force to replace it"
        )


def _of_size(variant: str, sizes: set[str]) -> str:
    """The variant of the same network whose input size is the one in `sizes`, if there is one."""
    network = dataclasses.replace(VARIANTS[variant], name="", height=0, width=0)
    fitting = [
        known.name
        for known in VARIANTS.values()
        if dataclasses.replace(known, name="", height=0, width=0) == network
        and {f"{known.height}x{known.width}"} == sizes
    ]
    return fitting[0] if fitting else variant


def describe_source(source: Path, digest: str, url: str | None = None) -> dict[str, str]:
    """Metadata that says which file the weights were taken from, and from which address."""
    sha256 = {"source_sha256": digest}
    if url is None:
        return {"source": source.name, **sha256}
    return {"source": file_name(url or source.name), "source_url": url, **sha256}


def _local_name(variant: str, file: str) -> str:
    """The name of weights in the user's folder; one that does not mean the shipped weights."""
    row = find_row(variant)
    name = row.name if row else variant
    if row and row.sha256:  # the name stands for exactly that file
        name = f"{name}-own"
    return name_for(name, file)


def _detect_or_explain(state: State, source: Path) -> str:
    closest, diff = detect(state)
    if len(diff.missing) == len(expected_shapes(closest)):
        raise WeightsError(
            f"{source}: none of its {len(state)} names belongs to a network of avsal; a pretrained "
            "encoder is imported with --component motion, image or audio"
        )
    return closest
