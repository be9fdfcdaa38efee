"""Fine-tune the image encoder, and the layers that still pictures use, on photographs.

    python weights/recipe/tune.py --cache runs/small/cache --root DIR \
        --initial runs/small/unisal.safetensors -o runs/small/tuned

On OSIE and EyeCrowd, the target is recorded gaze; on the other photographs it is the maps of
`teach.py`, to prevent forgetting. The encoder has a quarter of the learning rate. The moving
average is saved. Run `cache.py` with the new encoder afterwards.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from cache import SETS, SIZE, files_of, pixels_of, read_still
from cached import Clip, cc, density_of, marks_of, nss
from torch import nn
from train import Batch, Data, add_teacher, follow, load, loss_of, pooled, save, with_targets

from avsal.models.network import SaliencyNetwork, normalise

SHARES = {"osie": 5, "eyecrowd": 4, "photos": 4}
SLOW = ("image_encoder.encoder.",)
FIXED = ("audnet.", "aud_vis_sync_block.", "decoder.listen.", "decoder.habit.", "visnet.")


class Pictures:
    """Read photographs as uint8 frames (3, H, W), by name."""

    def __init__(self, root: Path, kinds: list[str]) -> None:
        self.frames = {kind: dict(self._read(root / SETS[kind].folder)) for kind in kinds}

    def _read(self, folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
        for path in files_of(folder):
            for _, image in read_still(path):
                yield path.name, pixels_of(image, SIZE)

    def frame(self, clip: Clip) -> torch.Tensor:
        """Return a still's picture, mirrored if its targets are."""
        frame = self.frames[clip.set][clip.name]
        return frame.flip(2) if clip.mirrored else frame


def log_densities(network: SaliencyNetwork, frames: torch.Tensor) -> torch.Tensor:
    """Return the maps (N, *GRID) of still pictures, uint8 (N, 3, H, W)."""
    features = network.image_encoder(normalise(frames))
    windows = [feature[:, None].expand(-1, network.frames, -1, -1, -1) for feature in features]
    return pooled(network.silent(tuple(windows)))


def drawn(
    data: Data, pictures: Pictures, random: np.random.Generator
) -> tuple[torch.Tensor, Batch]:
    """Draw a random batch of pictures and targets."""
    clips = [
        data.clips[kind][int(number)]
        for kind, count in SHARES.items()
        if kind in data.clips
        for number in random.integers(0, len(data.clips[kind]), count)
    ]
    frames = torch.stack([pictures.frame(clip) for clip in clips])
    return frames, with_targets((), [(clip, 0) for clip in clips])


@torch.inference_mode()
def scores(network: SaliencyNetwork, data: Data, pictures: Pictures) -> dict[str, list[float]]:
    """Return the mean NSS and CC on every third held-out photograph of each set."""
    result = {}
    for kind, clips in data.held.items():
        rows = []
        for clip in clips[::3]:
            density = log_densities(network, pictures.frame(clip)[None])[0].exp().numpy()
            marks = marks_of(clip.points[0])  # type: ignore[index]
            rows.append((nss(density, marks), cc(density, density_of(marks, clip.sigma))))
        result[kind] = [round(float(each), 4) for each in np.mean(rows, axis=0)]
    return result


def run(given: argparse.Namespace) -> None:
    """Fine-tune, and save the average."""
    torch.manual_seed(given.seed)
    random = np.random.default_rng(given.seed)
    kinds = [kind for kind in SHARES if kind not in given.without]
    data = Data(given.cache, given.root / "data", list(SHARES), everything=False)
    data.clips = {kind: data.clips[kind] for kind in kinds}
    add_teacher(data, given.cache)
    pictures = Pictures(given.root, list(SHARES))
    network = load(given.initial)
    average = copy.deepcopy(network)
    parts = [(n, p) for n, p in network.named_parameters() if not n.startswith(FIXED)]
    slow = [p for n, p in parts if n.startswith(SLOW)]
    quick = [p for n, p in parts if not n.startswith(SLOW)]
    rates = [given.rate / 4, given.rate]
    groups = [{"params": each, "lr": rate} for each, rate in zip((slow, quick), rates, strict=True)]
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=given.steps, pct_start=0.1
    )
    kept = dict(average.named_parameters())
    given.output.mkdir(parents=True, exist_ok=True)
    begun, losses = time.monotonic(), []
    print(0, scores(network, data, pictures), flush=True)
    for step in range(1, given.steps + 1):
        frames, batch = drawn(data, pictures, random)
        with torch.autocast("cpu", torch.bfloat16):
            log_density = log_densities(network, frames)
        loss = loss_of(log_density.float(), batch)
        loss.backward()
        nn.utils.clip_grad_norm_([p for _, p in parts], 2.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        follow(kept, parts, step)
        losses.append(float(loss.detach()))
        if step % given.every == 0 or step == given.steps:
            save(given.output / "last.safetensors", average)
            found = scores(average, data, pictures)
            seconds = time.monotonic() - begun
            print(
                step, f"{np.mean(losses[-given.every :]):.4f}", found, f"{seconds:.0f}s", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument(
        "--root", type=Path, required=True, help="folder that contains data/ and clips/"
    )
    parser.add_argument("--initial", type=Path, required=True)
    parser.add_argument("--without", nargs="*", default=[], choices=list(SHARES))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
