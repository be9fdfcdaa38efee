"""Import of a pretrained encoder from another project, to start training from (section 4.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avsal import models
from avsal.errors import UsageError, WeightsError
from avsal.models.variants import VARIANTS, Variant
from avsal.weights.caffe2 import read_blobs
from avsal.weights.checkpoint import State, read_state, write_state
from avsal.weights.convert import Imported, describe, describe_source, resolve_variant
from avsal.weights.fitting import fit
from avsal.weights.keys import Shapes, compare, expected_shapes, shapes_of
from avsal.weights.upstream import LAYOUTS, Layout

# Buffers that follow from the architecture; upstream files lack some, or have them for another size
DERIVED = ("num_batches_tracked", "relative_position_index")


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


def import_component(source: Path, component: str, variant: str, output: Path) -> Imported:
    """Turn another project's checkpoint into weights of one encoder, under the network's names.

    `network.load_state_dict(state, strict=False)` puts them into a network; the rest of it stays.

    Args:
        source: PyTorch checkpoint, safetensors, or (SlowFast) a Caffe2 pickle called .pkl.
        component: "motion", "image" or "audio".
        variant: network variant or registry name whose encoder it is for.
        output: the safetensors file to write.

    Raises:
        WeightsError: the file is damaged, could run code, or does not fit the encoder.
        UsageError: no such component or variant, or the variant has no such encoder.
    """
    if component not in COMPONENTS:
        raise UsageError(f"component {component}: give one of {', '.join(COMPONENTS)}")
    name = resolve_variant(variant)
    part = COMPONENTS[component]
    encoder = part.encoder(VARIANTS[name])
    if encoder is None:
        raise UsageError(f"{name} has no {component} encoder; choose another --variant")
    upstream = read_blobs(source) if source.suffix == ".pkl" else read_state(source)[0]
    wanted = _part(expected_shapes(name), part.prefix)
    layout, state = _translate(upstream, wanted, encoder, source)
    state |= _derived(name, part.prefix, wanted)
    _require_fit(wanted, state, f"{source}: read as {layout.project}, does not fit {encoder}")
    metadata = {"component": component, "encoder": encoder, "layout": layout.project}
    whole = {part.prefix + key: state[key] for key in wanted}
    write_state(output, whole, {**describe(name), **metadata, **describe_source(source)})
    return Imported(output, str(output), name, len(whole), len(upstream) - len(whole))


def _part(shapes: Shapes, prefix: str) -> Shapes:
    return {n.removeprefix(prefix): shape for n, shape in shapes.items() if n.startswith(prefix)}


def _translate(upstream: State, wanted: Shapes, encoder: str, source: Path) -> tuple[Layout, State]:
    """Read the checkpoint in the layout whose names fit best."""
    readings = [(layout, _rename(upstream, layout)) for layout in LAYOUTS[encoder]]
    layout, renamed = min(readings, key=lambda reading: len(wanted.keys() ^ reading[1].keys()))
    if not wanted.keys() & renamed.keys():
        known = ", ".join(layout.project for layout, _ in readings)
        raise WeightsError(f"{source}: none of its names is one of {encoder}; known are: {known}")
    state = {
        name: fit(name, tensor, wanted[name]) if name in wanted else tensor
        for name, tensor in renamed.items()
        if not name.endswith(DERIVED)
    }
    return layout, state


def _rename(upstream: State, layout: Layout) -> State:
    renamed = {layout.rename(name): tensor for name, tensor in upstream.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}


def _derived(variant: str, prefix: str, wanted: Shapes) -> State:
    """The buffers that every network of this architecture has alike."""
    names = [name for name in wanted if name.endswith(DERIVED)]
    own = models.build(variant).state_dict() if names else {}
    return {name: own[prefix + name] for name in names}


def _require_fit(wanted: Shapes, state: State, text: str) -> None:
    if diff := compare(wanted, shapes_of(state)):
        raise WeightsError(f"{text}: {diff}")
