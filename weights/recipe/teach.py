"""Compute UNISAL's maps of cached features, the teacher of later stages: `teacher.npy` per set.

    python weights/recipe/teach.py --cache runs/small/cache \
        --video runs/small/unisal.safetensors --still runs/small/unisal-still.safetensors

Videos get the maps of its video mode, photographs those of its photograph mode.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from cached import Clip, Store
from train import load, pooled

from avsal.models.network import SaliencyNetwork

KINDS = ("gaze", "photos", "silent", "sound", "clips")
FRAMES = 12  # computed at a time
HISTORY = 10  # earlier frames for the recurrent network, more than a window


@torch.inference_mode()
def teach(store: Store, network: SaliencyNetwork, clip: Clip, start: int) -> np.ndarray:
    """Return the log-densities (n, *GRID) of up to FRAMES frames from `start` on."""
    image = network.image_encoder
    rows = clip.rows
    last = min(start + FRAMES, len(rows))
    first = max(0, start - HISTORY)
    raw = [store.take(level, list(rows[first:last])) for level in range(3)]
    stride8, stride16, deep = image.refine(tuple(raw))
    seen = deep
    if len(rows) > 1:
        motion = network.visnet
        parts = [motion.get_submodule(f"{g}_seen")(deep) for g in ("reset", "update", "new")]
        held, all_held = torch.zeros_like(deep[:1]), []
        for number in range(len(deep)):
            held = motion.step(held, *(part[number : number + 1] for part in parts))
            all_held.append(held)
        seen = deep + motion.recall(torch.cat(all_held))
    keep = slice(start - first, None)
    change = network.visnet.change(torch.zeros_like(stride16[keep]))
    volumes = (change[:, :, None], seen[keep, :, None])
    logits = network.decoder((stride8[keep, None], stride16[keep, None]), volumes)
    return pooled(logits).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--video", type=Path, required=True, help="UNISAL in its video mode")
    parser.add_argument("--still", type=Path, required=True, help="UNISAL for photographs")
    given = parser.parse_args()
    video, still = load(given.video), load(given.still)
    for kind in KINDS:
        store = Store(given.cache / kind)
        maps = [
            teach(store, still if len(clip.rows) == 1 else video, clip, start)
            for clip in store.clips(kind)
            for start in range(0, len(clip.rows), FRAMES)
        ]
        np.save(given.cache / kind / "teacher.npy", np.concatenate(maps).astype(np.float16))
        print(kind, flush=True)


if __name__ == "__main__":
    main()
