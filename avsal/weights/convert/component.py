"""Import of a pretrained encoder from another project, to start training from (section 4.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from avsal import models
from avsal.errors import UsageError, WeightsError
from avsal.models.variants import VARIANTS, Variant
from avsal.weights.convert.caffe2 import read_blobs
from avsal.weights.convert.fitting import fit
from avsal.weights.convert.network import Imported, describe, describe_source, refuse_replacing
from avsal.weights.convert.upstream import LAYOUTS, Layout
from avsal.weights.keys import Shapes, check_values, compare, expected_shapes, shapes_of
from avsal.weights.reading import sha256_of, unchanged
from avsal.weights.registry import resolve_variant
from avsal.weights.state import State, read_state, write_state

# A buffer that follows from the window's size, which upstream may have had differently.
INDEX = "relative_position_index"
COUNTER = "num_batches_tracked"  # old files lack it


@dataclass(frozen=True)
class Component:
    """A part of the network that can start from another project's weights."""

    prefix: str  # of its names in the whole network
    encoder: Callable[[Variant], str | None]


COMPONENTS = {
    "motion": Component("visnet.", lambda variant: variant.motion),
    "image": Component("image_encoder.encoder.", lambda variant: variant.image),
    "audio": Component("audnet.", lambda variant: variant.audio),
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
        url: address that the file was downloaded from; its end tells a Caffe2 pickle.
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

    The layout whose names fit best is taken.

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
