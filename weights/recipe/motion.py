"""Fit the four numbers of `MotionModulation` by leave-one-set-out cross-validation.

    python weights/recipe/motion.py read W --data DIR -o runs/small/motion
    python weights/recipe/motion.py fit runs/small/motion --data DIR
    python weights/recipe/motion.py write W --values 0.75 2 2.5 0.3 -o OUT

`read` stores, for every frame that `videos.py` scores, the map without modulation and the
brightness of the frames in the windows behind the smoothed map. `fit` tries a grid of values of
gain, slope, camera and centre. It leaves out one set of videos after another, and prints the values
that are best on the others and what they gain in NSS and CC on that set. `write` stores values in a
weights file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from cache import pixels_of
from cached import density_of, marks_of, sigma_of
from train import load, save
from videos import FEWEST, at_times, open_at, read_gaze, wanted_times

from avsal import load_model
from avsal.media import VideoReader, probe
from avsal.models.network import normalise
from avsal.models.small import MotionModulation, brightness
from avsal.prediction.maps import weights
from avsal.prediction.settings import MapSize, PredictSettings

SPACING, FRAMES = 0.16, 4  # of a window
MEMORY, STEP = 0.12, 1 / 12  # seconds: time constant of version 5's smoothing, between its maps
AGES = [STEP * number for number in range(5)]
BLUR = 1.2  # cells; standard deviation of the decoder's last smoothing
GRID = (56, 96)
GAINS, SLOPES, CAMERAS = (0.5, 0.75, 1.0), (1.0, 2.0, 4.0), (2.0, 2.5, 3.0, 4.5)
CENTRES = (0.0, 0.15, 0.3, 0.45)
SCENES = {"BasketballDrillText": "BasketballDrill", "RaceHorsesD": "RaceHorsesC"}

Values = tuple[float, float, float, float]


def read(given: argparse.Namespace) -> None:
    """Write a file for every video."""
    predictor = load_model("small-224x384", given.weights, engine="torch")
    predictor.variant = replace(predictor.variant, smoothing=str(MEMORY), smoothing_ahead=None)
    for parameter in ("gain", "centre"):
        getattr(predictor.engine.network.decoder.motion, parameter).data.zero_()
    given.output.mkdir(parents=True, exist_ok=True)
    for path in sorted((given.data / "video_gaze" / "videos").glob("*.mp4")):
        if given.names and path.stem not in given.names:
            continue
        times, cells = [], []
        with VideoReader(path) as video:
            for frame in video:
                size = predictor.input_size(video.info.height, video.info.width)
                times.append(float(frame.pts - video.origin))
                cells.append(brightness(normalise(pixels_of(frame.image, size)[None]))[0])
        info = probe(path)
        stride = max(1, round(float(info.rate or 25) * STEP))
        wanted = list(wanted_times(float(info.duration or 0)))
        settings = PredictSettings(stride=stride, size=MapSize("fixed", GRID[1], GRID[0]))
        found = ((float(f.time), f.density) for f in predictor.predict(path, settings))
        maps = {time: np.log(density + 1e-12) for time, density in at_times(found, [*wanted])}
        stacked = torch.stack(cells)
        np.savez(
            given.output / f"{path.stem}.npz",
            times=wanted,
            maps=np.stack([maps[time] for time in wanted]).astype(np.float16),
            windows=torch.stack([_windows(stacked, times, at) for at in wanted]).half().numpy(),
        )
        print(path.stem, flush=True)


def _windows(cells: torch.Tensor, times: list[float], at: float) -> torch.Tensor:
    """Return the brightness (windows, T, 1, h, w) behind the smoothed map at a time."""
    known = np.array(times)
    rows = [
        [
            int(np.abs(known - max(0.0, at - age - back * SPACING)).argmin())
            for back in range(FRAMES - 1, -1, -1)
        ]
        for age in AGES
    ]
    return torch.stack([cells[row] for row in rows])


def modulation_of(values: Values) -> MotionModulation:
    """Make the module with gain, slope, camera and centre."""
    module = MotionModulation()
    module.gain.data.fill_(values[0])
    module.centre.data.fill_(values[3])
    for name, value in zip(("slope", "camera"), values[1:3], strict=True):
        getattr(module, name).data.fill_(float(np.log(value)))
    return module


def modulated(maps: torch.Tensor, windows: torch.Tensor, values: Values) -> torch.Tensor:
    """Return log-densities (N, *GRID): each window modulated, then smoothed over time."""
    module, total = modulation_of(values), 0.0
    shares = weights([-age for age in reversed(AGES)], MEMORY, MEMORY)
    for number, weight in enumerate(reversed(shares)):
        total += weight * module(windows[:, number])
    finer = F.interpolate(total, size=GRID, mode="bilinear")[:, 0].numpy()
    scale = 2 * BLUR
    blurred = [
        cv2.GaussianBlur(each, (0, 0), scale, borderType=cv2.BORDER_REPLICATE) for each in finer
    ]
    return (maps + torch.from_numpy(np.stack(blurred))).flatten(1).log_softmax(1).view_as(maps)


def clips(folder: Path, data: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, np.ndarray]]:
    """Name, maps, windows, and fixations and densities (N, 2, *GRID) of each video."""
    gaze = read_gaze(data)
    for file in sorted(folder.glob("*.npz")):
        info = probe(data / "video_gaze" / "videos" / f"{file.stem}.mp4")
        sigma = sigma_of(info.width, info.height)
        with np.load(file) as held:
            times, maps, windows = held["times"], held["maps"], held["windows"]
        points = [open_at(gaze[file.stem], time)[:, 3:5] for time in times]
        kept = [number for number, each in enumerate(points) if len(each) >= FEWEST]
        marks = [marks_of(points[number]) for number in kept]
        truth = np.stack([(each, density_of(each, sigma)) for each in marks])
        parts = (torch.from_numpy(each[kept]).float() for each in (maps, windows))
        yield file.stem, *parts, truth


def scores(log_densities: torch.Tensor, truth: np.ndarray) -> np.ndarray:
    """Mean NSS and CC."""
    density, target = log_densities.exp().numpy(), truth[:, 1]
    first, second = ((x - x.mean((1, 2), keepdims=True)) for x in (density, target))
    first, second = (x / x.std((1, 2), keepdims=True) for x in (first, second))
    marks = truth[:, 0]
    looked = (first * marks).sum(axis=(1, 2)) / marks.sum(axis=(1, 2))
    return np.array([looked.mean(), (first * second).mean()])


@torch.inference_mode()
def fit(given: argparse.Namespace) -> None:
    """Print the gain on every left-out set, and the best values on all sets."""
    gains: dict[Values, dict[str, np.ndarray]] = {}
    grid = list(product(GAINS, SLOPES, CAMERAS, CENTRES))
    for name, maps, windows, truth in clips(given.folder, given.data):
        before = scores(maps, truth)
        for values in grid:
            after = scores(modulated(maps, windows, values), truth)
            gains.setdefault(values, {})[name] = after - before
    names = list(gains[grid[0]])
    sets = {name: "faces65" if name[0].isdigit() else SCENES.get(name, name) for name in names}
    left: list[np.ndarray] = []
    for out in sorted(set(sets.values())):
        values = best(gains, [name for name in names if sets[name] != out])
        for name in (name for name in names if sets[name] == out):
            left.append(gains[values][name])
            print(out, values, name, np.round(gains[values][name], 3))
    print("mean of all left out", np.round(np.mean(left, axis=0), 4))
    values = best(gains, names)
    print("from all", values, np.round(np.mean(list(gains[values].values()), axis=0), 4))


def best(gains: dict[Values, dict[str, np.ndarray]], names: list[str]) -> Values:
    """Return the values with the best mean of NSS / 5 + CC over some videos."""
    return max(gains, key=lambda values: sum(gains[values][name] @ (0.2, 1.0) for name in names))


def write(given: argparse.Namespace) -> None:
    """Write the weights with the values, gain and centre in units of the decoder's scores."""
    network = load(given.weights)
    network.decoder.motion = modulation_of(given.values)
    scale = network.decoder.smooth.weight.sum(dim=(1, 2, 3)).mean()
    network.decoder.motion.gain.data /= scale
    network.decoder.motion.centre.data /= scale
    save(given.output, network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    commands = parser.add_subparsers(required=True)
    for name, work in (("read", read), ("fit", fit), ("write", write)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("folder" if name == "fit" else "weights", type=Path)
        command.add_argument("--data", type=Path)
        command.add_argument("--names", nargs="*", help="videos that are read; all by default")
        command.add_argument("--values", type=float, nargs=4)
        command.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    given.work(given)


if __name__ == "__main__":
    main()
