"""Import of a whole network: a published .pt becomes safetensors that say what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from avsal.errors import WeightsError
from avsal.models.variants import VARIANTS
from avsal.version import __version__
from avsal.weights.keys import check, check_values, detect, expected_shapes, without_heads
from avsal.weights.places import user_folder
from avsal.weights.reading import sha256_of, unchanged
from avsal.weights.registry import find_row, resolve_variant
from avsal.weights.state import State, read_state, write_state


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        path: the safetensors file.
        name: by which `--weights` and `--model` find it, or the path where it lies elsewhere.
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
) -> Imported:
    """Turn a checkpoint of a whole network into safetensors.

    Args:
        source: PyTorch checkpoint or safetensors file.
        variant: network variant or registry name; None tells it from the names and shapes, the
            larger input where two variants differ in that only.
        output: where to write; None takes the user's folder, where the weights have a name.
        name: that name; None takes the registry's for the network.
        url: address that the file was downloaded from.

    Raises:
        WeightsError: the file is damaged, could run code, or does not fit the network.
        UsageError: no such variant.
    """
    with unchanged(source):
        everything, metadata = read_state(source)
        digest = sha256_of(source)
    state = without_heads(everything)
    chosen = resolve_variant(variant) if variant else metadata.get("variant")
    if chosen not in VARIANTS:
        chosen = _detect_or_explain(state, source)
    check(state, chosen, source)
    check_values(state, chosen, source)
    name = name or _local_name(chosen)
    path = output or user_folder() / f"{name}.safetensors"
    write_state(path, state, {**describe(chosen), **describe_source(source, digest, url)})
    return Imported(
        path, str(path) if output else name, chosen, len(state), len(everything) - len(state)
    )


def describe(variant: str) -> dict[str, str]:
    """Metadata that says what the weights are for, for `write_state`."""
    height, width = VARIANTS[variant].size
    return {"variant": variant, "size": f"{height}x{width}", "avsal": __version__}


def describe_source(source: Path, digest: str, url: str | None = None) -> dict[str, str]:
    """Metadata that says which file the weights were taken from, and from which address."""
    sha256 = {"source_sha256": digest}
    if url is None:
        return {"source": source.name, **sha256}
    return {"source": PurePosixPath(unquote(urlsplit(url).path)).name, "source_url": url, **sha256}


def _local_name(variant: str) -> str:
    row = find_row(variant)
    return row.name if row else variant


def _detect_or_explain(state: State, source: Path) -> str:
    closest, diff = detect(state)
    if len(diff.missing) == len(expected_shapes(closest)):
        raise WeightsError(
            f"{source}: none of its {len(state)} names belongs to a network of avsal; a pretrained "
            "encoder is imported with --component motion, image or audio"
        )
    return closest
