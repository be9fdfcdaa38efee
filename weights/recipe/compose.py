"""Make composites: canvases with one to four sources from different clips, and their sounds.

    python weights/recipe/compose.py --data DIR --initial W --part train --count 1500 -o OUT

`sources.tsv` lists the clips, their kinds (speech, music, thing), and whether they are held out.
A source plays or is a still; one that plays comes with the sound of the last 1.1 s. OUT contains
the image encoder's features of a window's four frames, the panels (a grid of 56x96 cells; 0 is the
background), the spectrograms of the playing sources, and `index.json`.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from cache import SIZE, encode, load_encoder
from cached import GRID

from avsal.media import AudioReader, VideoReader
from avsal.media.resample import SAMPLE_RATE
from avsal.prediction.inputs import COLUMNS, HOP, log_spectrogram

SPACING = 0.16  # seconds between the frames of a window
FRAMES = 4
HEIGHT = 224  # pixels; sources are stored at this height
FIRST = 8  # the first frame of a source at which a window may end
LAYOUTS = {  # panels as (top, left, bottom, right), relative to the canvas
    1: [[(0, 0, 1, 1)]],
    2: [[(0, 0, 1, 0.5), (0, 0.5, 1, 1)], [(0, 0, 1, 0.4), (0, 0.4, 1, 1)]],
    3: [
        [(0, 0, 1, 1 / 3), (0, 1 / 3, 1, 2 / 3), (0, 2 / 3, 1, 1)],
        [(0, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)],
    ],
    4: [[(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1), (0.5, 0, 1, 0.5), (0.5, 0.5, 1, 1)]],
}
COUNTS, ODDS = (1, 2, 3, 4), (0.15, 0.5, 0.2, 0.15)
PLAYS = 0.7  # probability; the first source always plays
FULL = 0.6  # probability that panels fill the canvas
SMALLEST = 0.65  # smallest relative size of a panel otherwise


@dataclass(frozen=True)
class Source:
    """A clip: frames SPACING apart, uint8 (H, W, 3), and 16 kHz mono sound."""

    name: str
    kind: str
    frames: list[np.ndarray]
    samples: np.ndarray

    def spectrogram(self, last: int) -> np.ndarray:
        """Of the sound up to a frame, (257, 111) float16."""
        end = round(last * SPACING * SAMPLE_RATE)
        samples = self.samples[max(0, end - COLUMNS * HOP) : end]
        return log_spectrogram(samples)[0].astype(np.float16)


def read_source(path: Path, kind: str) -> Source:
    """Read a clip."""
    frames: list[np.ndarray] = []
    with VideoReader(path) as video:
        origin = video.origin
        for frame in video:
            seconds = float(frame.pts - origin) + float(frame.duration) / 2
            while seconds >= len(frames) * SPACING:
                height, width = frame.image.shape[:2]
                size = max(1, round(width * HEIGHT / height)), HEIGHT
                frames.append(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA))
    with AudioReader(path, origin) as audio:
        samples = audio.read(0, 13 * SAMPLE_RATE)
    return Source(path.stem, kind, frames, np.asarray(samples, np.float32))


def read_sources(data: Path, part: str) -> list[Source]:
    """All sources of a part that are long enough."""
    with (Path(__file__).parent / "sources.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["part"] == part]
    sources = [
        read_source(data / "clips_sound" / "clips" / f"{r['name']}.mp4", r["kind"]) for r in rows
    ]
    return [each for each in sources if len(each.frames) > FIRST + 2]


def fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crop the centre of an image to a panel's size."""
    scale = max(height / image.shape[0], width / image.shape[1])
    size = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    grown = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    return grown[top : top + height, left : left + width]


@dataclass
class Canvas:
    """Four frames, uint8 (224, 384, 3), the panel of each cell, and the playing sources."""

    frames: list[np.ndarray]
    panels: np.ndarray
    sources: list[Source]
    plays: list[bool]
    last: list[int]
    mirrored: bool


def compose(sources: list[Source], random: np.random.Generator) -> Canvas:
    """Draw a canvas."""
    count = int(random.choice(COUNTS, p=ODDS))
    by_kind = {k: [s for s in sources if s.kind == k] for k in ("speech", "music", "thing")}
    kinds = random.choice(list(by_kind), count, p=(0.5, 0.2, 0.3))
    chosen: list[Source] = []
    for kind in kinds:
        rest = [each for each in by_kind[kind] if each not in chosen]
        chosen.append(rest[int(random.integers(len(rest)))])
    layouts = LAYOUTS[count]
    layout = [layouts[int(random.integers(len(layouts)))][i] for i in random.permutation(count)]
    canvas = np.full((*SIZE, 3), random.integers(0, 255), np.uint8)
    frames = [canvas.copy() for _ in range(FRAMES)]
    panels = np.zeros(GRID, np.uint8)
    plays = [number == 0 or random.random() < PLAYS for number in range(count)]
    full, last = random.random() < FULL or count == 1, []
    for number, (source, place) in enumerate(zip(chosen, layout, strict=True)):
        end = int(random.integers(FIRST, len(source.frames) - 1))
        last.append(end)
        top, left, bottom, right = _box(place, full, random)
        panels[top // 4 : bottom // 4, left // 4 : right // 4] = number + 1
        for back, frame in enumerate(reversed(frames)):
            shown = source.frames[end - back if plays[number] else end]
            frame[top:bottom, left:right] = fitted(shown, bottom - top, right - left)
    mirrored = bool(random.random() < 0.5)
    return Canvas(frames, panels, chosen, plays, last, mirrored)


def _box(
    place: tuple[float, float, float, float], full: bool, random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Pixels of a panel, multiples of 4."""
    top, left, bottom, right = place
    if not full:
        scale = random.uniform(SMALLEST, 1)
        height, width = (bottom - top) * scale, (right - left) * scale
        top += random.uniform(0, bottom - top - height)
        left += random.uniform(0, right - left - width)
        bottom, right = top + height, left + width
    rows, columns = GRID
    edges = (top * rows, left * columns, bottom * rows, right * columns)
    return tuple(4 * round(edge) for edge in edges)  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--initial", type=Path, required=True)
    parser.add_argument("--part", choices=("train", "held"), required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(given.initial)
    sources = read_sources(given.data, given.part)
    print(f"{len(sources)} sources", flush=True)
    index, panels, sounds = [], [], []
    files = [(given.output / f"features{number}.f16").open("wb") for number in range(3)]
    for number in range(given.count):
        canvas = compose(sources, np.random.default_rng((given.seed, number)))
        tensors = [torch.from_numpy(frame).permute(2, 0, 1) for frame in canvas.frames]
        if canvas.mirrored:
            tensors = [each.flip(2) for each in tensors]
        features = encode(encoder, tensors)
        for file, feature, kept in zip(files, features, (1, 2, FRAMES), strict=True):
            file.write(feature[-kept:].tobytes())
        panels.append(canvas.panels[:, ::-1] if canvas.mirrored else canvas.panels)
        heard = []
        for source, plays, last in zip(canvas.sources, canvas.plays, canvas.last, strict=True):
            heard.append(len(sounds) if plays else -1)
            if plays:
                sounds.append(source.spectrogram(last))
        index.append(
            {
                "kinds": [source.kind for source in canvas.sources],
                "names": [source.name for source in canvas.sources],
                "sounds": heard,
            }
        )
        if number % 100 == 0:
            print(number, flush=True)
    for file in files:
        file.close()
    np.save(given.output / "panels.npy", np.stack(panels))
    np.save(given.output / "sounds.npy", np.stack(sounds))
    (given.output / "index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
