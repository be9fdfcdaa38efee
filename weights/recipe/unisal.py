"""Convert UNISAL's weights to the default network, with normalisation folded in.

    python weights/recipe/unisal.py --wheel UNPACKED -o runs/small/unisal.safetensors

UNPACKED is the unzipped wheel of pyautoflip 0.2.1. Normalisation and priors are those of UNISAL's
video training (DHF1K), or with `--domain SALICON` those for photographs. What UNISAL lacks (changes
between frames, sound) has small random weights or zeros, so that the new network's maps are those
of UNISAL.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from teacher import weights_file
from torch import nn

from avsal import models
from avsal.models.network import SaliencyNetwork
from avsal.models.small import DEEP, SKIP16, SMOOTHING
from avsal.weights import describe, write_state
from avsal.weights.convert import translate

VARIANT = "small-224x384"
WITH_ENCODER = "v4-s3d-224x224"  # any network with MobileNet-V2
BN_EPS = 1e-5
NO_HABIT = -20.0  # logit of the centre prior's share: the teacher's maps do not change
GATES = {"reset": "r", "update": "z", "new": ""}

State = dict[str, torch.Tensor]


class Upstream:
    """Read UNISAL's tensors, with a domain's normalisation folded into the convolutions."""

    def __init__(self, state: State, domain: str) -> None:
        self.state, self.domain = state, domain

    def folded(self, conv: str, norm: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weight and bias of a convolution combined with its normalisation."""
        weight = self.state[f"{conv}.weight"].double()
        bias = self.state.get(f"{conv}.bias", torch.zeros(len(weight))).double()
        if norm is not None:
            own = f"{norm}.bn_{self.domain}"
            name = own if f"{own}.weight" in self.state else norm
            scale, shift, mean, var = (
                self.state[f"{name}.{part}"].double()
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = scale / (var + BN_EPS).sqrt()
            weight = weight * factor.view(-1, 1, 1, 1)
            bias = (bias - mean) * factor + shift
        return weight.float(), bias.float()

    def fill(self, convs: list[nn.Conv2d], names: list[tuple[str, str | None]]) -> None:
        """Copy folded convolutions into ours, in order."""
        for conv, (name, norm) in zip(convs, names, strict=True):
            weight, bias = self.folded(name, norm)
            conv.weight.data.copy_(weight)
            assert conv.bias is not None
            conv.bias.data.copy_(bias)


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """Return a module's convolutions in the order of their names."""
    return [each for each in module.modules() if isinstance(each, nn.Conv2d)]


def fill_network(network: SaliencyNetwork, upstream: Upstream) -> None:
    """Copy UNISAL's weights into a network of the default variant."""
    encoder = translate(upstream.state, "image", WITH_ENCODER)[1]
    network.load_state_dict(
        {name: tensor for name, tensor in encoder.items() if "smooth" not in name}, strict=False
    )
    image, motion, decoder = network.image_encoder, network.visnet, network.decoder
    for ours, theirs in (("skip_8", "skip_4x"), ("skip_16", "skip_2x")):
        names = [(f"{theirs}.expansion.0", f"{theirs}.expansion.1")]
        names += [(f"{theirs}.reduction.0", f"{theirs}.reduction.1")]
        upstream.fill(convolutions(image.get_submodule(ours)), names)
    upstream.fill(convolutions(image.widen), [("cnn.features.18.0", "cnn.features.18.1")])
    prior = upstream.state[f"coarse_gaussians_{upstream.domain.lower()}"]
    image.prior.gaussians.data.copy_(prior)
    post = "post_cnn.inv_res.conv"
    upstream.fill(
        convolutions(image.reduce), [(f"{post}.0", f"{post}.1"), (f"{post}.3", f"{post}.4")]
    )
    _fill_recurrence(motion, upstream)
    _fill_decoder(decoder, upstream)


def _fill_recurrence(motion: nn.Module, upstream: Upstream) -> None:
    cell = "rnn.cell_list.0"
    for gate, letter in GATES.items():
        norm = f"norm_{letter}" if letter else "norm_out"
        for ours, kind, part in (("seen", "w", "x"), ("held", "u", "h")):
            conv = f"{cell}.{kind}_{letter}" if letter else f"{cell}.{kind}"
            names = [(f"{conv}.conv_dw", f"{conv}.sep_bn")]
            names += [(f"{conv}.conv_sep", f"{cell}.{norm}_{part}")]
            convs = convolutions(motion.get_submodule(f"{gate}_{ours}"))
            upstream.fill(convs, names)
            scale = upstream.state[f"{cell}.a_{letter or 'h'}_{part}"].flatten()
            convs[-1].weight.data *= scale.view(-1, 1, 1, 1)
            convs[-1].bias.data *= scale
            if ours == "seen":
                convs[-1].bias.data += upstream.state[f"{cell}.b_{letter or 'h'}"].flatten()
    upstream.fill(convolutions(motion.get_submodule("recall")), [("post_rnn.0", "post_rnn.1")])


def _fill_decoder(decoder: nn.Module, upstream: Upstream) -> None:
    for ours, theirs in (("middle", "upsampling_2"), ("fine", "post_upsampling_2")):
        convs = convolutions(decoder.get_submodule(ours))
        block = f"{theirs}.inv_res.conv"
        names = [(f"{block}.{each}", f"{block}.{each + 1}") for each in (0, 3, 6)]
        if ours == "middle":  # it also has inputs for changes, zero at first
            weight, bias = upstream.folded(*names.pop(0))
            first = convs.pop(0)
            first.weight.data.zero_()
            first.weight.data[:, : DEEP + SKIP16].copy_(weight)
            first.bias.data.copy_(bias)
        upstream.fill(convs, names)
    domain = upstream.domain.lower()
    upstream.fill([decoder.score], [(f"adaptation_{domain}.0", None)])
    kernel = upstream.state[f"smoothing_{domain}.weight"][0, 0]
    decoder.smooth.weight.data.copy_(phases(kernel)[:, None])


def phases(kernel: torch.Tensor, factor: int = 8) -> torch.Tensor:
    """Convert a smoothing kernel (41, 41) for an image enlarged by repeating pixels to kernels
    (7, 7) for the small image, one for each of the 64 positions in a pixel."""
    reach, margin = len(kernel) // 2, SMOOTHING // 2
    matrix = torch.zeros(factor, SMOOTHING, len(kernel))
    for place in range(factor):
        for tap in range(len(kernel)):
            matrix[place, (place + tap - reach) // factor + margin, tap] = 1
    return torch.einsum("pak,qbl,kl->pqab", matrix, matrix, kernel).flatten(0, 1)


def build_initial(wheel: Path, domain: str = "DHF1K") -> SaliencyNetwork:
    """Make the default network with UNISAL's weights; the others are random."""
    state = torch.load(weights_file(wheel), map_location="cpu", weights_only=True)
    network = models.build(VARIANT)
    fill_network(network, Upstream(state, domain))
    network.decoder.habit.share.data.fill_(NO_HABIT)
    network.decoder.listen.change.weight.data.zero_()
    network.decoder.listen.change.bias.data.zero_()
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--domain", default="DHF1K")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    torch.manual_seed(0)
    network = build_initial(given.wheel, given.domain)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_state(given.output, dict(network.state_dict()), describe(VARIANT))


if __name__ == "__main__":
    main()
