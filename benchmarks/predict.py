"""How much faster than the published loop, stage by stage.

    python benchmarks/predict.py [--precision bf16] [--engine openvino] [--runs 5]

The published loop runs the whole network in float32 once per frame: image encoder on all 16 frames,
with the training heads, one window at a time, on the layers as they are stored. Here the same
network, made from the same parts, is driven that way, in turn with avsal's own way, in one process
on one machine: A B A B ... The ratio is taken pair by pair, so it holds when the machine's speed
drifts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from avsal import models
from avsal.models.folding import convert_weights, prepare_for_inference
from avsal.models.network import SaliencyNetwork
from avsal.models.variants import VARIANTS
from avsal.prediction.inputs import BINS, COLUMNS
from avsal.prediction.windows import CLIP_FRAMES


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def network_of(whole: SaliencyNetwork, precision: str, engine: str) -> tuple[SaliencyNetwork, int]:
    """The network as avsal runs it, and the number of windows that it computes at once."""
    shared = models.build(whole.variant.name).eval()
    state = whole.state_dict()
    shared.load_state_dict({k: state[k] for k in shared.state_dict()})
    if engine == "openvino":
        from avsal.prediction.openvino_network import TranslatedEngine, translation

        made = TranslatedEngine(shared, translation(shared), precision)
        return made.network, made.automatic_batch(whole.variant.height * whole.variant.width)
    shared = prepare_for_inference(shared)
    return convert_weights(shared, torch.bfloat16) if precision == "bf16" else shared, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="mvitv2s-224x384", choices=VARIANTS)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--engine", default="torch", choices=("torch", "openvino"))
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    variant = VARIANTS[arguments.variant]

    torch.manual_seed(0)
    whole = models.build(variant.name, heads=True).eval()
    shared, at_once = network_of(whole, arguments.precision, arguments.engine)
    half = arguments.precision == "bf16" and arguments.engine == "torch"
    clip = torch.randn(1, 3, CLIP_FRAMES, variant.height, variant.width)
    spectrogram = torch.randn(1, 1, BINS, COLUMNS)

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        frames = clip[0, :, :at_once].transpose(0, 1)
        features = shared.image_features(clip[0].transpose(0, 1))
        inputs = [clip, *(part[None] for part in features), spectrogram]
        clips, *window, spectrograms = (torch.cat([each] * at_once) for each in inputs)

        def published() -> None:
            with torch.autocast("cpu", enabled=False):
                whole.forward_with_alignment(clip, spectrogram)

        def image() -> None:
            shared.image_features(frames)

        def rest() -> None:
            shared.forward_with_features(clips, tuple(window), spectrograms)

        def ours() -> None:
            image()
            rest()

        published(), ours()  # warm-up
        pairs = [(seconds(published), seconds(ours) / at_once) for _ in range(arguments.runs)]
        stages = {"image encoder, one frame": image, "the rest, one window": rest}
        parts = {
            name: statistics.median(seconds(work) for _ in range(arguments.runs)) / at_once
            for name, work in stages.items()
        }

    how = f"{arguments.precision} by {arguments.engine}, windows at once: {at_once}"
    print(f"{variant.name}, avsal in {how}, {torch.get_num_threads()} threads")
    print(f"published loop: {statistics.median(a for a, _ in pairs):.2f} s a frame (median)")
    print(f"avsal:          {statistics.median(b for _, b in pairs):.2f} s a frame (median)")
    ratios = sorted(a / b for a, b in pairs)
    print(f"ratio: median {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}")
    for name, value in parts.items():
        print(f"  {name}: {value:.3f} s")


if __name__ == "__main__":
    main()
