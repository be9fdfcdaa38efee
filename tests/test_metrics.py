"""Metrics against the MIT saliency benchmark's own numbers, and against definitions written out."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from avsal import metrics

GOLDEN = Path(__file__).parent / "metrics"
CASES = json.loads((GOLDEN / "golden.json").read_text())
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def arrays():
    return np.load(GOLDEN / "golden.npz")


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["case"]))
def test_equals_benchmark(arrays, case):
    sal, gt, fix, oth = (
        arrays[f"{kind}_{case['case']:02}"] for kind in ("sal", "gt", "fix", "oth")
    )
    found = {
        "CC": metrics.cc(sal, gt),
        "SIM": metrics.sim(sal, gt),
        "NSS": metrics.nss(sal, fix),
        "AUC": metrics.auc_judd(sal, fix),
        "sAUC": metrics.sauc(sal, fix, oth),
        "KL": metrics.kl(sal, gt),
    }
    for name, value in found.items():
        assert value == pytest.approx(case[name], abs=TOLERANCE), name


def test_constant_map_is_chance(arrays):
    flat = np.full((72, 96), 7, np.uint8)
    gt, fix, oth = arrays["gt_03"], arrays["fix_03"], arrays["oth_03"]
    assert metrics.cc(flat, gt) == 0
    assert metrics.nss(flat, fix) == 0
    assert metrics.auc_judd(flat, fix) == metrics.sauc(flat, fix, oth) == 0.5
    uniform = np.full(flat.shape, 1 / flat.size)
    unit = (gt - gt.min()) / (gt.max() - gt.min())
    assert metrics.sim(flat, gt) == pytest.approx(np.minimum(uniform, unit / unit.sum()).sum())


def test_constant_map_of_an_awkward_value():
    """The mean of equal floats can differ from them by rounding, which must not count."""
    flat = np.full((37, 41), 0.1)
    fix = np.zeros(flat.shape)
    fix[3, 4] = 1
    assert metrics.nss(flat, fix) == 0
    assert metrics.cc(flat, np.random.default_rng(0).random(flat.shape)) == 0


def test_auc_judd_counts_ties_as_the_benchmark_does():
    saliency = np.array([[3, 2, 2], [2, 1, 0]])
    fixations = np.array([[0, 1, 0], [1, 0, 0]])
    # Thresholds 2 and 2: four pixels at or above, of which one, then two are counted as hits.
    points = [(0, 0), (3 / 4, 1 / 2), (2 / 4, 1), (1, 1)]
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))
    assert metrics.auc_judd(saliency, fixations) == pytest.approx(area)


def test_sauc_has_the_mean_of_real_draws():
    rng = np.random.default_rng(3)
    saliency = rng.random((40, 50)) ** 2
    fixations = np.zeros(saliency.shape, bool)
    others = np.zeros(saliency.shape, bool)
    fixations.ravel()[rng.choice(2000, 12, replace=False)] = True
    others.ravel()[rng.choice(2000, 150, replace=False)] = True
    unit = (saliency - saliency.min()) / np.ptp(saliency)
    hits, pool = unit[fixations], unit[others]

    def one_draw() -> float:
        chosen = rng.choice(pool, hits.size, replace=False)
        thresholds = [k * 0.1 for k in range(10, -1, -1)]
        tp = [0, *((hits >= t).mean() for t in thresholds), 1]
        fp = [0, *((chosen >= t).mean() for t in thresholds), 1]
        steps = itertools.pairwise(zip(fp, tp, strict=True))
        return float(sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in steps))

    expected = np.mean([one_draw() for _ in range(4000)])
    found = metrics.sauc(saliency, fixations, others, np.random.default_rng(0), draws=4000)
    assert found == pytest.approx(expected, abs=0.006)  # three standard errors of both means


def test_sauc_is_seeded(arrays):
    case = arrays["sal_05"], arrays["fix_03"], arrays["oth_05"]  # more others than fixations
    first, again, other = (metrics.sauc(*case, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other


def test_information_gain():
    fixations = np.zeros((4, 5), bool)
    fixations[1, 1] = fixations[2, 3] = True
    better = np.where(fixations, 8.0, 1.0)
    assert metrics.information_gain(better, fixations, better) == 0
    expected = np.log2(8 / better.sum()) - np.log2(1 / 20)
    gain = metrics.information_gain(better, fixations, np.ones((4, 5)))
    assert gain == pytest.approx(expected)


@pytest.mark.parametrize(
    "score",
    [
        lambda fix: metrics.nss(np.eye(4), fix),
        lambda fix: metrics.auc_judd(np.eye(4), fix),
        lambda fix: metrics.sauc(np.eye(4), fix, np.eye(4)),
        lambda fix: metrics.sauc(np.eye(4), np.eye(4), fix),
        lambda fix: metrics.information_gain(np.eye(4), fix, np.ones((4, 4))),
    ],
)
def test_no_value_without_fixations(score):
    with pytest.raises(ValueError, match="no fixations"):
        score(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="6 pixels"):
        score(np.ones((2, 3)))


@pytest.mark.parametrize("score", [metrics.cc, metrics.sim, metrics.kl])
def test_maps_of_different_sizes_are_refused(score):
    with pytest.raises(ValueError):
        score(np.eye(4), np.eye(5))


def test_a_baseline_of_another_size_is_refused():
    with pytest.raises(ValueError, match="baseline of 25 pixels for a map of 16"):
        metrics.information_gain(np.eye(4), np.eye(4), np.ones((5, 5)))


def test_all_scores_that_the_known_gaze_allows():
    random = np.random.default_rng(8)
    saliency, density = random.random((2, 12, 16))
    fixations = random.random((12, 16)) > 0.9
    assert metrics.score(saliency, density, fixations) == {
        "cc": metrics.cc(saliency, density),
        "sim": metrics.sim(saliency, density),
        "kl": metrics.kl(saliency, density),
        "nss": metrics.nss(saliency, fixations),
        "auc_judd": metrics.auc_judd(saliency, fixations),
    }
    assert metrics.score(saliency, np.zeros((12, 16))) == {"cc": 0.0}
    assert metrics.score(saliency) == {}
