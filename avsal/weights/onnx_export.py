"""Weights with their network as one ONNX file, which runs without avsal."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from avsal import atomic, models
from avsal.errors import UsageError, WeightsError
from avsal.models.network import SPECTROGRAM, STRIDE, SaliencyNetwork, normalise
from avsal.models.variants import VARIANTS, Variant
from avsal.version import __version__
from avsal.weights.loading import LoadedWeights, load_weights
from avsal.weights.registry import UNSTATED, find_row

if TYPE_CHECKING:
    from onnx import ModelProto

logger = logging.getLogger("avsal")

SUFFIX = ".onnx"
PACKAGES = ("onnx", "onnxscript")
TOLERANCE = 1e-4  # of log-densities
STEPS = 5  # frames of the stream that is compared
BLOCK = 16  # pixels of the pictures that are compared

SOUND = (
    "float32 (1, 1, 257, 111): log power spectrum of 1.11 s of mono sound at 16 kHz. FFT of 512 "
    "samples every 160, Hann window, logarithm of the power plus 1e-6; each column minus its mean, "
    "divided by its standard deviation"
)
LOG_DENSITY = (
    "float32 (1, H, W): logarithm of the probability that a viewer looks at each pixel; the "
    "exponentials sum to 1. avsal blurs it with an 11x11 Gaussian before it takes the exponential"
)
PIXELS = "RGB, 0 to 255; the ImageNet normalisation is part of the model"


@dataclass(frozen=True)
class Sample:
    """Inputs of a model by name, and the log-density (H, W) that the network gives for them."""

    inputs: dict[str, np.ndarray]
    expected: np.ndarray


def export_onnx(
    out: str | os.PathLike[str],
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    offline: bool = False,
    revision: str | None = None,
) -> None:
    """Write a network with its weights as one ONNX file.

    The file appears only if ONNX Runtime computes the same log-densities from it as PyTorch does
    from the network, within 1e-4.

    Args:
        out: a file that ends in .onnx; an older one is replaced.
        name, weights, offline, revision: see `avsal.load_model`.

    Raises:
        UsageError: a package is missing, the file's name has another suffix, or the network's name
            is unknown.
        WeightsError: no weights, or the model computes something else.
        OutputError: the file cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() != SUFFIX:
        raise UsageError(f"{out}: networks are written as {SUFFIX} files; choose such a name")
    if missing := [each for each in PACKAGES if importlib.util.find_spec(each) is None]:
        raise UsageError(f"onnx: needs {' and '.join(missing)}; pip install 'avsal[graphs]'")
    loaded = load_weights(name, weights, offline=offline, revision=revision)
    for note in loaded.notes:
        logger.warning(note)
    with torch.device("cpu"):  # whatever the host has set
        network = models.build(loaded.variant)
    network.load_state_dict(loaded.state)
    model, samples = _model_with_samples(network.eval())
    _describe(model, loaded)
    content = model.SerializeToString()
    _verify(content, samples, loaded.name)
    atomic.write_bytes(out, content)


def _model_with_samples(network: SaliencyNetwork) -> tuple[ModelProto, list[Sample]]:
    """The samples are of the network as it was loaded, before it is changed for the model."""
    from avsal.models.onnx_files import to_onnx

    make = _clip_samples if network.variant.spacing is None else _stream_samples
    with torch.inference_mode():
        samples = list(make(network))
    return to_onnx(network), samples


