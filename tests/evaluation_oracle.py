"""Independent reading and scoring of the tiny STAViS tree; reading of what evaluate wrote."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from scipy.io import loadmat

KEYS = ("cc", "sim", "nss", "auc_judd", "kl")
BASELINES = {"centre Gaussian", "uniform", "mean map of others", "spectral residual"}


def per_recording(folder: Path, method: str) -> dict[str, dict[str, float]]:
    """One method's scores by recording, from scores.csv."""
    rows = csv.DictReader((folder / "scores.csv").read_text().splitlines())
    mine = (row for row in rows if row["method"] == method)
    return {row["name"]: {key: float(row[key]) for key in KEYS} for row in mine}


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def annotated_frames(tree: Path, database: str, name: str):
    """(index, map, fixations) of the frames with fixations, read by other means."""
    folder = tree / "annotations" / database / name
    for index in range(18):
        fixations = loadmat(folder / f"fixMap_{index + 1:05d}.mat")["eyeMap"] > 0
        if fixations.any():
            path = folder / "maps" / f"eyeMap_{index + 1:05d}.jpg"
            yield index, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), fixations


def independent_scores(tree: Path, database: str, name: str, maps) -> dict[str, float]:
    """Mean scores of a video's maps (a function of the frame's index)."""
    frames = list(annotated_frames(tree, database, name))
    assert len(frames) == 16  # of 18; on two of them nobody looked
    rows = []
    for index, density, fixations in frames:
        saliency = np.asarray(maps(index), float)
        if saliency.shape != density.shape:
            saliency = cv2.resize(saliency, density.shape[::-1], interpolation=cv2.INTER_LINEAR)
        p, q = saliency / saliency.sum(), density / density.sum()
        unit = [(m - m.min()) / (m.max() - m.min()) for m in (saliency, density.astype(float))]
        low, high = unit[0] / unit[0].sum(), unit[1] / unit[1].sum()
        eps = 2.0**-52
        rows.append(
            {
                "cc": np.corrcoef(saliency.ravel(), density.ravel())[0, 1],
                "sim": np.minimum(low, high).sum(),
                "nss": ((saliency - saliency.mean()) / saliency.std(ddof=1))[fixations].mean(),
                "auc_judd": slow_auc(saliency, fixations),
                "kl": (q * np.log(eps + q / (p + eps))).sum(),
            }
        )
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def slow_auc(saliency: np.ndarray, fixations: np.ndarray) -> float:
    hits = np.sort(saliency[fixations])[::-1]
    false = [((saliency >= hit).sum() - rank) for rank, hit in enumerate(hits, 1)]
    x = [0, *(np.array(false) / (~fixations).sum()), 1]
    y = [0, *(np.arange(1, len(hits) + 1) / len(hits)), 1]
    return float(np.trapezoid(y, x))


def shuffled_auc(tree: Path, database: str, name: str, saliency: np.ndarray) -> float:
    """sAUC by its words: the union of the video's fixations minus the frame's own, many draws."""
    frames = list(annotated_frames(tree, database, name))
    union = np.logical_or.reduce([fixations for _index, _density, fixations in frames])
    unit = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    random = np.random.default_rng(5)
    areas = []
    for _index, _density, fixations in frames:
        hits, pool = unit[fixations], unit[union & ~fixations]
        for _draw in range(100):
            misses = random.choice(pool, min(hits.size, pool.size), replace=False)
            steps = np.arange(10, -1, -1) / 10
            x = [0, *[(misses >= step).mean() for step in steps], 1]
            y = [0, *[(hits >= step).mean() for step in steps], 1]
            areas.append(np.trapezoid(y, x))
    return float(np.mean(areas))


def centre(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    x, y = (x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5
    return np.exp(-((y / 0.19) ** 2) / 2) * np.exp(-((x / 0.22) ** 2) / 2)
