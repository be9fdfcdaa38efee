"""Train the sound stream: first kinds of sound, then which part of a composite sounds.

    python weights/recipe/hear.py --data DIR --composites runs/small/composites \
        --held runs/small/composites-held --initial runs/small/seen.safetensors -o runs/small/heard

The visual streams are frozen; the audio encoder, the fusion and the head that changes the map are
trained. The pictures of a batch are combined with the sound of each playing source, with noise,
with the sound of a kind that is not in the picture, and with silence, so that only the sound tells
these samples apart. The target is the map without sound, B, moved towards the sounding source, G:
(1 - a) B + a G; for the other samples it is B.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cache import SHAPES
from torch import nn
from train import TINY, load, pooled, save

from avsal.media import AudioReader, VideoReader
from avsal.media.resample import SAMPLE_RATE
from avsal.models.network import SaliencyNetwork
from avsal.models.small import audio_activity
from avsal.prediction.inputs import COLUMNS, HOP, log_spectrogram

KINDS = ("speech", "music", "thing", "noise")
STRENGTH = {"speech": 0.6, "music": 0.5, "thing": 0.5}  # a
KEPT = (1, 2, 4)  # frames of a composite whose features are stored, by stride
EVEN = 0.1  # share of the gaze that is uniform over the source's panel
NEUTRAL = 2.5  # weight of the samples whose map must not change
HOP_SECONDS = 0.2  # between the sound segments of the first part
CANVASES = 8  # per batch
BINS = 257


def noise(random: np.random.Generator) -> np.ndarray:
    """Make a spectrogram (257, 111) of coloured noise, sometimes with varying loudness."""
    count = COLUMNS * HOP
    white = np.fft.rfft(random.standard_normal(count))
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 20)
    coloured = np.fft.irfft(white * frequency ** -random.uniform(0, 1.2), count)
    bands = np.interp(frequency, np.geomspace(20, 8000, 8), random.uniform(-1.5, 1.5, 8))
    coloured = np.fft.irfft(np.fft.rfft(coloured) * np.exp(bands), count)
    level = 10 ** random.uniform(-3, -0.3)
    samples = coloured / np.abs(coloured).max() * level
    if random.random() < 0.3:
        samples *= np.interp(np.arange(count), np.linspace(0, count, 9), random.random(9))
    return log_spectrogram(samples.astype(np.float32))[0]


def varied(spectrogram: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Imitate another microphone: filter, shift and partly mask a sound."""
    shift = int(random.integers(-4, 5))
    changed = np.roll(spectrogram.astype(np.float32), shift, axis=0)
    curve = np.interp(np.arange(BINS), np.linspace(0, BINS, 6), random.normal(0, 0.5, 6))
    silent = np.abs(changed - changed.mean(axis=0)).max(axis=0) < 1e-3
    changed = changed + curve[:, None] + random.normal(0, random.uniform(0, 0.5), changed.shape)
    changed = (changed - changed.mean(axis=0)) / (changed.std(axis=0, ddof=1) + 1e-6)
    changed[:, silent] = spectrogram[:, silent]
    if random.random() < 0.3:
        start = int(random.integers(0, COLUMNS - 20))
        changed[:, start : start + int(random.integers(5, 20))] = 0
    return changed


