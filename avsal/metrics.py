"""Scores of saliency maps against recorded gaze, as the MIT saliency benchmark defines them.

A saliency map is any (H, W) array of finite non-negative values, of any dtype and scale. Gaze comes
as `target`, a ground-truth map (blurred fixations, (H, W)), or as `fixations`, an (H, W) array that
is true, or above 0, where somebody looked. A constant map holds no information: its CC and NSS are
0 and both AUCs are 0.5. Every function raises ValueError for values that are not finite, for arrays
of different numbers of pixels and for a mask without fixations; `kl` and `information_gain`, which
need densities, also for negative values.

Bylinskii et al., "What do different evaluation metrics tell us about saliency models?", TPAMI 2019.
The details (scaling, ties, epsilon) are those of the benchmark's public code, to 1e-6.
"""

from __future__ import annotations

import functools

import numpy as np

EPSILON = float(np.finfo(np.float64).eps)  # the benchmark's guard against log 0 and division by 0
CHANCE = 0.5  # area under the ROC curve of a map that knows nothing
# Standard deviations as fractions of height and width: the spread of all fixations in free viewing
# of photographs (OSIE: 0.20 and 0.21, EyeCrowd: 0.18 and 0.23).
CENTRE_SIGMA = (0.19, 0.22)
SAUC_DRAWS = 100
SAUC_STEP = 0.1  # distance of sAUC's thresholds on a map scaled to 0..1


@functools.lru_cache(maxsize=8)
def centre_prior(size: tuple[int, int]) -> np.ndarray:
    """Centre prior: a Gaussian in the middle of a (height, width) picture, float64."""
    rows, columns = (
        np.exp(-((((np.arange(side) + 0.5) / side - 0.5) / sigma) ** 2) / 2)
        for side, sigma in zip(size, CENTRE_SIGMA, strict=True)
    )
    return np.outer(rows, columns)


def score(
    saliency: np.ndarray, density: np.ndarray | None = None, fixations: np.ndarray | None = None
) -> dict[str, float]:
    """All metrics of a map that need nothing but the gaze on the same frame, by name.

    Args:
        saliency: (H, W).
        density: ground-truth map (H, W), for cc, and where it is not empty sim and kl; None where
            it is not known.
        fixations: mask (H, W) with at least one fixation, for nss and auc_judd; None where they are
            not known.
    """
    scores: dict[str, float] = {}
    if density is not None:
        scores["cc"] = cc(saliency, density)
        if density.any():
            scores |= {"sim": sim(saliency, density), "kl": kl(saliency, density)}
    if fixations is not None:
        scores |= {"nss": nss(saliency, fixations), "auc_judd": auc_judd(saliency, fixations)}
    return scores


def cc(saliency: np.ndarray, target: np.ndarray) -> float:
    """Correlation coefficient (Pearson's) of two maps (Xie et al. 2024, eq. 8).

    Returns:
        -1 to 1; higher is better; 0 where one of the maps is constant.
    """
    a, b = _centred(saliency), _centred(target)
    spread = np.sqrt(_dot(a, a) * _dot(b, b))
    return float(_dot(a, b) / spread) if spread > 0 else 0.0


def sim(saliency: np.ndarray, target: np.ndarray) -> float:
    """Similarity, or histogram intersection: the overlap of two maps.

    Each map is scaled to 0..1, as the benchmark does, and then divided by its sum.

    Returns:
        0 to 1; higher is better.
    """
    a, b = _distribution(_unit(saliency)), _distribution(_unit(target))
    return float(np.minimum(a, b).sum())


def kl(saliency: np.ndarray, target: np.ndarray) -> float:
    """Kullback-Leibler divergence of the saliency map from the target (Xie et al. 2024, eq. 9).

    Both maps count as distributions after division by their sum.

    Returns:
        Nats, 0 or more; lower is better.
    """
    p, q = _distribution(_flat(saliency)), _distribution(_flat(target))
    return float(_dot(q, np.log(EPSILON + q / (p + EPSILON))))


def nss(saliency: np.ndarray, fixations: np.ndarray) -> float:
    """Normalised scanpath saliency: mean standard score of the map at the fixations.

    Returns:
        Standard deviations above the map's mean; higher is better, 0 is chance.
    """
    values = _centred(saliency)
    deviation = np.sqrt(_dot(values, values) / (values.size - 1))
    hits = values[_where(fixations, values.size)]
    return float(hits.mean() / deviation) if deviation > 0 else 0.0


def auc_judd(saliency: np.ndarray, fixations: np.ndarray) -> float:
    """Area under the ROC curve whose thresholds are the map's values at the fixations.

    Fixated pixels are positive, all others negative; ties of the map's values are not broken
    (Judd, Durand and Torralba 2012).

    Returns:
        0 to 1; higher is better, 0.5 is chance.
    """
    values = _flat(saliency)
    hits = np.sort(values[_where(fixations, values.size)])[::-1]
    negatives = values.size - hits.size
    ordered = np.sort(values)
    if ordered[0] == ordered[-1] or negatives == 0:
        return CHANCE
    above = values.size - np.searchsorted(ordered, hits, side="left")  # at or above each threshold
    rank = np.arange(1, hits.size + 1)
    return float(_area(rank / hits.size, (above - rank) / negatives))


