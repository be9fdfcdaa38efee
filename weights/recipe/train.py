"""Train the default network's image and motion streams on cached features.

    python weights/recipe/train.py --cache runs/small/tuned-cache --teacher runs/small/cache \
        --data DIR --initial runs/small/tuned.safetensors -o runs/small/seen

The image encoder of `tune.py` is frozen. The target is recorded gaze; without gaze it is the maps
of `teach.py`, which are also a part of the target for videos with gaze. `--without KIND` omits a
kind of data; `--all` also trains on the validation videos. Every EVERY steps, the moving average of
the weights is scored and saved.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cached import (
    FEWEST,
    FIRST,
    GRID,
    Clip,
    Store,
    add_still_gaze,
    add_video_gaze,
    cc,
    density_of,
    marks_of,
    nss,
)
from torch import nn

from avsal import models
from avsal.media import probe
from avsal.models.network import SaliencyNetwork
from avsal.weights import describe, read_state, write_state

VARIANT = "small-224x384"
LISTS = Path(__file__).parent
KINDS = ("gaze", "osie", "eyecrowd", "photos", "silent", "sound", "clips")
SHARES = {"gaze": 6, "osie": 5, "eyecrowd": 4, "photos": 4, "silent": 3, "sound": 2, "clips": 1}
SPREAD = (0, 2, 4)  # target frames of a sequence, counted back from its last one
EVERY = 60  # steps
TINY = 1e-9


@dataclass
class Batch:
    """Sequences of one length and their targets.

    Attributes:
        features: of the required frames, strides 8 and 16 (N, targets, ...) and (N, targets,
            2, ...), stride 32 (N, T + spread, ...).
        density, marks, real: (N * targets, *GRID), the same, (N * targets,).
    """

    features: tuple[torch.Tensor, ...]
    density: torch.Tensor
    marks: torch.Tensor
    real: torch.Tensor


class Data:
    """All cached sets, split."""

    def __init__(self, cache: Path, data: Path, kinds: Sequence[str], everything: bool) -> None:
        self.stores = {kind: Store(cache / kind) for kind in (*kinds,)}
        self.clips = {kind: store.clips(kind) for kind, store in self.stores.items()}
        self._add_gaze(data)
        self.held: dict[str, list[Clip]] = {}
        for kind in ("gaze", "osie", "eyecrowd"):
            if kind not in self.clips:
                continue
            names = set((LISTS / f"{kind}-validation.txt").read_text().split())
            own = self.clips[kind]
            out = [clip for clip in own if names & {clip.name, Path(clip.name).stem}]
            self.held[kind] = [clip for clip in out if not clip.mirrored]
            if not (everything and kind == "gaze"):
                self.clips[kind] = [clip for clip in own if clip not in out]

    def _add_gaze(self, data: Path) -> None:
        for kind, clips in self.clips.items():
            if kind == "gaze":
                folder = data / "video_gaze"
                infos = {clip.name: probe(folder / "videos" / clip.name) for clip in clips}
                sizes = {name: (info.width, info.height) for name, info in infos.items()}
                add_video_gaze(clips, folder / "fixations.npz", sizes)
            elif kind in ("osie", "eyecrowd"):
                add_still_gaze(clips, data / kind / "fixations.npz")

    def load(self, clip: Clip, targets: Sequence[int], frames: int) -> Batch:
        """Make a sequence that ends with the last target, and repeat its first frame if needed."""
        store, spread = self.stores[clip.set], targets[-1] - targets[0]
        past = 1 if len(clip.rows) == 1 else frames + spread  # a still has no other past
        rows = [clip.rows[max(0, targets[-1] - back)] for back in range(past)][::-1]
        pairs = [clip.rows[max(0, each)] for target in targets for each in (target - 1, target)]
        shape = (len(targets), 2)
        features = (
            store.take(0, [clip.rows[max(0, each)] for each in targets])[None],
            store.take(1, pairs).unflatten(0, shape)[None],
            store.take(2, rows)[None],
        )
        return with_targets(features, [(clip, max(0, each)) for each in targets])


def with_targets(features: tuple[torch.Tensor, ...], frames: Sequence[tuple[Clip, int]]) -> Batch:
    """Make a batch of features and targets from clips and frame indices in them."""
    marks, density = zip(*(_target(*frame) for frame in frames), strict=True)
    return Batch(
        features,
        torch.from_numpy(np.stack(density)).float(),
        torch.from_numpy(np.stack(marks)),
        torch.tensor([clip.wide is not None for clip, _number in frames]),
    )


def _target(clip: Clip, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a frame's fixations and density, float32 GRID; without gaze the teacher's density."""
    if clip.wide is None:
        return np.zeros(GRID, np.float32), np.exp(np.float32(clip.teacher[number]))
    marks = marks_of(clip.wide[number])
    density = density_of(marks, clip.sigma)
    if clip.taught:
        taught = np.exp(np.float32(clip.teacher[number]))
        density = (1 - clip.taught) * density + clip.taught * taught
    return marks, density


