"""All metrics of one frame at once, and their means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from avsal import metrics
from avsal.evaluation.truth import Truth


@dataclass(frozen=True)
class Metric:
    """A column of the tables; `key` names it in files."""

    key: str
    heading: str


METRICS = (
    Metric("cc", "CC"),
    Metric("sim", "SIM"),
    Metric("nss", "NSS"),
    Metric("auc_judd", "AUC-Judd"),
    Metric("sauc", "sAUC"),
    Metric("kl", "KL"),
    Metric("ig", "IG"),
)

# By a metric's key; a metric without a value, such as sAUC without other fixations, is left out.
Scores = dict[str, float]


def resized(saliency: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map to an annotation's (height, width), bilinear."""
    if saliency.shape == size:
        return saliency
    return cv2.resize(saliency, size[::-1], interpolation=cv2.INTER_LINEAR)


def score(saliency: np.ndarray, truth: Truth, prior: np.ndarray) -> Scores:
    """Score a map against an annotation.

    Args:
        saliency: of any size and scale.
        prior: (H, W) map over which information gain counts.
    """
    values = resized(saliency, truth.size).astype(np.float64)
    scores: Scores = {"cc": metrics.cc(values, truth.density)}
    if truth.density.any():
        scores["sim"] = metrics.sim(values, truth.density)
        scores["kl"] = metrics.kl(values, truth.density)
    if truth.fixations is not None:
        scores["nss"] = metrics.nss(values, truth.fixations)
        scores["auc_judd"] = metrics.auc_judd(values, truth.fixations)
        scores["ig"] = metrics.information_gain(values, truth.fixations, prior)
        if truth.others is not None:
            random = np.random.default_rng(truth.seed)
            scores["sauc"] = metrics.sauc(values, truth.fixations, truth.others, random)
    return scores


def mean_scores(each: Iterable[Scores]) -> Scores:
    """Mean of every metric over those that have a value for it."""
    gathered: dict[str, list[float]] = {}
    for scores in each:
        for key, value in scores.items():
            gathered.setdefault(key, []).append(value)
    order = [metric.key for metric in METRICS if metric.key in gathered]
    return {key: float(np.mean(gathered[key])) for key in order}
