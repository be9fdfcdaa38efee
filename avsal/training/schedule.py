"""The learning rate as a function of progress; no state, so nothing of it has to be saved."""

from __future__ import annotations

import math

from avsal.training.config import ScheduleSettings


def rate_factor(settings: ScheduleSettings, epoch: float) -> float:
    """Factor of the learning rate after `epoch` epochs, fractions included."""
    if epoch < settings.warmup:
        return epoch / settings.warmup
    if settings.kind == "step":
        passed = sum(epoch >= milestone for milestone in settings.milestones)
        return float(settings.factor**passed)
    left = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / settings.epochs)))
    return settings.factor + (1 - settings.factor) * left
