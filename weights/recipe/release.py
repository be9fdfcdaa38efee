"""Convert trained weights to the shipped files: the weights and the network's graphs.

    python weights/recipe/release.py runs/small/whole.safetensors

Floating-point tensors become float16, which halves the file and changes no map by a gray level;
avsal converts them to float32. The graphs are for ONNX Runtime; they contain the scalar weights as
constants. Prints the sha256 for avsal/weights/registry.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from avsal.models import build
from avsal.models.graphs import write_graphs
from avsal.weights import read_state, sha256_of, write_state
from avsal.weights.state import State

OUTPUT = Path(__file__).parents[2] / "weights" / "avsal-small.safetensors"
VARIANT = "small-224x384"
NOTES = {
    "name": "avsal-small",
    "version": "6",
    "licence": "Apache-2.0",
    "trained_on": "gaze on OSIE, EyeCrowd, 32 windows of web pages and 29 videos; maps of UNISAL "
    "and of version 3 on clips and photographs; drawn pages",
    "initialised_from": "UNISAL (Droste et al. 2020, Apache-2.0)",
    "card": "weights/README.md",
}


def halve(state: State) -> State:
    """Convert floating-point tensors to float16.

    Raises:
        ValueError: a value is beyond float16's range.
    """
    halved = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    broken = [name for name, tensor in halved.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"{broken[0]} does not fit float16")
    return halved


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", type=Path, help="the last stage's file")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    state, metadata = read_state(arguments.weights)
    write_state(arguments.output, halve(state), {**metadata, **NOTES})
    network = build(VARIANT)
    network.load_state_dict(read_state(arguments.output)[0])
    write_graphs(network.eval(), arguments.output.with_suffix(".graphs.zip"))
    count = sum(tensor.numel() for tensor in state.values() if torch.is_floating_point(tensor))
    size = arguments.output.stat().st_size / 1e6
    print(f"{arguments.output}: {count / 1e6:.2f} M values, {size:.1f} MB")
    print(f"sha256 {sha256_of(arguments.output)}")


if __name__ == "__main__":
    main()
