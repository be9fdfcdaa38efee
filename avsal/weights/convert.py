"""Importing checkpoints: whole networks, and encoders of other projects as a start for training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from avsal import models
from avsal.errors import UsageError, WeightsError
from avsal.models.variants import VARIANTS
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
    without_size,
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

# A buffer that is computed from the window's size, which may differ in the other project.
INDEX = "relative_position_index"
SWIN_WINDOW = (15, 13, 13)  # relative positions of an 8x7x7 window in time, height, width


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        path: the safetensors file.
        name: what `--weights` takes: a name, or the path of a file outside the user's folder.
        variant: the network.
        tensors: number of tensors in the file.
        dropped: number of tensors that were omitted.
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
    """Convert a checkpoint of a whole network to safetensors.

    Args:
        source: PyTorch checkpoint or safetensors file.
        variant: network variant or registry name; None detects it from names and shapes. Of
            variants that differ only in their input size, it is the one that the file name
            mentions, else the largest.
        output: the file to write; None means a named file in the user's folder.
        name: that name; None means the network's name, plus the fold in the file name unless it is
            the first.
        url: the address from which the file was downloaded.
        force: replace weights that were made from another file.

    Raises:
        WeightsError: the file is damaged, could run code, or does not fit the network.
        UsageError: unknown variant, or the name or the file already belongs to other weights.
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
    """Make the metadata that names the network, for `write_state`."""
    height, width = VARIANTS[variant].size
    return {"variant": variant, "size": f"{height}x{width}", "avsal": __version__}


def refuse_replacing(path: Path, digest: str) -> None:
    """Check that a file does not exist, or was made from the same source.

    Raises:
        UsageError: it has another content.
    """
    if not path.exists():
        return
    try:
        metadata = read_metadata(path)
    except WeightsError:
        metadata = {}
    if metadata.get("source_sha256") != digest:
        content = f"weights from {metadata['source']}" if "source" in metadata else "something else"
        raise UsageError(
            f"{path}: exists and contains {content}; choose another name, or --force to replace it"
        )


def _of_size(variant: str, sizes: set[str]) -> str:
    """Replace a variant by the one with the input size in `sizes`, if there is one."""
    network = without_size(VARIANTS[variant])
    fitting = [
        known.name
        for known in VARIANTS.values()
        if without_size(known) == network and {f"{known.height}x{known.width}"} == sizes
    ]
    return fitting[0] if fitting else variant


def describe_source(source: Path, digest: str, url: str | None = None) -> dict[str, str]:
    """Make the metadata that names the file that the weights are from, and its address."""
    named = {"source": file_name(url), "source_url": url} if url else {"source": source.name}
    return {**named, "source_sha256": digest}


def _local_name(variant: str, file: str) -> str:
    """Choose the name of weights in the user's folder; it must not mean the shipped weights."""
    row = find_row(variant)
    name = row.name if row else variant
    if row and row.sha256:  # only the file with this checksum may have the name
        name = f"{name}-own"
    return name_for(name, file)


def _detect_or_explain(state: State, source: Path) -> str:
    closest, diff = detect(state)
    if len(diff.missing) == len(expected_shapes(closest)):
        raise WeightsError(
            f"{source}: none of its {len(state)} names belongs to a network of avsal; to import a "
            "pretrained encoder, add --component motion, image or audio"
        )
    return closest


# --- encoders of other projects -----------------------------------------------------------------


# Parts that can be initialised from another project's weights, and the prefix of their names in the
# whole network.
COMPONENTS = {"motion": "visnet.", "image": "image_encoder.encoder.", "audio": "audnet."}


