"""Checkpoints to weights of avsal: whole networks, and single encoders of other projects.

An encoder is imported so that training can start from it (section 4.3).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from avsal import models
from avsal.errors import UsageError, WeightsError
from avsal.models.variants import VARIANTS, Variant
from avsal.version import __version__
from avsal.weights.loading import (
    COUNTER,
    Shapes,
    check,
    check_values,
    compare,
    detect,
    expected_shapes,
    shapes_of,
    whole_network,
    without_heads,
)
from avsal.weights.places import user_folder
from avsal.weights.reading import read_metadata, sha256_of, unchanged
from avsal.weights.registry import (
    SUFFIX,
    file_name,
    find_row,
    name_for,
    require_free,
    resolve_variant,
    sizes_in,
)
from avsal.weights.state import State, read_state, write_state
from avsal.weights.upstream import LAYOUTS, Layout, read_blobs

# A buffer that follows from the window's size, which may differ in the other project.
INDEX = "relative_position_index"
SWIN_WINDOW = (15, 13, 13)  # relative positions of an 8x7x7 window in time, height, width


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        path: the safetensors file.
        name: by which `--weights` and `--model` find it, or the path of a file elsewhere.
        variant: the network that it belongs to.
        tensors: how many the file holds.
        dropped: number of training-head tensors that were omitted.
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
        variant: network variant or registry name; None detects it by names and shapes. Of two
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
    if row and row.sha256:  # the name means exactly that file
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


# --- encoders of other projects -----------------------------------------------------------------


@dataclass(frozen=True)
class Component:
    """A part of the network that can start from another project's weights."""

    prefix: str  # of its names in the whole network
    encoder: Callable[[Variant], str | None]


COMPONENTS = {
    "motion": Component("visnet.", lambda variant: variant.motion),
    "image": Component("image_encoder.encoder.", lambda variant: variant.image),
    "audio": Component("audnet.", lambda variant: "resnet18" if variant.audio else None),
}


def import_component(
    source: Path,
    component: str,
    variant: str,
    output: Path,
    *,
    url: str | None = None,
    force: bool = False,
) -> Imported:
    """Turn another project's checkpoint into weights of one encoder, under the network's names.

    `network.load_state_dict(state, strict=False)` puts them into a network; the rest of it stays.

    Args:
        source: PyTorch checkpoint, safetensors, or (SlowFast) a Caffe2 pickle called .pkl.
        component: "motion", "image" or "audio".
        variant: network variant or registry name whose encoder it is for.
        output: the safetensors file to write.
        url: address that the file was downloaded from; a Caffe2 pickle is recognised by its suffix.
        force: replace a file that was made from another one.

    Raises:
        WeightsError: the file is damaged, could run code, or does not fit the encoder.
        UsageError: no such component or variant, the variant has no such encoder, or
            `output` holds something else.
    """
    name = resolve_variant(variant)
    encoder = encoder_of(component, name)
    caffe2 = (url or source.name).endswith(".pkl")
    with unchanged(source):
        upstream = read_blobs(source) if caffe2 else read_state(source)[0]
        digest = sha256_of(source)
    try:
        layout, state = translate(upstream, component, name)
        check_values(state, name, encoder)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
    if not force:
        refuse_replacing(output, digest)
    metadata = {"component": component, "encoder": encoder, "layout": layout.project}
    write_state(
        output, state, {**describe(name), **metadata, **describe_source(source, digest, url)}
    )
    return Imported(output, str(output), name, len(state), len(upstream) - len(state))


def encoder_of(component: str, variant: str) -> str:
    """Name of the encoder that a variant has for a component.

    Raises:
        UsageError: no such component, or the variant has none.
    """
    if component not in COMPONENTS:
        raise UsageError(f"component {component}: give one of {', '.join(COMPONENTS)}")
    encoder = COMPONENTS[component].encoder(VARIANTS[variant])
    if encoder is None:
        raise UsageError(f"{variant} has no {component} encoder; choose another --variant")
    return encoder


