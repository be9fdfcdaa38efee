"""The default network as ONNX graphs.

One graph is run once for a frame, and one once for a window, with or without sound. Needs the
packages onnx and onnxscript.
"""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from avsal.models.folding import norms_after, prepare_for_inference
from avsal.models.graph_weights import ORIGINS, Origin, find_origin, uncovered
from avsal.models.network import SPECTROGRAM, STRIDE, normalise
from avsal.models.small import SmallNetwork, brightness

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
FRAME_OUTPUTS = ("stride8", "stride16", "deep", "gates", "brightness")
WINDOW_INPUTS = ("stride8", "stride16", "stride16_before", "deep", "gates", "brightness")
NOISE = 0.1  # relative, and as much of 1


class FrameGraph(nn.Module):
    """Pixels uint8 (1, H, W, 3) RGB -> what windows need of the frame, see `FRAME_OUTPUTS`."""

    def __init__(self, network: SmallNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        frames = normalise(pixels.permute(0, 3, 1, 2))
        stride8, stride16, deep = self.network.image_encoder(frames)
        return stride8, stride16, deep, self.network.visnet.gates(deep), brightness(frames)


class WindowGraph(nn.Module):
    """What a window needs of its four frames, and its sound -> log-density (1, H, W).

    stride8 and deep are of the last frame, stride16 of the last two, gates (4, 768, h, w) and
    brightness (4, 1, H/8, W/8) of all four, oldest first.
    """

    def __init__(self, network: SmallNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        stride8: torch.Tensor,
        stride16: torch.Tensor,
        stride16_before: torch.Tensor,
        deep: torch.Tensor,
        gates: torch.Tensor,
        brightness: torch.Tensor,
        spectrogram: torch.Tensor | None = None,
    ) -> torch.Tensor:
        motion = self.network.visnet.combine(stride16, stride16_before, deep, gates[None])
        features = (stride8[:, None], stride16[:, None], deep[:, None], brightness[None])
        fused = None if spectrogram is None else self.network._fuse(motion[-1], spectrogram)
        return self.network._decode(motion, features, fused, spectrogram)


def write_graphs(network: SmallNetwork, path: Path) -> None:
    """Write an archive of the graphs "frame", "silent" and "sound", and of their weights' origins.

    Heights and widths of frames may be any multiples of 32.

    Args:
        network: in evaluation mode. Its weights are changed, and it is put into inference form.

    Raises:
        ValueError: a weight stays in a graph as a constant without an origin.
    """
    _make_distinct(network)
    raw = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    norms = norms_after(network)
    prepare_for_inference(network)
    height, width = network.variant.size
    height_cells, width_cells = (torch.export.Dim(name, min=3, max=64) for name in "hw")

    def size(stride: int) -> dict[int, Any]:
        factor = STRIDE // stride
        return {2: factor * height_cells, 3: factor * width_cells}

    pixels = torch.zeros(4, height, width, 3, dtype=torch.uint8)
    with torch.inference_mode():
        stride8, stride16, deep, gates, bright = FrameGraph(network)(pixels)
    window = (stride8[:1], stride16[:1], stride16[:1].clone(), deep[:1], gates, bright)
    sizes = tuple(size(stride) for stride in (8, 16, 16, 32, 32, 8))
    frame = ({1: STRIDE * height_cells, 2: STRIDE * width_cells},)
    sound = torch.zeros(1, 1, *SPECTROGRAM)
    made = {
        "frame": _export(FrameGraph(network), (pixels[:1],), ("pixels",), FRAME_OUTPUTS, frame),
        "silent": _export(WindowGraph(network), window, WINDOW_INPUTS, ("log_density",), sizes),
        "sound": _export(
            WindowGraph(network),
            (*window, sound),
            (*WINDOW_INPUTS, "spectrogram"),
            ("log_density",),
            (*sizes, None),
        ),
    }
    state = {name: tensor.numpy() for name, tensor in raw.items()}
    origins = {name: _share_weights(graph, state, norms) for name, graph in made.items()}
    found = [origin for graph in origins.values() for origin in graph.values()]
    if lost := uncovered(found, state):
        raise ValueError(f"graphs hold values of {', '.join(lost)}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, graph in made.items():
            archive.writestr(f"{name}.onnx", graph.SerializeToString())
        archive.writestr(ORIGINS, json.dumps(origins))


def _make_distinct(network: nn.Module) -> None:
    """Change all weights a little at random: an exporter makes one constant of equal ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                noise = NOISE * torch.randn(tensor.shape, generator=generator)
                tensor.mul_(1 + noise.abs())
                if not name.endswith("running_var"):  # which stays positive
                    tensor.add_(noise)


def _export(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    sizes: tuple[Any, ...],
) -> ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            inputs,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=sizes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _share_weights(
    graph: ModelProto, state: dict[str, np.ndarray], norms: dict[str, str]
) -> dict[str, Origin]:
    """Take the weights out of a graph and return their origins."""
    from onnx import TensorProto, numpy_helper

    origins: dict[str, Origin] = {}
    for constant in graph.graph.initializer:
        values = numpy_helper.to_array(constant)
        if values.dtype != np.float32:
            continue
        origin = find_origin(values, constant.name, state, norms)
        if origin is None:
            continue
        origins[constant.name] = origin
        constant.ClearField("raw_data")
        constant.data_location = TensorProto.EXTERNAL
        location = constant.external_data.add()
        location.key, location.value = "location", "weights"
    for node in graph.graph.node:  # where it was traced from
        del node.metadata_props[:]
    del graph.graph.value_info[:]
    return origins
