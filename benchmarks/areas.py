"""How far shares of predicted gaze can be trusted: boxes of several sizes, against recorded gaze.

    python benchmarks/areas.py --video VIDEO_GAZE MAPS --stills OSIE MAPS --stills EYECROWD MAPS \\
        --weights avsal-small [--names LIST ...]

With --weights the maps that are lacking in MAPS are made; images and videos without maps are left
out. The last lines are the tables of avsal/areas/summary.py. A data set has fixations.npz (names;
fix: number, observer, ..., x/W, y/H; a video's also start and duration). Every picture is cut into
grids of equal boxes.
The target is always one half of the observers, in a video those of one second; the map, the centre
prior and the other half of the observers predict it, both ways round.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from predicted import add_options, chosen, make_maps
from scipy.stats import spearmanr

from avsal.areas.series import fine_grid
from avsal.metrics import centre_prior
from avsal.results.folder import read_result

GRIDS = (2, 3, 4, 6, 8)  # boxes along each side
SECONDS = 1.0  # of a video that one measurement covers
LEAST = 15  # fixations in each half that a share is counted of
FINE = (96, 192)  # cells, a multiple of every grid

Case = tuple[np.ndarray, np.ndarray, np.ndarray]  # map on FINE; places (n, 2) of either half


def halves(observers: np.ndarray, seed: int) -> np.ndarray:
    """Marks the fixations of half of the observers."""
    known = np.unique(observers)
    chosen = np.random.default_rng(seed).permutation(known)[: len(known) // 2]
    return np.isin(observers, chosen)


def still_cases(root: Path, maps: Path, names: list[Path] | None) -> Iterator[Case]:
    data = np.load(root / "fixations.npz")
    for number, name in enumerate(data["names"]):
        folder = maps / Path(str(name)).stem
        if not folder.is_dir() or not chosen(folder.name, names):
            continue
        density = next(d for _record, d in read_result(folder).densities())
        rows = data["fix"][data["fix"][:, 0] == number]
        first = halves(rows[:, 1], number)
        yield on_grid(density), rows[first, 2:4], rows[~first, 2:4]


def video_cases(root: Path, maps: Path, names: list[Path] | None) -> Iterator[Case]:
    data = np.load(root / "fixations.npz")
    for number, name in enumerate(data["names"]):
        if not (maps / str(name)).is_dir() or not chosen(str(name), names):
            continue
        rows = data["fix"][data["fix"][:, 0] == number]
        middle = rows[:, 2] + rows[:, 3] / 2
        first = halves(rows[:, 1], number)
        frames = ((r.time, d) for r, d in read_result(maps / str(name)).densities())
        for second, group in itertools.groupby(frames, lambda frame: int(frame[0] / SECONDS)):
            density = np.mean([on_grid(d) for _time, d in group], axis=0)
            now = (middle // SECONDS).astype(int) == second
            yield density, rows[now & first, 4:6], rows[now & ~first, 4:6]


def on_grid(density: np.ndarray) -> np.ndarray:
    """A map whose every cell holds its part of the gaze."""
    grid = cv2.resize(fine_grid(density), FINE[::-1], interpolation=cv2.INTER_AREA)
    return grid / grid.sum()


def box_shares(density: np.ndarray, count: int) -> np.ndarray:
    height, width = FINE[0] // count, FINE[1] // count
    return density.reshape(count, height, count, width).sum(axis=(1, 3)).ravel()


def recorded_shares(places: np.ndarray, count: int) -> np.ndarray:
    cells = np.minimum((places * count).astype(int), count - 1)
    hits = np.bincount(cells[:, 1] * count + cells[:, 0], minlength=count * count)
    return hits / len(places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for kind in ("--video", "--stills"):
        parser.add_argument(kind, nargs=2, type=Path, action="append", default=[])
    add_options(parser)
    arguments = parser.parse_args()
    sources = [(video_cases, "videos", *pair) for pair in arguments.video]
    sources += [(still_cases, "images", *pair) for pair in arguments.stills]
    prior = on_grid(centre_prior(FINE))
    errors: dict[str, list[np.ndarray]] = {"videos": [], "images": []}
    for read, kind, root, maps in sources:
        make_maps(root / kind, maps, arguments)
        found = read(root, maps, arguments.names)
        cases = [case for case in found if min(map(len, case[1:])) >= LEAST]
        print(f"{root.name}: {len(cases)} measurements", flush=True)
        errors[kind].append(np.array([report(cases, prior, count) for count in GRIDS]))
    for name, tables in (("VIDEO", errors["videos"]), ("STILL", errors["images"])):
        if tables:
            print(f"{name} = {{")
            for count, pair in reversed(list(zip(GRIDS, np.mean(tables, axis=0), strict=True))):
                print(f"    1 / {count**2}: ({pair[0]:.3f}, {pair[1]:.3f}),")
            print("}")


def report(cases: list[Case], prior: np.ndarray, count: int) -> tuple[float, float]:
    """Print a grid's rows; returns the map's error above even and below."""
    target: list[np.ndarray] = []
    rows: dict[str, list[np.ndarray]] = {"map": [], "centre prior": [], "half of the observers": []}
    for density, first, second in cases:
        ours, middle = box_shares(density, count), box_shares(prior, count)
        for seen, other in ((first, second), (second, first)):
            target.append(recorded_shares(seen, count))
            found = (ours, middle, recorded_shares(other, count))
            for row, values in zip(rows.values(), found, strict=True):
                row.append(values)
    truth = np.array(target)
    full = truth.argmax(axis=1)
    map_errors = (np.nan, np.nan)
    print(f"  {count}x{count}: the fullest box has {truth.max(axis=1).mean():.3f} of the gaze")
    for name, values in rows.items():
        predicted = np.array(values).round(12)  # rounding errors are no order of boxes
        error = np.abs(predicted - truth)
        above = predicted > np.round(1 / count**2, 12)
        if name == "map":
            map_errors = (mean(error[above]), mean(error[~above]))
        missing = (predicted - truth)[np.arange(len(full)), full].mean()
        print(
            f"    {name:22} error {error.mean():.3f}, "
            f"above even {shown(mean(error[above]))}, below {shown(mean(error[~above]))}  "
            f"bias above even {shown(mean((predicted - truth)[above]), '+.3f')}, "
            f"in the fullest {missing:+.3f}  rank correlation "
            f"{shown(mean(ranks(predicted, truth)), '.2f')}"
        )
    return map_errors


def ranks(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Rank correlations, row by row, where both rows have an order."""
    ordered = (np.ptp(predicted, axis=1) > 0) & (np.ptp(truth, axis=1) > 0)
    pairs = zip(predicted[ordered], truth[ordered], strict=True)
    return np.array([spearmanr(p, t).statistic for p, t in pairs])


def mean(values: np.ndarray) -> float:
    """NaN where there is none."""
    return float(values.mean()) if len(values) else np.nan


def shown(value: float, form: str = ".3f") -> str:
    return "-" if np.isnan(value) else format(value, form)


if __name__ == "__main__":
    main()