def _stream_samples(network: SaliencyNetwork) -> Iterator[Sample]:
    """A stream without sound in the network's own size, and one with sound in another."""
    height, width = network.variant.size
    random = np.random.default_rng(0)
    for size, gain in (((height, width), 0), ((width // 2 // STRIDE * STRIDE, 3 * STRIDE), 1)):
        frames = _pictures(random, STEPS, size)
        spectrogram = gain * random.standard_normal((1, 1, *SPECTROGRAM), np.float32)
        for step in range(STEPS):
            seen = [max(0, step - back) for back in reversed(range(network.frames))]
            inputs = {"frame": frames[step : step + 1], "spectrogram": spectrogram}
            yield Sample(inputs, _expected(network, frames[seen], spectrogram))


def _clip_samples(network: SaliencyNetwork) -> Iterator[Sample]:
    random = np.random.default_rng(0)
    frames = _pictures(random, network.frames, network.variant.size)
    spectrogram = random.standard_normal((1, 1, *SPECTROGRAM), np.float32)
    sound = {"spectrogram": spectrogram} if network.uses_audio else {}
    yield Sample({"clip": frames[None], **sound}, _expected(network, frames, spectrogram))


def _pictures(random: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """A pattern of blocks that moves down, with noise: uint8 (count, H, W, 3)."""
    height, width = size
    rows = random.integers(0, 200, (height // BLOCK + count, width // BLOCK, 3), np.uint8)
    blocks = rows.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    frames = np.stack([blocks[step * BLOCK // 2 :][:height] for step in range(count)])
    return frames + random.integers(0, 55, frames.shape, np.uint8)


def _expected(network: SaliencyNetwork, frames: np.ndarray, spectrogram: np.ndarray) -> np.ndarray:
    clip = normalise(torch.from_numpy(frames).permute(0, 3, 1, 2)).transpose(0, 1)[None]
    return network(clip, torch.from_numpy(spectrogram))[0].numpy()


def _verify(content: bytes, samples: list[Sample], name: str) -> None:
    """Run a model as its users will.

    Raises:
        WeightsError: its log-densities are not those of the network.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    channels = {each.name: each.shape[1] for each in session.get_inputs()}.get("state")
    state: np.ndarray | None = None
    for sample in samples:
        inputs = dict(sample.inputs)
        if channels is not None:
            cells = [side // STRIDE for side in sample.expected.shape]
            if state is None or list(state.shape[2:]) != cells:
                state = np.zeros((1, channels, *cells), np.float32)
            inputs["state"] = state
        log_density, *states = session.run(None, inputs)
        state = states[0] if states else None
        error = float(np.abs(log_density[0] - sample.expected).max())
        if not error <= TOLERANCE:  # true for NaN, too
            raise WeightsError(
                f"{name}: ONNX Runtime's log-densities differ from PyTorch's by {error:.2g}, which "
                f"is more than {TOLERANCE:g}; nothing was written; use other weights or another "
                "version of torch or onnxscript"
            )


def _describe(model: ModelProto, loaded: LoadedWeights) -> None:
    """Say in the model what it is and what goes in and out."""
    from onnx import helper

    variant, row = VARIANTS[loaded.variant], find_row(loaded.name)
    texts = _stream_texts(variant) if variant.spacing else _clip_texts(variant)
    own: dict[str, Any] = {
        **{key: value for key, value in loaded.metadata.items() if key != "format"},
        "name": loaded.name,
        "variant": variant.name,
        "weights_sha256": loaded.sha256,
        "made_by": f"avsal {__version__}",
    }
    own.setdefault("licence", row.licence if row else UNSTATED)
    own.setdefault("source", row.source if row else "unknown")
    helper.set_model_props(model, {**own, **texts})
    model.producer_name, model.producer_version = "avsal", __version__
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = texts[value.name]


def _stream_texts(variant: Variant) -> dict[str, str]:
    height, width = variant.size
    return {
        "frame": f"uint8 (1, H, W, 3): {PIXELS}. Height and width are multiples of {STRIDE}, with "
        f"the picture's shape and about {height * width} pixels, such as {height}x{width}",
        "state": "float32 (1, channels, H/32, W/32): zeros for the first frame, then new_state of "
        f"the call for the frame {variant.spacing} s before",
        "spectrogram": f"{SOUND}. It ends at the frame; all zeros for no sound",
        "log_density": f"{LOG_DENSITY}, and averages over time: live with weights exp(-t / "
        f"{variant.smoothing_live} s) of earlier maps, in files with exp(-t / {variant.smoothing} "
        f"s) of earlier and exp(-t / {variant.smoothing_ahead} s) of later ones",
        "new_state": "as state",
        "seconds_between_frames": str(variant.spacing),
    }


def _clip_texts(variant: Variant) -> dict[str, str]:
    height, width = variant.size
    return {
        "clip": f"uint8 (1, {variant.frames}, {height}, {width}, 3): {PIXELS}. Neighbouring "
        "frames of the video, resized without keeping their shape; the last one is predicted",
        "spectrogram": f"{SOUND}; columns without sound hold 0.02. It begins at the first frame",
        "log_density": LOG_DENSITY,
    }
