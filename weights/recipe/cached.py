"""Cached features with recorded gaze or the teacher's maps, as windows for training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from cache import SHAPES

GRID = (56, 96)  # (height, width) of targets; a cell is 4x4 pixels of the network's input
SIGMA = 0.035  # standard deviation of the fixations' blur, relative to the longer side
OPEN = 0.1  # seconds before and after a frame in which fixations count for training
FEWEST = 10  # fixations that a scored frame needs at least
FIRST = 0.5  # seconds; earlier frames of a video are not scored

Feature = torch.Tensor


@dataclass
class Clip:
    """A sequence of cached frames.

    Attributes:
        rows: its rows in the set's arrays.
        seconds: time of each frame.
        points: fixations at each frame, (n, 2) relative to width and height; None without gaze.
        wide: the same, including fixations up to OPEN seconds away, for training.
        sigma: (x, y) standard deviation of the blur in cells of GRID.
        teacher: the teacher's log-densities (count, *GRID); None if there are none.
        taught: the teacher's share of the target if there is gaze.
    """

    name: str
    set: str
    rows: range
    seconds: list[float]
    mirrored: bool
    points: list[np.ndarray] | None = None
    wide: list[np.ndarray] | None = None
    sigma: tuple[float, float] = (0.0, 0.0)
    teacher: np.ndarray | None = None
    taught: float = 0.0


class Store:
    """Open the arrays of a cached set, which stay on disk."""

    def __init__(self, folder: Path) -> None:
        self.index = json.loads((folder / "index.json").read_text())
        self.rows = sum(each["count"] for each in self.index)
        self.arrays = [
            np.memmap(folder / f"features{number}.f16", np.float16, "r", shape=(self.rows, *shape))
            for number, shape in enumerate(SHAPES)
        ]

    def take(self, level: int, rows: list[int]) -> torch.Tensor:
        """Read the features (N, C, h, w) of some rows as float32."""
        return torch.from_numpy(np.stack([self.arrays[level][row] for row in rows])).float()

    def clips(self, name: str) -> list[Clip]:
        """Read the sequences of a set, without gaze."""
        return [
            Clip(
                each["name"],
                name,
                range(each["first"], each["first"] + each["count"]),
                each["seconds"],
                each["mirrored"],
            )
            for each in self.index
        ]


def sigma_of(width: float, height: float) -> tuple[float, float]:
    """Return the standard deviation of the blur in cells of GRID."""
    longer = SIGMA * max(width, height)
    return longer / width * GRID[1], longer / height * GRID[0]


def add_video_gaze(clips: list[Clip], file: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """Add fixations to videos; sizes are (width, height) by name."""
    with np.load(file, allow_pickle=True) as data:
        names, fix = list(data["names"]), data["fix"]
    for clip in clips:
        own = fix[fix[:, 0] == names.index(Path(clip.name).stem)]
        start, end = own[:, 2], own[:, 2] + own[:, 3]
        places = own[:, 4:6].copy()
        if clip.mirrored:
            places[:, 0] = 1 - places[:, 0]
        clip.points = [places[(start <= t) & (t < end)] for t in clip.seconds]
        clip.wide = [places[(start <= t + OPEN) & (t - OPEN < end)] for t in clip.seconds]
        clip.sigma = sigma_of(*sizes[clip.name])


def add_still_gaze(clips: list[Clip], file: Path) -> None:
    """Add fixations to stills."""
    with np.load(file, allow_pickle=True) as data:
        names, sizes, fix = list(data["names"]), data["orig_size"], data["fix"]
    for clip in clips:
        number = names.index(clip.name)
        places = fix[fix[:, 0] == number][:, 2:4].copy()
        places = places[((places >= 0) & (places < 1)).all(axis=1)]
        if clip.mirrored:
            places[:, 0] = 1 - places[:, 0]
        clip.points = clip.wide = [places]
        clip.sigma = sigma_of(*(float(each) for each in sizes[number]))


def marks_of(points: np.ndarray) -> np.ndarray:
    """Count the fixations in each cell, float32 GRID."""
    marks = np.zeros(GRID, np.float32)
    cells = np.clip((points * (GRID[1], GRID[0])).astype(int), 0, (GRID[1] - 1, GRID[0] - 1))
    np.add.at(marks, (cells[:, 1], cells[:, 0]), 1)
    return marks


def density_of(marks: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """Blur fixations to a density that sums to 1."""
    blurred = cv2.GaussianBlur(
        marks, (0, 0), sigmaX=sigma[0], sigmaY=sigma[1], borderType=cv2.BORDER_CONSTANT
    )
    return blurred / max(float(blurred.sum()), 1e-12)


def nss(density: np.ndarray, marks: np.ndarray) -> float:
    """Normalised scanpath saliency over cells."""
    standard = (density - density.mean()) / (density.std() + 1e-12)
    return float((standard * marks).sum() / marks.sum())


def cc(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
