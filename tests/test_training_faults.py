"""Runs that diverge, are stopped, meet another run or other data, and checkpoints that are bad."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import film
from stavis_tree import write_tree
from training_state import best_weights, checkpoint, log_rows, same

from avsal.errors import AvsalError, UsageError, WeightsError
from avsal.models import VARIANTS, Variant
from avsal.training import loop
from avsal.training.batches import inspect
from avsal.training.checkpoint import all_finite, only_run_in
from avsal.training.config import LossSettings
from avsal.training.engine import Engine
from avsal.training.loop import Trainer, train
from avsal.training.objectives import AudioVisual, ImageSaliency, StillSaliency

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = ("loss.alignment=0", "network.changes.image=none", "network.changes.audio=none")


def test_what_is_not_finite_is_never_saved(make_config):
    """Not over what is, and the message tells the truth about what is there."""
    config = make_config(
        "optimiser.learning_rate=1e30", "run.log_steps=99", "run.checkpoint_steps=1", *QUICK
    )
    with pytest.raises(AvsalError, match=r"not finite at step \d \(last\.pt is from step 1\)"):
        train(config)
    state = checkpoint(Path(config.run.output))
    assert state["position"]["step"] == 1
    assert all_finite(state)


def test_a_run_that_diverges_before_anything_is_saved_says_so(make_config):
    config = make_config("optimiser.learning_rate=1e30", *QUICK)
    with pytest.raises(AvsalError, match=r"at step \d \(nothing is saved\).*--fresh") as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not (Path(config.run.output) / "last.pt").exists()


@pytest.mark.parametrize("content", ["half", "other", "not finite"])
def test_a_bad_checkpoint_says_how_to_go_on(make_config, content):
    config = make_config("schedule.epochs=1", "schedule.validate_every=9", *QUICK)
    last = train(config) / "last.pt"
    state = torch.load(last, weights_only=True)
    if content == "half":
        last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    elif content == "other":
        torch.save({"model": state["task"]}, last)
    else:
        next(iter(state["task"].values())).view(-1)[0] = torch.nan
        torch.save(state, last)
    with pytest.raises(WeightsError, match=r"last\.pt: .*--fresh") as caught:
        train(config)
    assert "download" not in str(caught.value)
    train(config, fresh=True)


@pytest.mark.slow
def test_a_signal_in_validation_stops_there_and_loses_nothing(make_config, tmp_path, monkeypatch):
    changes = (*QUICK, "schedule.epochs=2", "data.windows=3")
    whole = train(make_config(*changes, f"run.output={tmp_path / 'whole'}"))
    scored: list[int] = []
    score, validate = loop.validate.__globals__["_score"], loop.validate

    def stopped(*given: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*given)

    monkeypatch.setitem(
        validate.__globals__, "_score", lambda *given: (scored.append(1), score(*given))[1]
    )
    monkeypatch.setattr(loop, "validate", stopped)
    parts = make_config(*changes, f"run.output={tmp_path / 'parts'}")
    with pytest.raises(KeyboardInterrupt):
        train(parts)
    assert scored == [1]
    assert checkpoint(tmp_path / "parts")["position"]["step"] == 2
    monkeypatch.setattr(loop, "validate", validate)
    folder = train(parts)
    assert log_rows(folder) == log_rows(whole)
    rows, expected = log_rows(folder, "epochs.csv"), log_rows(whole, "epochs.csv")
    assert [{**row, "seconds": ""} for row in rows] == [{**row, "seconds": ""} for row in expected]
    assert same(checkpoint(folder)["task"], checkpoint(whole)["task"])
    assert same(best_weights(folder), best_weights(whole))


def test_two_runs_do_not_write_into_one_folder(make_config):
    config = make_config("schedule.epochs=1", "schedule.validate_every=9", *QUICK)
    folder = train(config)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with only_run_in(folder), pytest.raises(UsageError, match="another run writes into it"):
        train(config, fresh=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    train(config, fresh=True)


def test_other_data_are_refused_and_moved_data_are_not(make_config, tmp_path):
    write_tree(tmp_path / "tree", ("SumMe",))
    quick = ("schedule.validate_every=9", "run.log_steps=2", *QUICK)
    train(make_config("schedule.epochs=1", *quick, data=tmp_path / "tree"))
    shutil.move(tmp_path / "tree", tmp_path / "moved")
    more = ("schedule.epochs=2", "schedule.validate_every=9", "run.log_steps=1", *QUICK)
    folder = train(make_config(*more, data=tmp_path / "moved"))
    assert len(log_rows(folder, "epochs.csv")) == 2

    picture = next((tmp_path / "moved/video_frames/SumMe").rglob("img_00002.jpg"))
    kept = picture.read_bytes()
    picture.write_bytes(kept + b"\0")
    with pytest.raises(UsageError, match=r"other .* data \(other contents of SumMe/clip_\d\)"):
        train(make_config("schedule.epochs=3", *more[1:], data=tmp_path / "moved"))
    picture.write_bytes(kept)

    shutil.copytree(tmp_path / "moved", tmp_path / "other")
    for path in (tmp_path / "other/fold_lists").glob("*_test_*"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[::-1]))
    validation = f"data.validation=[{{root='{tmp_path / 'other'}', split='train'}}]"
    with pytest.raises(UsageError, match=r"validation"):
        train(make_config("schedule.epochs=3", *more[1:], validation, data=tmp_path / "moved"))


def test_half_precision_without_a_scaler_is_refused(make_config):
    with pytest.raises(UsageError, match=r"run\.precision: fp16 does not train on cpu; use bf16"):
        train(make_config("run.precision=fp16"))


def _meta(make: object, *given: object) -> set[str]:
    with torch.device("meta"):
        return set(make(*given).core.state_dict())  # type: ignore[operator]


@pytest.mark.parametrize("name", [name for name, row in VARIANTS.items() if row.image])
def test_what_an_image_run_writes_fits_the_whole_network(name):
    variant: Variant = VARIANTS[name]
    alone = StillSaliency if variant.network == "small" else ImageSaliency
    written = _meta(alone, variant, LossSettings())
    with torch.device("meta"):
        whole = AudioVisual(variant, (), LossSettings())
    own = set(whole.core.state_dict())
    assert all(key in own or whole.ignores(key) for key in written)
    encoder = {key for key in own if key.startswith("image_encoder.")}
    assert encoder <= written


def test_both_stages_of_the_default_network(make_config, image_set, tmp_path):
    """Images first, as in the paper, then the whole network from what they gave."""
    small = (
        "network.variant=small-224x384",
        "network.changes.height=160",
        "network.changes.width=192",
        "schedule.epochs=1",
        "optimiser.learning_rate=1e-3",
        f"data.validation.0.root={image_set}",
    )
    images = make_config(*small, "run.task=image", data=image_set)
    first = train(images)
    weights = best_weights(first)
    assert any(name.startswith("image_encoder.") for name in weights)
    initial = json.dumps([str(first / "best.safetensors")])
    stage = make_config(*small, f"run.output={tmp_path / 'whole'}", f"network.initial={initial}")
    with Engine("cpu") as engine:
        network = Trainer(stage, engine).objective.core.state_dict()
    for name, tensor in weights.items():
        assert torch.equal(network[name], tensor), name


def test_a_dry_run_finds_a_video_that_was_cut_once(make_config, tmp_path):
    videos, maps = tmp_path / "videos", tmp_path / "maps" / "film"
    videos.mkdir()
    maps.mkdir(parents=True)
    path = film(tmp_path / "film.mkv", 4.0)
    (videos / "film.mkv").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for index in range(100):
        np.save(maps / f"{index:06d}.npy", np.ones((6, 8), np.float32))
    config = make_config(
        f"data.train=[{{root='{videos}', maps='{maps.parent}'}}]", "data.validation=[]"
    )
    (report,) = inspect(config)
    (problem,) = [each for each in report.problems if "truncated" in each]
    assert "film.mkv" in problem
    assert len(set(report.problems)) == len(report.problems)


def test_a_dry_run_lists_what_is_wrong_with_a_picture_once(make_config, image_set):
    (image_set / "images" / "p1.jpg").write_bytes(b"no picture")
    (report,) = inspect(make_config("data.validation=[]", data=image_set))
    (problem,) = report.problems
    assert "p1.jpg" in problem