def stretches(data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the spectrograms (N, 257, 111) of all sources of a part, and their kinds (N,)."""
    with (Path(__file__).parent / "sources.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["part"] == part]
    sounds, kinds = [], []
    for row in rows:
        path = data / "clips_sound" / "clips" / f"{row['name']}.mp4"
        with VideoReader(path) as video:
            origin = video.origin
        with AudioReader(path, origin) as audio:
            samples = np.asarray(audio.read(0, 13 * SAMPLE_RATE), np.float32)
        for end in np.arange(1.2, samples.size / SAMPLE_RATE, HOP_SECONDS):
            stretch = samples[round((end - 1.11) * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            if stretch.size and np.abs(stretch).max() > 1e-3:
                sounds.append(log_spectrogram(stretch)[0].astype(np.float16))
                kinds.append(KINDS.index(row["kind"]))
    return np.stack(sounds), np.array(kinds)


def learn_kinds(network: SaliencyNetwork, data: Path, steps: int, seed: int) -> None:
    """First part: train the audio encoder to classify the kind of a sound."""
    random = np.random.default_rng(seed)
    sounds, kinds = stretches(data, "train")
    held, held_kinds = stretches(data, "held")
    head = nn.Linear(8 * network.variant.audio_width, len(KINDS))
    parameters = [*network.audnet.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    weights = torch.tensor([1.0, 1.0, 1.0, 1.0])
    by_kind = [np.flatnonzero(kinds == number) for number in range(3)]
    for step in range(1, steps + 1):
        network.audnet.train()
        labels = random.integers(0, len(KINDS), 32)
        batch = np.stack([_drawn(sounds, by_kind, label, random) for label in labels])
        features = network.audnet(torch.from_numpy(batch)[:, None].float())
        logits = head(features.mean(dim=(2, 3)))
        loss = F.cross_entropy(logits, torch.from_numpy(labels), weights, label_smoothing=0.1)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        if step % 50 == 0 or step == steps:
            right = _accuracy(network, head, held[::3], held_kinds[::3])
            print(f"kinds {step} loss {float(loss.detach()):.3f} held {right}", flush=True)
    network.audnet.eval()


def _drawn(
    sounds: np.ndarray, by_kind: list[np.ndarray], label: int, random: np.random.Generator
) -> np.ndarray:
    if label == KINDS.index("noise"):
        return noise(random).astype(np.float32)
    return varied(sounds[random.choice(by_kind[label])], random)


@torch.inference_mode()
def _accuracy(
    network: SaliencyNetwork, head: nn.Module, held: np.ndarray, kinds: np.ndarray
) -> list[float]:
    """Return the accuracy for each kind."""
    network.audnet.eval()
    guesses = []
    for start in range(0, len(held), 32):
        batch = torch.from_numpy(held[start : start + 32])[:, None].float()
        guesses.append(head(network.audnet(batch).mean(dim=(2, 3))).argmax(dim=1))
    found = torch.cat(guesses).numpy()
    return [round(float((found[kinds == each] == each).mean()), 2) for each in range(3)]


@dataclass
class Composites:
    """The outputs of the visual streams for composites, and their sounds.

    Attributes:
        tokens (N, 288, 7, 12), frames (N, 128, 14, 24), scores (N, 1, 28, 48): float16.
        silent: maps without sound, (N, *GRID).
        panels: number of the source in each cell, from 1, (N, *GRID).
    """

    tokens: torch.Tensor
    frames: torch.Tensor
    scores: torch.Tensor
    silent: torch.Tensor
    panels: np.ndarray
    sounds: np.ndarray
    index: list[dict[str, list]]

    @classmethod
    @torch.inference_mode()
    def read(cls, folder: Path, network: SaliencyNetwork) -> Composites:
        """Compute these outputs for a folder of `compose.py`."""
        index = json.loads((folder / "index.json").read_text())
        arrays = [
            np.memmap(
                folder / f"features{level}.f16", np.float16, "r", shape=(len(index), kept, *shape)
            )
            for level, (kept, shape) in enumerate(zip(KEPT, SHAPES, strict=True))
        ]
        parts: list[list[torch.Tensor]] = [[], [], [], []]
        image, decoder = network.image_encoder, network.decoder
        for start in range(0, len(index), 8):
            raw = [torch.from_numpy(a[start : start + 8].copy()).float() for a in arrays]
            count = len(raw[0])
            refined = [
                module(each.flatten(0, 1)).unflatten(0, (count, -1))
                for module, each in zip(
                    (image.skip_8, image.skip_16, image.deepened), raw, strict=True
                )
            ]
            volumes = network.visnet(tuple(refined))
            scores = decoder.scores(tuple(refined), volumes)
            maps = pooled(decoder.mapped(scores)).exp()
            made = (volumes[2][:, :, 0], refined[1][:, -1], scores, maps)
            for part, each in zip(parts, made, strict=True):
                part.append(each.half())
        whole = [torch.cat(part).clone() for part in parts]
        panels, sounds = (np.load(folder / f"{name}.npy") for name in ("panels", "sounds"))
        return cls(*whole, panels, sounds, index)

    def target(self, number: int, sounding: int) -> np.ndarray:
        """Return (1 - a) B + a G for a sounding source; a voice may be that of any moving one."""
        entry, before = self.index[number], self.silent[number].float().numpy()
        kind = entry["kinds"][sounding]
        same = [
            place
            for place, (each, sound) in enumerate(zip(entry["kinds"], entry["sounds"], strict=True))
            if place == sounding or (kind == each == "speech" and sound >= 0)
        ]
        mask = np.isin(self.panels[number], [place + 1 for place in same]).astype(np.float32)
        inside = before * mask / max(float((before * mask).sum()), 1e-6)
        towards = (1 - EVEN) * inside + EVEN * mask / mask.sum()
        strength = STRENGTH[kind]
        return (1 - strength) * before + strength * towards / towards.sum()


def heard_maps(
    network: SaliencyNetwork, data: Composites, numbers: list[int], sounds: torch.Tensor
) -> torch.Tensor:
    """Return the log-densities (N, *GRID) of composites with sounds (N, 257, 111)."""
    spectrograms = sounds[:, None].float()
    tokens = data.tokens[numbers].float()[:, :, None]
    fused = network.aud_vis_sync_block(tokens, network.audnet(spectrograms))
    moved = network.decoder.listen(
        fused, data.frames[numbers].float(), audio_activity(spectrograms)
    )
    scores = data.scores[numbers].float() + F.interpolate(
        moved, scale_factor=2, mode="bilinear", align_corners=False
    )
    return pooled(network.decoder.mapped(scores))


Samples = tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]


def batches(data: Composites, random: np.random.Generator) -> Iterator[Samples]:
    """Return the samples of a batch: composites' indices, sounds, target maps and weights."""
    while True:
        numbers: list[int] = []
        sounds, targets, weights = [], [], []
        for number in random.integers(0, len(data.index), CANVASES):
            for sound, target, weight in _samples(data, int(number), random):
                numbers.append(int(number))
                sounds.append(sound)
                targets.append(target)
                weights.append(weight)
        yield (
            numbers,
            torch.from_numpy(np.stack(sounds)).float(),
            torch.from_numpy(np.stack(targets)).float(),
            torch.tensor(weights),
        )


def _samples(
    data: Composites, number: int, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    entry, before = data.index[number], data.silent[number].float().numpy()
    for place, sound in enumerate(entry["sounds"]):
        if sound >= 0:
            yield varied(data.sounds[sound], random), data.target(number, place), 1.0
    yield noise(random), before, NEUTRAL
    other = off_screen(data, number, random)
    if other is not None:
        yield varied(data.sounds[other], random), before, NEUTRAL


def off_screen(data: Composites, number: int, random: np.random.Generator) -> int | None:
    """Choose a sound of a kind that is not in the picture."""
    kinds = set(data.index[number]["kinds"])
    for other in random.integers(0, len(data.index), 30):
        entry = data.index[int(other)]
        for kind, sound in zip(entry["kinds"], entry["sounds"], strict=True):
            if sound >= 0 and kind not in kinds:
                return int(sound)
    return None


def learn_places(
    network: SaliencyNetwork, data: Composites, held: Composites, steps: int, seed: int
) -> None:
    """Second part: train the effect of the sound on the map."""
    random = np.random.default_rng(seed)
    listening = [*network.aud_vis_sync_block.parameters(), *network.decoder.listen.parameters()]
    groups = [
        {"params": listening, "lr": 1e-3},
        {"params": list(network.audnet.parameters()), "lr": 2e-4},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [1e-3, 2e-4], total_steps=steps)
    network.eval()  # the audio encoder's normalisation is frozen
    start, losses = time.monotonic(), []
    for step, (numbers, sounds, target, weights) in enumerate(batches(data, random), start=1):
        log_density = heard_maps(network, data, numbers, sounds)
        kl = (target * (torch.log(target + TINY) - log_density)).sum(dim=(1, 2))
        loss = (kl * weights).mean()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 50 == 0 or step == steps:
            tested = test(network, held, 150, seed=1)
            seconds = time.monotonic() - start
            print(f"places {step} {np.mean(losses[-50:]):.4f} {tested} {seconds:.0f}s", flush=True)
        if step == steps:
            return


@torch.inference_mode()
def test(network: SaliencyNetwork, held: Composites, count: int, seed: int) -> dict[str, object]:
    """Measure direction on pairs of playing sources, and placebo with noise and other kinds."""
    random = np.random.default_rng(seed)
    network.eval()
    directions: dict[str, list[float]] = {}
    placebo: dict[str, list[float]] = {"noise": [], "other kind": []}
    for number, entry in list(enumerate(held.index))[:count]:
        playing = [place for place, sound in enumerate(entry["sounds"]) if sound >= 0]
        silent = held.silent[number].float()
        others = {"noise": noise(random)}
        if (other := off_screen(held, number, random)) is not None:
            others["other kind"] = held.sounds[other].astype(np.float32)
        sounds = [held.sounds[entry["sounds"][place]].astype(np.float32) for place in playing]
        batch = torch.from_numpy(np.stack([*sounds, *others.values()])).float()
        maps = heard_maps(network, held, [number] * len(batch), batch).exp()
        for name, each in zip(others, maps[len(playing) :], strict=True):
            placebo[name].append(_cc(each, silent))
        for one in range(len(playing)):
            for two in range(one + 1, len(playing)):
                pair = playing[one], playing[two]
                inside = [torch.from_numpy(held.panels[number] == place + 1) for place in pair]
                share = [
                    [float((m * side).sum()) for side in inside] for m in (maps[one], maps[two])
                ]
                moved = 0.5 * ((share[0][0] - share[1][0]) + (share[1][1] - share[0][1]))
                key = "+".join(sorted(entry["kinds"][place] for place in pair))
                directions.setdefault(key, []).append(moved)
    everything = [each for key, values in directions.items() for each in values]
    unlike = [
        v for key, values in directions.items() for v in values if len(set(key.split("+"))) > 1
    ]
    return {
        "all": _summary(everything),
        "unlike": _summary(unlike),
        **{key: _summary(values) for key, values in sorted(directions.items())},
        **{
            name: (round(float(np.mean(v)), 4), round(float(np.min(v)), 3))
            for name, v in placebo.items()
        },
    }


def _summary(values: list[float]) -> tuple[float, float, int]:
    """Return the mean, the share above 0, and the count."""
    array = np.array(values)
    return round(float(array.mean()), 3), round(float((array > 0).mean()), 2), len(array)


def _cc(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(np.corrcoef(first.numpy().ravel(), second.numpy().ravel())[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--composites", type=Path, required=True)
    parser.add_argument("--held", type=Path, required=True)
    parser.add_argument("--initial", type=Path, required=True)
    parser.add_argument("--kinds", type=int, default=400, help="steps of the first part")
    parser.add_argument("--places", type=int, default=500, help="steps of the second part")
    parser.add_argument("--audio", type=Path, help="file with an audio encoder to use instead")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    given.output.mkdir(parents=True, exist_ok=True)
    network = load(given.initial)
    network.requires_grad_(False)
    for part in (network.audnet, network.aud_vis_sync_block, network.decoder.listen):
        part.requires_grad_(True)
    if given.audio is None:
        learn_kinds(network, given.data, given.kinds, given.seed)
        save(given.output / "kinds.safetensors", network)
    else:
        network.audnet.load_state_dict(load(given.audio).audnet.state_dict())
    if given.places:
        data, held = (Composites.read(each, network) for each in (given.composites, given.held))
        learn_places(network, data, held, given.places, given.seed)
        save(given.output / "last.safetensors", network)


if __name__ == "__main__":
    main()