def joined(batches: Sequence[Batch]) -> Batch:
    """Stack sequences to a batch."""
    features = tuple(torch.cat(each) for each in zip(*(b.features for b in batches), strict=True))
    parts = (torch.cat([getattr(b, n) for b in batches]) for n in ("density", "marks", "real"))
    return Batch(features, *parts)


def predict(
    network: SaliencyNetwork, features: tuple[torch.Tensor, ...], frames: int
) -> torch.Tensor:
    """Return the log-densities (N * targets, *GRID) of a batch's features."""
    stride8, stride16, stride32 = features
    count, targets = stride8.shape[:2]
    image = network.image_encoder
    refined = image.deepened(stride32.flatten(0, 1)).unflatten(0, stride32.shape[:2])
    if stride32.shape[1] == 1:
        refined = refined.expand(-1, frames, -1, -1, -1)
    gaps = (refined.shape[1] - frames) // max(1, targets - 1)
    windows = [refined[:, each * gaps : each * gaps + frames] for each in range(targets)]
    deep = torch.stack(windows, dim=1).flatten(0, 1)
    skips = (
        image.skip_8(stride8.flatten(0, 1))[:, None],
        image.skip_16(stride16.flatten(0, 2)).unflatten(0, (count * targets, 2)),
    )
    return pooled(network.silent((*skips, deep)))


def pooled(log_density: torch.Tensor) -> torch.Tensor:
    """Log-densities (N, H, W) on GRID."""
    cells = F.avg_pool2d(log_density.float().exp()[:, None], 4)[:, 0] * 16
    return torch.log(cells + TINY)


