"""Teach the network who talks: `TalkModulation`, on faces that LR-ASD has judged.

    python weights/recipe/talk.py cache FACES --photos DIR --initial W -o runs/small/talk
    python weights/recipe/talk.py fit runs/small/talk -o runs/small/talk.safetensors
    python weights/recipe/talk.py write W runs/small/talk.safetensors --gain 0.35 -o OUT

FACES is the folder that `faces.py` filled. `cache` keeps the image encoder's features of windows:
composites of one to four talking clips on a photograph, in which two faces of five stand still, and
windows of the videos as they are. The target is a spot on every face, as high as it talks. No
recorded gaze is used. `write` puts the result into a file of weights; the gain is in natural
logarithms of density.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from shapes import read as read_picture
from torch import nn
from train import load, save

from avsal.models.network import SaliencyNetwork, normalise
from avsal.models.small import MOUTH, TalkModulation

SIZE, CELL = (224, 384), 8
FRAMES = 4  # of a window, 0.16 s apart
CLIPS = "talk"  # names of clips of one talker begin so; the others are taken as they are
STILL = 0.4  # share of the faces of a composite that stand still
TALKS, MOST = 0.5, 2.0  # added to a score, and the highest target
BACKGROUND = 3.0  # weight of the error off the faces
RATE = 3e-3

Face = tuple[float, float, float, float]  # x and y of the middle, width, target


@dataclass
class Track:
    """A face in a video: frames uint8 (n, h, w, 3), boxes in pixels (n, 4), targets (n,)."""

    frames: np.ndarray
    boxes: np.ndarray
    present: np.ndarray
    targets: np.ndarray


def tracks_of(path: Path) -> list[Track]:
    """The faces of a file of `faces.py`."""
    with np.load(path) as file:
        frames = file["frames"]
        height, width = frames.shape[1:3]
        targets = np.clip(file["talks"] + TALKS, 0, MOST)
        boxes = file["boxes"] * ((width, height) * 2)
        return [Track(frames, *each) for each in zip(boxes, file["present"], targets, strict=True)]


def panel(track: Track, width: int, height: int, random: np.random.Generator) -> tuple:
    """A window (T, height, width, 3) of a talker at a random size, and its face."""
    last = int(random.choice(np.flatnonzero(track.present[FRAMES - 1 :]))) + FRAMES - 1
    rows, talks = list(range(last - FRAMES + 1, last + 1)), float(track.targets[last])
    if random.random() < STILL:
        rows, talks = [last] * FRAMES, 0.0
    box = track.boxes[last]
    widest = min(80.0, 0.6 * width, 0.5 * height)
    face = float(np.exp(random.uniform(np.log(18), np.log(widest))))
    scale = face / (box[2] - box[0])
    at = np.array([width * random.uniform(0.35, 0.65), height * random.uniform(0.25, 0.6)])
    moves = random.normal(0, random.choice([0, 0, 0.4, 1, 2.5]), (FRAMES, 2)).cumsum(axis=0)
    gain, offset, noise = random.uniform(0.7, 1.2), random.uniform(-15, 15), random.choice(3)
    window = []
    for row, move in zip(rows, moves - moves[-1], strict=True):
        image = cv2.resize(track.frames[row], None, fx=scale, fy=scale)
        if scale < 1:
            size = image.shape[1::-1]
            image = cv2.resize(track.frames[row], size, interpolation=cv2.INTER_AREA)
        shift = at + move - (box[:2] + box[2:]) / 2 * scale
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        moved = moved * gain + offset + random.normal(0, noise, moved.shape)
        window.append(np.clip(moved, 0, 255).astype(np.uint8))
    mirrored = random.random() < 0.5
    stacked = np.stack(window)[:, :, ::-1] if mirrored else np.stack(window)
    return stacked, (width - at[0] if mirrored else at[0], at[1], face, talks)


def composite(
    tracks: list[Track], photo: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, list[Face]]:
    """A window of one to four talkers side by side on a photograph."""
    canvas = np.stack([cv2.resize(photo, SIZE[::-1])] * FRAMES)
    count = int(random.choice([1, 2, 3, 4], p=[0.2, 0.35, 0.3, 0.15]))
    edges = np.linspace(0, SIZE[1], count + 1).round().astype(int)
    faces = []
    for left, right in pairwise(edges):
        width = int((right - left) * random.uniform(0.75, 1))
        height = int(SIZE[0] * random.uniform(0.7, 1))
        x = left + int(random.integers(0, right - left - width + 1))
        y = int(random.integers(0, SIZE[0] - height + 1))
        track = tracks[int(random.integers(len(tracks)))]
        window, (at_x, at_y, *rest) = panel(track, width, height, random)
        canvas[:, y : y + height, x : x + width] = window
        faces.append((x + at_x, y + at_y, *rest))
    return canvas, faces


def natural(tracks: list[Track]) -> Iterator[tuple[np.ndarray, list[Face]]]:
    """Every second window of a video, with all its faces."""
    frames = tracks[0].frames
    scale = np.array(SIZE[::-1]) / frames.shape[2:0:-1]
    for last in range(FRAMES - 1, len(frames), 2):
        window = [cv2.resize(each, SIZE[::-1]) for each in frames[last - FRAMES + 1 : last + 1]]
        faces = []
        for track in (each for each in tracks if each.present[last]):
            box = track.boxes[last] * (*scale, *scale)
            middle, talks = (box[:2] + box[2:]) / 2, float(track.targets[last])
            faces.append((float(middle[0]), float(middle[1]), float(box[2] - box[0]), talks))
        yield np.stack(window), faces


def spots(faces: list[Face]) -> tuple[np.ndarray, np.ndarray]:
    """The target on cells of 8x8 pixels, and how much each cell belongs to a face."""
    high, wide = (side // CELL for side in SIZE)
    y, x = (np.mgrid[:high, :wide] + 0.5) * CELL
    target, belongs = np.zeros((2, high, wide), np.float32)
    for at_x, at_y, width, talks in faces:
        radius = np.hypot(x - at_x, (y - at_y) / 1.15) / (0.625 * width)
        spot = 1 / (1 + np.exp(6 * (radius - 1)))
        target += talks * spot
        belongs = np.maximum(belongs, spot)
    return target, belongs


@torch.inference_mode()
def encoded(network: SaliencyNetwork, window: np.ndarray) -> torch.Tensor:
    """The encoder's features at stride 8 (T, 64, h, w) of a window."""
    pixels = torch.from_numpy(np.ascontiguousarray(window)).permute(0, 3, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        return network.image_encoder.encoder(normalise(pixels))[0].to(torch.bfloat16)


def cache(given: argparse.Namespace) -> None:
    """Write features, targets and faces of all windows."""
    network, random = load(given.initial), np.random.default_rng(given.seed)
    videos = {path.stem: tracks_of(path) for path in sorted(given.what.glob("*.npz"))}
    talkers = [each for name in videos if name.startswith(CLIPS) for each in videos[name]]
    talkers = [each for each in talkers if each.present[FRAMES - 1 :].mean() > 0.5]
    photos = [read_picture(path) for path in sorted(given.photos.glob("*.jpg"))[::7]]
    given.output.mkdir(parents=True, exist_ok=True)
    windows = [
        composite(talkers, photos[int(random.integers(len(photos)))], random)
        for _ in range(given.count)
    ]
    for name, tracks in videos.items():
        if not name.startswith(CLIPS) and name not in given.without:
            windows += natural(tracks)
    for number, (window, faces) in enumerate(windows):
        target, belongs = (torch.from_numpy(each) for each in spots(faces))
        entry = {"features": encoded(network, window), "target": target, "belongs": belongs}
        torch.save(entry, given.output / f"{number:05d}.pt")
    (given.output / "count.json").write_text(json.dumps(len(windows)))


class Talk(nn.Module):
    """What is learnt: the encoder's features (B, T, 64, h, w) -> a change of the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.mouths = nn.Conv2d(64, MOUTH, 1)
        self.talk = TalkModulation()
        nn.init.kaiming_uniform_(self.talk.out.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        mouths = self.mouths(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        change: torch.Tensor = self.talk(mouths, torch.zeros_like(mouths[:, :, :1]))
        return change[:, 0]


def fit(given: argparse.Namespace) -> None:
    """Learn from random batches."""
    torch.manual_seed(given.seed)
    random = np.random.default_rng(given.seed)
    count = json.loads((given.what / "count.json").read_text())
    model = Talk()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-3)
    losses, begun = [], time.monotonic()
    for step in range(1, given.steps + 1):
        decay = 0.5 * (1 + np.cos(np.pi * step / given.steps)) * 0.98 + 0.02
        optimiser.param_groups[0]["lr"] = RATE * min(1, step / 30) * decay
        picked = [f"{number:05d}.pt" for number in random.choice(count, 12, replace=False)]
        entries = [torch.load(given.what / name) for name in picked]
        features, target, belongs = (
            torch.stack([entry[name].float() for entry in entries])
            for name in ("features", "target", "belongs")
        )
        if random.random() < 0.5:
            features, target, belongs = (x.flip(-1) for x in (features, target, belongs))
        error = (model(features) - target) ** 2
        on_faces = (error * belongs).sum() / belongs.sum().clamp(min=1)
        loss = on_faces + BACKGROUND * (error * (1 - belongs)).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if step % 100 == 0 or step == given.steps:
            seconds = time.monotonic() - begun
            print(step, f"{np.mean(losses[-100:]):.4f} {seconds:.0f}s", flush=True)
    save_file(model.state_dict(), given.output)


def write(given: argparse.Namespace) -> None:
    """Write weights with what was learnt, the gain in units of the decoder's scores."""
    network, model = load(given.what), Talk()
    model.load_state_dict(load_file(given.talk))
    network.image_encoder.mouths.load_state_dict(model.mouths.state_dict())
    network.decoder.talk.load_state_dict(model.talk.state_dict())
    scale = network.decoder.smooth.weight.sum(dim=(1, 2, 3)).mean()
    network.decoder.talk.out.weight.data *= given.gain / scale
    save(given.output, network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    commands = parser.add_subparsers(required=True)
    for name, work in (("cache", cache), ("fit", fit), ("write", write)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("what", type=Path)
        if name == "cache":
            command.add_argument("--photos", type=Path, required=True)
            command.add_argument("--initial", type=Path, required=True)
            command.add_argument("--without", nargs="*", default=[], help="videos left out")
            command.add_argument("--count", type=int, default=1200, help="composites")
        if name == "write":
            command.add_argument("talk", type=Path)
            command.add_argument("--gain", type=float, required=True)
        command.add_argument("--steps", type=int, default=500)
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.work(given)


if __name__ == "__main__":
    main()