def import_component(
    source: Path,
    component: str,
    variant: str,
    output: Path,
    *,
    url: str | None = None,
    force: bool = False,
) -> Imported:
    """Convert another project's checkpoint to weights of one encoder, named as in the network.

    `network.load_state_dict(state, strict=False)` loads them and leaves the other weights alone.

    Args:
        source: PyTorch checkpoint, safetensors, or a Caffe2 pickle (SlowFast) with suffix .pkl.
        component: "motion", "image" or "audio".
        variant: network variant or registry name with that encoder.
        output: the safetensors file to write.
        url: the address from which the file was downloaded; its suffix counts.
        force: replace a file that was made from another one.

    Raises:
        WeightsError: the file is damaged, could run code, or does not fit the encoder.
        UsageError: unknown component or variant, no such encoder in the variant, or `output` has
            another content.
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
    """Return the name of a variant's encoder for a component.

    Raises:
        UsageError: no such component, or the variant has none.
    """
    if component not in COMPONENTS:
        raise UsageError(f"component {component}: give one of {', '.join(COMPONENTS)}")
    network = VARIANTS[variant]
    audio = "resnet18" if network.audio else None
    encoder = {"motion": network.motion, "image": network.image, "audio": audio}[component]
    if encoder is None:
        raise UsageError(f"{variant} has no {component} encoder; choose another --variant")
    return encoder


def translate(upstream: State, component: str, variant: str) -> tuple[Layout, State]:
    """Convert upstream weights to the names and shapes of a network.

    The layout whose names match best is used.

    Raises:
        WeightsError: they do not fit.
        UsageError: avsal knows no layout for the encoder, or the variant has no such encoder.
    """
    encoder, prefix = encoder_of(component, variant), COMPONENTS[component]
    if encoder not in LAYOUTS:
        raise UsageError(f"avsal knows no other project's names for the encoder {encoder}")
    shapes = expected_shapes(variant)
    expected = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    readings = [(layout, _rename(upstream, layout, prefix)) for layout in LAYOUTS[encoder]]
    layout, renamed = min(readings, key=lambda reading: len(expected.keys() ^ reading[1].keys()))
    if not expected.keys() & renamed.keys():
        known = ", ".join(layout.project for layout, _ in readings)
        raise WeightsError(f"none of its names belongs to {encoder}; known layouts: {known}")
    state = _derived(expected, variant)
    for name, tensor in renamed.items():
        if not name.endswith(INDEX):
            state[name] = fit(name, tensor, expected[name]) if name in expected else tensor
    if diff := compare(expected, shapes_of(state)):
        raise WeightsError(f"read as {layout.project}, does not fit {encoder}: {diff}")
    return layout, state


def _rename(upstream: State, layout: Layout, prefix: str) -> State:
    renamed = {layout.rename(name): tensor for name, tensor in upstream.items()}
    return {prefix + name: tensor for name, tensor in renamed.items() if name is not None}


def _derived(expected: Shapes, variant: str) -> State:
    """Make the buffers that are the same in every network of this architecture."""
    state = {name: torch.tensor(0) for name in expected if name.endswith(COUNTER)}
    if any(name.endswith(INDEX) for name in expected):
        own = models.build(variant).state_dict()
        state |= {name: own[name] for name in expected if name.endswith(INDEX)}
    return state


# --- tensors of other sizes ---------------------------------------------------------------------


def fit(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Convert an upstream tensor to the shape in our encoder, where that is meaningful.

    - MViT's tables for one axis (`rel_pos_*`) are resampled linearly.
    - Swin's tables for a window (`relative_position_bias_table`) are resampled in time and space;
      those of an image network are repeated over time, as in the VideoSwin paper (section 3.3).
    - Kernels of an image network are repeated over time and divided by the number of repetitions,
      so that a still video gives the image's output (Carreira and Zisserman 2017, section 2.4).
    - Axes of length 1 are added or removed.

    Other tensors are returned unchanged, so that the comparison of shapes reports them.
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
    """Resample (T * H * W, heads) to the published window, after repeating over time if T = 1.

    The file does not contain T, H and W. The window is assumed to be square, and T to be the
    smallest odd number that leaves an odd square.
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
    """Split the number of relative positions into T, H and W."""
    for length in range(1, positions + 1, 2):
        side = math.isqrt(positions // length)
        if length * side * side == positions and side % 2:
            return length, side, side
    return None