def sauc(
    saliency: np.ndarray,
    fixations: np.ndarray,
    others: np.ndarray,
    rng: np.random.Generator | None = None,
    draws: int = SAUC_DRAWS,
) -> float:
    """Shuffled AUC: the negatives are places where people looked at other times.

    Each draw takes as many other places as there are fixations, or all if there are fewer, without
    repetition; thresholds are steps of 0.1 on the map scaled to 0..1.

    Args:
        others: (H, W), true at the fixations of other frames or images.
        rng: random generator of the draws; None makes one with seed 0.
        draws: how many.

    Returns:
        Mean over the draws, 0 to 1; higher is better, 0.5 is chance.
    """
    values = _flat(saliency)
    places = [_where(mask, values.size) for mask in (fixations, others)]
    low, high = values.min(), values.max()
    if low == high:
        return CHANCE
    thresholds = np.arange(1 + round(1 / SAUC_STEP)) * SAUC_STEP
    # How many places reach no threshold, the first, the first two, ...
    hits, available = (
        np.bincount(
            np.searchsorted(thresholds, (values[where] - low) / (high - low), side="right"),
            minlength=thresholds.size + 1,
        )
        for where in places
    )
    taken = min(int(hits.sum()), int(available.sum()))
    # All that matters of a draw is how many places of each kind it holds: this distribution.
    rng = rng or np.random.default_rng(0)
    drawn = rng.multivariate_hypergeometric(available, taken, size=draws)
    true_rate = hits[:0:-1].cumsum() / hits.sum()
    false_rates = drawn[:, :0:-1].cumsum(axis=1) / taken
    return float(_area(np.broadcast_to(true_rate, false_rates.shape), false_rates).mean())


def information_gain(saliency: np.ndarray, fixations: np.ndarray, baseline: np.ndarray) -> float:
    """Bits per fixation by which a map predicts the fixations better than a baseline.

    Both maps count as densities after division by their sum (Kümmerer, Wallis and Bethge, PNAS
    2015).

    Args:
        baseline: (H, W) map, as a rule a centre prior.

    Returns:
        Bits per fixation; higher is better, 0 is as good as the baseline.
    """
    where = _where(fixations, saliency.size)
    if np.size(baseline) != np.size(saliency):
        raise ValueError(f"baseline of {np.size(baseline)} pixels for a map of {np.size(saliency)}")
    p, q = (_distribution(_flat(values))[where] for values in (saliency, baseline))
    return float(np.mean(np.log2(EPSILON + p) - np.log2(EPSILON + q)))


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product without BLAS, whose threads would spin against others that score or predict."""
    return float(np.einsum("i,i->", a, b))


def _flat(values: np.ndarray) -> np.ndarray:
    flat = np.asarray(values, np.float64).ravel()
    if not np.isfinite(flat).all():
        raise ValueError("a map has values that are not finite (NaN or infinity)")
    return flat


def _centred(values: np.ndarray) -> np.ndarray:
    flat = _flat(values)
    # Of a constant map nothing is left, whereas the mean may be off by its rounding error.
    return flat - (flat[0] if flat.min() == flat.max() else flat.mean())


def _unit(values: np.ndarray) -> np.ndarray:
    """Scale to 0..1; a constant map becomes 1 everywhere."""
    flat = _flat(values)
    low, high = flat.min(), flat.max()
    return (flat - low) / (high - low) if high > low else np.ones_like(flat)


def _distribution(values: np.ndarray) -> np.ndarray:
    """Divide by the sum; a map of zeros becomes uniform."""
    if values.min() < 0:
        raise ValueError(
            f"a map has negative values ({values.min():.4g}); of log-densities give the exponential"
        )
    total = values.sum()
    return values / total if total > 0 else np.full_like(values, 1 / values.size)


def _where(mask: np.ndarray, size: int) -> np.ndarray:
    """Flat indices of the marked pixels of a mask that must have `size` pixels."""
    flat = np.ravel(mask)
    if flat.size != size:
        raise ValueError(f"fixations of {flat.size} pixels for a map of {size}")
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        raise ValueError("the fixations have values that are not finite (NaN or infinity)")
    indices = np.flatnonzero(flat > 0)
    if indices.size == 0:
        raise ValueError("no fixations: the score has no value")
    return indices


def _area(true_rate: np.ndarray, false_rate: np.ndarray) -> np.ndarray:
    """Area under ROC curves given by the points between (0, 0) and (1, 1), over the last axis."""
    ends = [(0, 0)] * (true_rate.ndim - 1) + [(1, 1)]
    corners = (0, 1)
    true_rate, false_rate = (
        np.pad(rate, ends, constant_values=corners) for rate in (true_rate, false_rate)
    )
    heights = (true_rate[..., 1:] + true_rate[..., :-1]) / 2
    return (np.diff(false_rate) * heights).sum(axis=-1)
