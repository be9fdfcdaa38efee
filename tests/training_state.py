"""What training tests compare runs by."""

from __future__ import annotations

import torch


def same(first: object, second: object) -> bool:
    """Whether two nested states hold the same values, bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
