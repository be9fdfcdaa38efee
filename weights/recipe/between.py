"""Interpolate between the weights before and after training.

    python weights/recipe/between.py FIRST LAST --share 1 --habit -2 -o OUT
    python weights/recipe/between.py FIRST LAST --share 0.27 --sound HEARD --gain 0.85 -o OUT
    python weights/recipe/between.py FIRST LAST --share 0.4 0.6 0.8 --cache DIR --data DIR

Interpolation preserves more of what FIRST has learned (Wortsman et al., CVPR 2022). The sound
stream may come from the file HEARD of `hear.py`; `--gain` scales its effect on the map. With one
share, the result is written. With a cache, the held-out sets are scored for each share.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from train import Data, load, means, save, scores

from avsal.models.network import SaliencyNetwork


def between(first: Path, last: Path, share: float, habit: float | None = None) -> SaliencyNetwork:
    """Make a network from `share` of LAST's weights, with a centre prior in all maps."""
    network, other = load(first), load(last).state_dict()
    state = network.state_dict()
    network.load_state_dict(
        {
            name: torch.lerp(tensor, other[name], share) if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        }
    )
    if habit is not None:
        network.decoder.habit.share.data.fill_(habit)
    return network


def take_sound(network: SaliencyNetwork, heard: SaliencyNetwork, gain: float) -> None:
    """Copy the sound stream, and multiply its effect on the map by `gain`."""
    network.audnet.load_state_dict(heard.audnet.state_dict())
    network.aud_vis_sync_block.load_state_dict(heard.aud_vis_sync_block.state_dict())
    network.decoder.listen.load_state_dict(heard.decoder.listen.state_dict())
    for parameter in network.decoder.listen.change.parameters():
        parameter.data.mul_(gain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("first", type=Path)
    parser.add_argument("last", type=Path)
    parser.add_argument("--share", type=float, nargs="+", required=True)
    parser.add_argument("--habit", type=float, help="logit of the share of the centre prior")
    parser.add_argument("--sound", type=Path, help="file that what hears is taken from")
    parser.add_argument("--encoder", type=Path, help="file that the image encoder is taken from")
    parser.add_argument("--gain", type=float, default=1.0, help="of what is taken from it")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--thin", type=int, default=6)
    parser.add_argument("--rows", action="store_true", help="file for the scores of every video")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if given.output is not None:
        network = between(given.first, given.last, given.share[0], given.habit)
        if given.sound is not None:
            take_sound(network, load(given.sound), given.gain)
        if given.encoder is not None:
            encoder = load(given.encoder).image_encoder.encoder
            network.image_encoder.encoder.load_state_dict(encoder.state_dict())
        save(given.output, network)
    if given.cache is not None:
        data = Data(given.cache, given.data, ("gaze", "osie", "eyecrowd"), everything=False)
        for share in given.share:
            network = between(given.first, given.last, share, given.habit)
            found = scores(network, data, network.frames, given.thin)
            print(share, json.dumps(means(found)), flush=True)
            if given.rows:
                print(json.dumps(found["gaze"]), flush=True)


if __name__ == "__main__":
    main()