def translate(upstream: State, component: str, variant: str) -> tuple[Layout, State]:
    """Give upstream weights the names and shapes that they have in a network.

    The layout with the best match of names is used.

    Raises:
        WeightsError: they do not fit.
        UsageError: no layout is known for the encoder, or the variant has none.
    """
    encoder, prefix = encoder_of(component, variant), COMPONENTS[component].prefix
    if encoder not in LAYOUTS:
        raise UsageError(f"no project's names for the encoder {encoder} are known to avsal")
    shapes = expected_shapes(variant)
    wanted = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    readings = [(layout, _rename(upstream, layout, prefix)) for layout in LAYOUTS[encoder]]
    layout, renamed = min(readings, key=lambda reading: len(wanted.keys() ^ reading[1].keys()))
    if not wanted.keys() & renamed.keys():
        known = ", ".join(layout.project for layout, _ in readings)
        raise WeightsError(f"none of its names is one of {encoder}; layouts known: {known}")
    state = _derived(wanted, variant)
    for name, tensor in renamed.items():
        if not name.endswith(INDEX):
            state[name] = fit(name, tensor, wanted[name]) if name in wanted else tensor
    if diff := compare(wanted, shapes_of(state)):
        raise WeightsError(f"read as {layout.project}, does not fit {encoder}: {diff}")
    return layout, state


def _rename(upstream: State, layout: Layout, prefix: str) -> State:
    renamed = {layout.rename(name): tensor for name, tensor in upstream.items()}
    return {prefix + name: tensor for name, tensor in renamed.items() if name is not None}


def _derived(wanted: Shapes, variant: str) -> State:
    """Buffers that every network of this architecture has alike."""
    state = {name: torch.tensor(0) for name in wanted if name.endswith(COUNTER)}
    if any(name.endswith(INDEX) for name in wanted):
        own = models.build(variant).state_dict()
        state |= {name: own[name] for name in wanted if name.endswith(INDEX)}
    return state


# --- tensors of other sizes ---------------------------------------------------------------------


def fit(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Make an upstream tensor fit the shape that our encoder has, where that has a meaning.

    - MViT's tables of one axis (`rel_pos_*`) are resampled linearly.
    - Swin's tables of a window (`relative_position_bias_table`) are resampled in time and space;
      one of an image network is repeated over time, as the VideoSwin paper does (section 3.3).
    - Kernels of an image network are repeated over time and divided by its length, so that a still
      video gives what the image gave (Carreira and Zisserman 2017, section 2.4).
    - Axes of length 1 come and go.

    Anything else is given back as it is, for the comparison of shapes to report.
    """
    found = tuple(tensor.shape)
    if found == shape:
        return tensor
    if ".rel_pos_" in f".{name}" and found[1:] == shape[1:]:
        return _resample_axis(tensor, shape[0])
    if name.endswith("relative_position_bias_table") and found[1:] == shape[1:]:
        return _resample_window(tensor, shape)
    if len(found) == 4 and len(shape) == 5 and found == (*shape[:2], *shape[3:]):
        return tensor.unsqueeze(2).expand(shape) / shape[2]
    if [n for n in found if n > 1] == [n for n in shape if n > 1]:
        return tensor.reshape(shape)
    return tensor


def _resample_axis(table: torch.Tensor, length: int) -> torch.Tensor:
    """Resample (L, C) to (length, C)."""
    resampled = F.interpolate(table.float().T[None], size=length, mode="linear")
    return resampled[0].T.to(table.dtype)


def _resample_window(table: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Resample (T * H * W, heads) to the published window; one of T = 1 is repeated over time.

    The file does not say T, H and W: the window is assumed to be square, and its length in time to
    be the shortest odd one that leaves an odd square.
    """
    source = _window(table.shape[0])
    if source is None or shape[0] != math.prod(SWIN_WINDOW):
        return table
    volume = table.float().T.reshape(1, -1, *source)
    if source[0] == 1:
        volume = volume.expand(-1, -1, SWIN_WINDOW[0], -1, -1)
    resampled = F.interpolate(volume, size=SWIN_WINDOW, mode="trilinear")
    return resampled.reshape(-1, shape[0]).T.to(table.dtype)


def _window(positions: int) -> tuple[int, int, int] | None:
    """Split a number of relative positions into T, H and W."""
    for length in range(1, positions + 1, 2):
        side = math.isqrt(positions // length)
        if length * side * side == positions and side % 2:
            return length, side, side
    return None
