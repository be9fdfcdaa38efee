"""What keeps a GPU busy, as far as it shows on a CPU: order, and how much is started ahead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avsal.prediction import predictor as module
from avsal.prediction.model import load_model
from avsal.prediction.transfer import Fetched, behind, to_device


@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_items_come_in_order_and_so_many_later(count):
    taken = []

    def items():
        for item in range(6):
            taken.append(item)
            yield item

    given = behind(items(), count)
    assert next(given) == 0
    assert len(taken) == min(count + 1, 6)
    assert list(given) == [1, 2, 3, 4, 5]


def test_on_the_host_nothing_is_copied():
    tensor = torch.arange(3)
    assert to_device(tensor, torch.device("cpu")).data_ptr() == tensor.data_ptr()
    assert Fetched([tensor], None).wait()[0] is tensor


def test_maps_are_the_same_where_the_next_ones_are_started_first(
    tiny, tiny_weights, example_clip, monkeypatch
):
    predictor = load_model(tiny, tiny_weights, "cpu", "fp32")
    plain = list(predictor.predict(example_clip, end=0.8, batch=4, stride=2))
    started = module.Predictor.postprocess
    monkeypatch.setattr(
        module.Predictor, "postprocess", lambda *given: started(*given[:3], module.GROUPS_AHEAD)
    )
    ahead = list(predictor.predict(example_clip, end=0.8, batch=4, stride=2))
    assert [frame.tag for frame in ahead] == [frame.tag for frame in plain]
    for one, other in zip(plain, ahead, strict=True):
        assert np.array_equal(one.density, other.density)
