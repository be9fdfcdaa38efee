"""Losses against the metrics, and against what the paper's equations say of simple maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from avsal import metrics
from avsal.models.fusion import alignment_loss
from avsal.training.config import LossSettings
from avsal.training.objectives import correlation, kl_divergence, total_loss

pytestmark = pytest.mark.usefixtures("one_thread")

HEIGHT, WIDTH = 24, 40


def _maps(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-densities and ground truth (5, 24, 40), the truth 0 at many pixels."""
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(0, 2, (5, HEIGHT, WIDTH)).astype(np.float32))
    truth = random.uniform(-1, 1, (5, HEIGHT, WIDTH)).clip(0).astype(np.float32) * 255
    log_density = logits - logits.logsumexp(dim=(1, 2), keepdim=True)
    return log_density, torch.from_numpy(truth)


@pytest.mark.parametrize("seed", [0, 1])
def test_batched_kl_and_cc_agree_with_the_metrics(seed):
    log_density, truth = _maps(seed)
    densities = log_density.double().exp().numpy()
    kl, cc = kl_divergence(log_density, truth), correlation(log_density.exp(), truth)
    for row in range(len(truth)):
        assert float(kl[row]) == pytest.approx(metrics.kl(densities[row], truth[row].numpy()), 1e-5)
        expected = metrics.cc(densities[row], truth[row].numpy())
        assert float(cc[row]) == pytest.approx(expected, abs=1e-5)


def test_cc_stays_exact_where_densities_are_tiny():
    """Densities over a large picture are about 1e-5: their spread must not fall under a floor."""
    random = np.random.default_rng(3)
    density = random.uniform(1, 1.001, (1, 224, 384))
    density /= density.sum()
    truth = random.uniform(0, 1, (1, 224, 384))
    found = correlation(torch.from_numpy(density), torch.from_numpy(truth))
    assert float(found) == pytest.approx(metrics.cc(density[0], truth[0]), abs=2e-3)


def test_perfect_prediction_is_the_optimum():
    _, truth = _maps(2)
    truth = truth + 1e-3
    density = truth / truth.sum(dim=(1, 2), keepdim=True)
    loss = total_loss(density.log(), truth, torch.zeros(()), LossSettings())
    assert float(loss.kl) == pytest.approx(0, abs=1e-5)
    assert float(loss.cc) == pytest.approx(1, abs=1e-5)
    assert float(loss.total) == pytest.approx(-1, abs=1e-5)


def test_an_empty_or_flat_map_gives_finite_loss_and_gradient():
    logits = torch.zeros(2, HEIGHT, WIDTH, requires_grad=True)
    truth = torch.stack([torch.zeros(HEIGHT, WIDTH), torch.ones(HEIGHT, WIDTH)])
    log_density = logits - logits.logsumexp(dim=(1, 2), keepdim=True)
    loss = total_loss(log_density, truth, torch.zeros(()), LossSettings())
    loss.total.backward()
    assert math.isfinite(float(loss.total.detach()))
    assert float(logits.grad.norm()) < 1e3
    assert float(loss.cc.detach()) == 0


def test_weights_of_the_terms():
    log_density, truth = _maps(4)
    alignment = torch.tensor(-0.25)
    loss = total_loss(log_density, truth, alignment, LossSettings(kl=2.0, cc=0.5, alignment=3.0))
    expected = 2.0 * loss.kl - 0.5 * loss.cc + 3.0 * alignment
    assert float(loss.total) == pytest.approx(float(expected), rel=1e-6)


def test_descent_on_the_loss_moves_the_map_to_the_truth():
    truth = _maps(5)[1] + 10.0
    logits = (0.1 * _maps(6)[0]).requires_grad_()
    adam = torch.optim.Adam([logits], 0.05)
    for _ in range(200):
        adam.zero_grad()
        log_density = logits - logits.logsumexp(dim=(1, 2), keepdim=True)
        loss = total_loss(log_density, truth, torch.zeros(()), LossSettings())
        loss.total.backward()
        adam.step()
    assert float(loss.kl.detach()) < 0.01
    assert float(loss.cc.detach()) > 0.99


def test_alignment_is_the_symmetrised_cosine_without_gradient_into_targets():
    """Eq. 6 and 7, computed another way."""
    random = torch.Generator().manual_seed(0)
    outputs = [torch.randn(3, 8, generator=random, requires_grad=True) for _ in range(4)]
    visual, audio, visual_target, audio_target = outputs
    loss = alignment_loss(*outputs)
    units = [(output / output.norm(dim=1, keepdim=True)).detach() for output in outputs]
    expected = -0.5 * ((units[1] * units[2]).sum() + (units[0] * units[3]).sum()) / 3
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-6)
    loss.backward()
    assert visual.grad is not None and audio.grad is not None
    assert visual_target.grad is None and audio_target.grad is None


def test_alignment_leaves_silent_samples_out():
    random = torch.Generator().manual_seed(1)
    outputs = [torch.randn(4, 8, generator=random, requires_grad=True) for _ in range(4)]
    heard = torch.tensor([True, False, True, False])
    loss = alignment_loss(*outputs, heard)
    expected = alignment_loss(*(output[heard] for output in outputs))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    silent = alignment_loss(*outputs, torch.zeros(4, dtype=torch.bool))
    assert float(silent.detach()) == 0
    silent.backward()
    assert not outputs[0].grad.any()
