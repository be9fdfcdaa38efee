"""Scores of a network while it is trained.

They watch a run: a few windows of every video, at the network's size. `avsal evaluate` follows the
protocol of the literature.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import torch

from avsal import metrics
from avsal.prediction.postprocess import to_density
from avsal.training.engine import Engine
from avsal.training.objectives import Objective
from avsal.training.samples import Sample

SCORES = ("cc", "kl", "sim", "nss", "auc_judd")
Scores = dict[str, float]


def validate(objective: Objective, batches: Iterable[Sample], engine: Engine) -> Scores:
    """Score a network: the mean over every source's windows, then over sources.

    Args:
        objective: left in evaluation mode.
        batches: this process's share of `ValidationSamples`.

    Returns:
        One value for each of SCORES, NaN where no sample has what it needs.
    """
    objective.eval()
    found: list[tuple[int, Scores]] = []
    with torch.inference_mode():
        for batch in batches:
            with engine.autocast():
                log_density = objective.predict(engine.put(batch))
            maps = log_density.float().cpu().numpy()
            densities = [to_density(each, objective.inputs.size) for each in maps]
            numbers = batch["source"].tolist()
            truths, marks = batch["map"].numpy(), batch["fixations"].numpy()
            for number, density, truth, mark in zip(numbers, densities, truths, marks, strict=True):
                known = (values if values.any() else None for values in (truth, mark))
                scores = dict.fromkeys(SCORES, math.nan)  # of a run that diverged
                if np.isfinite(density).all():
                    scores = metrics.score(density, *known)
                found.append((number, scores))
    return _mean([scored for share in engine.gather(found) for scored in share])


def _mean(found: list[tuple[int, Scores]]) -> Scores:
    by_source: dict[str, dict[int, list[float]]] = {key: defaultdict(list) for key in SCORES}
    for number, scores in sorted(found, key=lambda scored: scored[0]):
        for key, value in scores.items():
            by_source[key][number].append(value)
    return {
        key: math.fsum(math.fsum(values) / len(values) for values in lists.values()) / len(lists)
        if lists
        else math.nan
        for key, lists in by_source.items()
    }