def loss_of(log_density: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the batch mean of KL - CC / 2, minus NSS / 10 for recorded gaze."""
    target, density = batch.density, log_density.exp()
    kl = (target * (torch.log(target + TINY) - log_density)).sum(dim=(1, 2))
    standard = (density - density.mean(dim=(1, 2), keepdim=True)) / (
        density.std(dim=(1, 2), keepdim=True) + TINY
    )
    other = (target - target.mean(dim=(1, 2), keepdim=True)) / (
        target.std(dim=(1, 2), keepdim=True) + TINY
    )
    correlation = (standard * other).mean(dim=(1, 2))
    looked = (standard * batch.marks).sum(dim=(1, 2)) / batch.marks.sum(dim=(1, 2)).clamp(min=1)
    return (kl - 0.5 * correlation - 0.1 * looked * batch.real).mean()


class Sampler:
    """Yield random batches with a share of each kind; videos are sequences with several targets."""

    def __init__(self, data: Data, frames: int, seed: int) -> None:
        self.data, self.frames = data, frames
        self.random = np.random.default_rng(seed)

    def batches(self, kinds: Sequence[str]) -> Iterator[list[Batch]]:
        """Yield lists of batches (videos, stills)."""
        while True:
            groups: dict[bool, list[Batch]] = {True: [], False: []}
            for kind in kinds:
                for _ in range(SHARES[kind]):
                    clip = self._clip(kind)
                    still = len(clip.rows) == 1
                    targets = [0] if still else self._targets(clip)
                    if targets:
                        groups[still].append(self.data.load(clip, targets, self.frames))
            yield [joined(group) for group in groups.values() if group]

    def _clip(self, kind: str) -> Clip:
        clips = self.data.clips[kind]
        return clips[int(self.random.integers(len(clips)))]

    def _targets(self, clip: Clip) -> list[int] | None:
        for _ in range(8):
            last = int(self.random.integers(0, len(clip.rows)))
            targets = [last - each for each in reversed(SPREAD)]
            if clip.wide is None or all(
                each >= 0 and len(clip.wide[each]) >= FEWEST for each in targets
            ):
                return targets
        return None


def add_teacher(data: Data, cache: Path, taught: float = 0.0) -> None:
    """Add the maps of `teach.py` to the data without gaze.

    Args:
        taught: the teacher's share of the target for videos with gaze, which are few.
    """
    for kind, clips in data.clips.items():
        if kind in ("osie", "eyecrowd") or (kind == "gaze" and not taught):
            continue
        maps_of_set = np.load(cache / kind / "teacher.npy", mmap_mode="r")
        for clip in clips:
            clip.teacher = maps_of_set[clip.rows.start : clip.rows.stop]
            clip.taught = taught


@torch.inference_mode()
def scores(
    network: SaliencyNetwork, data: Data, frames: int, thin: int = 2
) -> dict[str, dict[str, tuple[float, float]]]:
    """Score every held-out clip in NSS and CC: every `thin`-th frame of videos, and stills."""
    network.eval()
    result: dict[str, dict[str, tuple[float, float]]] = {}
    for kind, clips in data.held.items():
        rows = {}
        for clip in clips[:: 1 if kind == "gaze" else 3]:
            assert clip.points is not None
            chosen = [
                number
                for number in range(0, len(clip.rows), thin)
                if len(clip.points[number]) >= FEWEST
                and (len(clip.rows) == 1 or clip.seconds[number] >= FIRST - 1e-3)
            ]
            each = []
            for number in chosen:
                batch = data.load(clip, [number], frames)
                density = predict(network, batch.features, frames)[0].exp().numpy()
                marks = marks_of(clip.points[number])
                each.append((nss(density, marks), cc(density, density_of(marks, clip.sigma))))
            if each:
                rows[clip.name] = tuple(float(value) for value in np.mean(each, axis=0))
        result[kind] = rows  # type: ignore[assignment]
    return result


def means(rows: dict[str, dict[str, tuple[float, float]]]) -> dict[str, list[float]]:
    """Means over clips."""
    return {
        kind: [round(float(v), 4) for v in np.mean(list(each.values()), axis=0)]
        for kind, each in rows.items()
        if each
    }


def trained_parts(network: SaliencyNetwork) -> list[tuple[str, nn.Parameter]]:
    """Return all parameters but those of the image encoder, the sound stream and the prior."""
    frozen = ("image_encoder.encoder.", "audnet.", "aud_vis_sync_block.")
    frozen += ("decoder.listen.", "decoder.habit.")
    return [
        (name, parameter)
        for name, parameter in network.named_parameters()
        if not name.startswith(frozen)
    ]


def load(path: Path) -> SaliencyNetwork:
    """The default network with a file's weights; what the file lacks changes no map."""
    network = models.build(VARIANT)
    network.load_state_dict({**network.state_dict(), **read_state(path)[0]})
    return network.eval()


def run(given: argparse.Namespace) -> None:
    """Train, and save the averages."""
    torch.manual_seed(given.seed)
    kinds = [kind for kind in KINDS if kind not in given.without]
    data = Data(given.cache, given.data, kinds, given.all)
    network = load(given.initial)
    frames = network.frames
    add_teacher(data, given.teacher, given.taught)
    average = copy.deepcopy(network)
    parts = trained_parts(network)
    optimiser = torch.optim.AdamW([p for _, p in parts], lr=given.rate, weight_decay=1e-3)
    given.output.mkdir(parents=True, exist_ok=True)
    log = (given.output / "log.jsonl").open("a")
    batches = Sampler(data, frames, given.seed).batches(kinds)
    start, losses = time.monotonic(), []
    names = dict(average.named_parameters())
    for step in range(1, given.steps + 1):
        warm = min(1.0, step / 40)
        decay = 0.5 * (1 + np.cos(np.pi * step / given.steps)) * 0.95 + 0.05
        optimiser.param_groups[0]["lr"] = given.rate * warm * decay
        groups = next(batches)
        total = sum(len(group.real) for group in groups)
        value = 0.0
        for group in groups:
            with torch.autocast("cpu", torch.bfloat16):
                log_density = predict(network, group.features, frames)
            loss = loss_of(log_density.float(), group) * (len(group.real) / total)
            loss.backward()
            value += float(loss.detach())
        nn.utils.clip_grad_norm_([p for _, p in parts], 2.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        follow(names, parts, step)
        losses.append(value)
        row: dict[str, object] = {"step": step, "loss": value}
        if step % given.every == 0 or step == given.steps:
            save(given.output / "last.safetensors", average)
            row["scores"] = means(scores(average, data, frames, 6))
            print(
                step,
                f"{np.mean(losses[-given.every :]):.4f}",
                row["scores"],
                f"{time.monotonic() - start:.0f}s",
                flush=True,
            )
        log.write(json.dumps(row) + "\n")
        log.flush()


@torch.no_grad()
def follow(
    averages: dict[str, nn.Parameter], parts: Sequence[tuple[str, nn.Parameter]], step: int
) -> None:
    """Update the averages, by name, after a step, counted from 1."""
    for name, parameter in parts:
        averages[name].lerp_(parameter, 1 - min(0.99, step / (step + 10)))


def save(path: Path, network: SaliencyNetwork) -> None:
    """Write a network's weights."""
    write_state(path, dict(network.state_dict()), describe(VARIANT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--initial", type=Path, required=True)
    parser.add_argument(
        "--teacher", type=Path, required=True, help="cache with the maps of teach.py"
    )
    parser.add_argument(
        "--taught",
        type=float,
        default=0.0,
        help="the teacher's share of the target for videos with gaze",
    )
    parser.add_argument("--without", nargs="*", default=[], choices=KINDS)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
