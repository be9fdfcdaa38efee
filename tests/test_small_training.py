"""What the training of the default network needs besides the paper's recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avsal.datasets.stills import open_stills
from avsal.models import VARIANTS
from avsal.prediction.settings import PredictSettings
from avsal.training.config import AugmentSettings, LossSettings
from avsal.training.engine import Engine
from avsal.training.objectives import AudioVisual
from avsal.training.samples import Augmentation, draw_augmentation
from avsal.training.validation import validate

SMALL = Path(__file__).parents[1] / "weights" / "recipe"


def names(file: str) -> set[str]:
    return set((SMALL / file).read_text().split())


def test_a_fifth_of_the_stills_is_held_out():
    assert len(names("osie-validation.txt")) == 140
    assert len(names("eyecrowd-validation.txt")) == 100


def test_scenes_that_are_one_are_held_out_together():
    held = names("gaze-validation.txt")
    assert {"BasketballDrill", "BasketballDrillText", "RaceHorsesC", "RaceHorsesD"} <= held


def test_sources_of_composites_are_held_out_by_person_and_clip():
    rows = [line.split("\t") for line in (SMALL / "sources.tsv").read_text().splitlines()[1:]]
    part = {name: which for name, _kind, which in rows}
    assert len(part) == len(rows)
    assert {(kind, which) for _name, kind, which in rows} == {
        (kind, which) for kind in ("speech", "music", "thing") for which in ("train", "held")
    }
    for one, other in (
        ("talk1-12", "talk1-13"),
        ("talk1-27", "talk1-33"),
        ("event-45", "event-46"),
    ):
        assert part[one] == part[other]


def test_the_validation_lists_name_real_pictures():
    data = Path(__file__).parents[2] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the data sets are not on this machine")
    for name in ("osie", "eyecrowd"):
        there = {path.name for path in (data / name / "images").iterdir()}
        assert names(f"{name}-validation.txt") <= there


def test_a_share_of_the_stills_stays_still():
    settings = AugmentSettings(pan=0.3, still=0.5)
    random = np.random.default_rng(0)
    views = [draw_augmentation(settings, random, 4, still=True) for _ in range(200)]
    panned = sum(len(set(view.boxes)) > 1 for view in views)
    assert 70 <= panned <= 130


def test_equal_views_of_one_picture_are_made_once(monkeypatch):
    made: list[int] = []
    plain = Augmentation.frame
    monkeypatch.setattr(
        Augmentation, "frame", lambda self, *given: (made.append(given[1]), plain(self, *given))[1]
    )
    image = np.random.default_rng(1).integers(0, 255, (30, 40, 3), np.uint8)
    box, other = (0.0, 0.0, 1.0, 1.0), (0.1, 0.1, 0.9, 0.9)
    clip = Augmentation((box, box, other, box)).clip([image] * 4, (32, 32))
    assert made == [0, 2]
    assert clip.shape == (3, 4, 32, 32)
    assert torch.equal(clip[:, 0], clip[:, 3])
    assert not torch.equal(clip[:, 0], clip[:, 2])


def test_validation_in_half_precision_gives_scores(image_set):
    """bfloat16 networks are scored in float32; the products are emulated where they have to be."""
    torch.manual_seed(0)
    variant = replace(VARIANTS["small-224x384"], height=160, width=160, audio=False)
    task = AudioVisual(variant, ("image",), LossSettings(alignment=0))
    assert (task.inputs.frames, task.inputs.audio) == (4, False)
    with Engine("cpu", "bf16") as engine:
        scores = validate(task, open_stills(image_set), 1, engine)
    assert all(np.isfinite(value) for value in scores.values())


def test_the_network_s_own_stride_is_left_to_it(tmp_path):
    from avsal.prediction.model import load_model

    small = load_model("small-224x384", "untrained", "cpu", "fp32")
    assert small.with_defaults(PredictSettings()).stride == 2
    assert small.with_defaults(PredictSettings(stride=3)).stride == 3
    assert VARIANTS["mvitv2s-224x384"].stride == 1
