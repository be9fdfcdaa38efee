"""Training: it learns, resumes exactly, keeps frozen parts, and says clearly what is wrong."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from stavis_tree import write_tree
from training_state import best_weights, checkpoint, log_rows, same

from avsal.datasets.stavis import open_stavis
from avsal.errors import DataError, OutputError, UsageError, WeightsError
from avsal.models.encoders.videoswin import WindowAttention
from avsal.training.checkpoint import STATE_KEYS, Events, read_checkpoint, write_checkpoint
from avsal.training.config import AugmentSettings, Config
from avsal.training.engine import Engine
from avsal.training.loop import Trainer, moving_average, train
from avsal.training.samples import TrainingSamples
from avsal.training.validation import validate

pytestmark = pytest.mark.usefixtures("one_thread")


def _with_run(config: Config, **changes: object) -> Config:
    return config.model_copy(update={"run": config.run.model_copy(update=changes)})


class KilledError(Exception):
    """Stands for a kill: nothing of the run's own code handles it."""


def _kill_at(step: int) -> Callable[[int, int], None]:
    def on_step(done: int, total: int) -> None:
        if done == step:
            raise KilledError

    return on_step


def test_the_loss_goes_down_and_the_result_predicts(make_config, example_clip):
    from avsal.prediction.model import load_model

    config = make_config("schedule.epochs=10", "schedule.validate_every=10", "loss.alignment=0")
    folder = train(config)
    losses = [float(row["loss"]) for row in log_rows(folder, "epochs.csv")]
    assert sum(losses[-3:]) / 3 < losses[0] - 0.3
    scored = log_rows(folder, "epochs.csv")[-1]
    initial = json.dumps([str(folder / "best.safetensors")])
    with Engine("cpu") as engine:
        exported = Trainer(make_config(f"network.initial={initial}"), engine, fresh=True)
        scores = validate(exported.objective, exported.scored, 1, engine)
    assert {f"val_{key}" for key in scores} <= scored.keys()
    for key, value in scores.items():
        assert float(scored[f"val_{key}"]) == pytest.approx(value, abs=1e-6), key
    predictor = load_model(weights=folder / "best.safetensors", device="cpu")
    frame = next(predictor.predict(example_clip, end=0.05))
    assert np.isfinite(frame.density).all()


@pytest.mark.parametrize(
    ("changes", "killed_at"),
    [
        pytest.param(
            ("optimiser.accumulate=2", "optimiser.ema=0.9", "loss.alignment=0"),
            3,
            marks=pytest.mark.slow,
        ),
        (("run.checkpoint_steps=3", "run.log_steps=2", "loss.alignment=0"), 4),
        pytest.param(
            ("run.checkpoint_steps=3", "augment.flip=0.5", "augment.crop=0.3"),
            4,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["average", "rare log", "augmented"],
)
def test_resume_is_exact(make_config, tmp_path, changes, killed_at):
    """A run that is killed and started again ends with the same bits and tells the same curve."""
    config = make_config("schedule.epochs=3", *changes)
    whole = train(config)
    expected, curve = checkpoint(whole), log_rows(whole)
    best = best_weights(whole)

    other = _with_run(config, output=str(tmp_path))
    with pytest.raises(KilledError):
        train(other, on_step=_kill_at(killed_at))
    assert int(log_rows(tmp_path)[-1]["step"]) >= killed_at - 1
    folder = train(_with_run(other, workers=1))

    assert log_rows(folder) == curve
    state = checkpoint(folder)
    for key in ("task", "optimiser", "average", "position", "meters", "random"):
        assert same(state[key], expected[key]), key
    assert same(best_weights(folder), best)


def test_a_finished_run_stays_as_it_is(make_config):
    config = make_config("schedule.epochs=1", "loss.alignment=0")
    folder = train(config)
    before = (folder / "best.safetensors").read_bytes()
    train(config)
    assert len(log_rows(folder)) == 2
    assert (folder / "best.safetensors").read_bytes() == before


@pytest.mark.slow
def test_more_epochs_may_follow_and_other_settings_may_not(make_config):
    quick = "loss.alignment=0", "schedule.validate_every=9"
    train(make_config("schedule.epochs=1", *quick))
    folder = train(make_config("schedule.epochs=2", *quick))
    assert [row["epoch"] for row in log_rows(folder, "epochs.csv")] == ["1", "2"]
    with pytest.raises(UsageError, match=r"optimiser.learning_rate = 0.001, not 0.5.*--fresh"):
        train(make_config("optimiser.learning_rate=0.5", *quick))
    train(make_config("optimiser.learning_rate=0.5", "schedule.epochs=1", *quick), fresh=True)
    assert len(log_rows(folder)) == 2


def test_checkpoints_of_earlier_versions(make_config, tmp_path):
    """They wrote what a set does not have as "" or 0, and may lack a setting."""
    config, path = make_config("data.train.0.names=./lists/a.txt"), tmp_path / "last.pt"
    old = config.model_dump(mode="json")
    old["data"]["train"][0] |= {"names": "./lists/a.txt", "without": "", "degree": 0.0}
    del old["run"]["tensorboard"]
    state = {**dict.fromkeys(STATE_KEYS, 0), "config": json.dumps(old)}
    write_checkpoint(path, state)
    assert read_checkpoint(path, config) == state
    write_checkpoint(path, {**state, "config": "{}"})
    with pytest.raises(WeightsError, match=r"last\.pt: was written by another version"):
        read_checkpoint(path, config)


@pytest.mark.parametrize("name", ["best.safetensors", "steps.csv", "epochs.csv"])
@pytest.mark.parametrize("fresh", [False, True])
def test_files_that_no_run_wrote_are_kept(make_config, name, fresh):
    config = make_config("schedule.epochs=1")
    folder = Path(config.run.output)
    folder.mkdir(parents=True)
    (folder / name).write_text("step,mine\n1,2\n")
    with pytest.raises(OutputError, match=f"holds {name}"):
        train(config, fresh=fresh)
    assert (folder / name).read_text() == "step,mine\n1,2\n"


def test_a_damaged_checkpoint_is_named(make_config):
    folder = train(make_config("schedule.epochs=1", "loss.alignment=0"))
    (folder / "last.pt").write_bytes(b"half a file")
    with pytest.raises(WeightsError, match=r"last\.pt"):
        train(make_config())


def test_a_checkpoint_that_does_not_fit_the_disk_leaves_the_old_one(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"step": 1})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"last\.pt: cannot be written"):
            write_checkpoint(path, {"weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_tensorboard_is_asked_for_and_may_be_missing(make_config, monkeypatch, tmp_path):
    class Writer:
        def __init__(self, folder: Path, purge_step: int) -> None:
            self.values: list[tuple[str, float, int]] = []
            self.purge_step = purge_step

        def add_scalar(self, *value: object) -> None:
            self.values.append(value)

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    events = Events(tmp_path, enabled=True, step=4)
    events.write("train", {"step": 5, "loss": 0.5, "val_cc": math.nan})
    assert events._writer.values == [("train/loss", 0.5, 5)]
    assert events._writer.purge_step == 5
    Events(tmp_path, enabled=False, step=4).write("train", {"step": 5, "loss": 0.5})
    monkeypatch.setitem(sys.modules, module.__name__, None)
    with pytest.raises(UsageError, match=r"run\.tensorboard: TensorBoard is missing"):
        train(make_config("run.tensorboard=true"))


@pytest.mark.slow
def test_frozen_encoders_do_not_change(make_config):
    with Engine("cpu") as engine:
        trainer = Trainer(make_config("schedule.epochs=1", "schedule.validate_every=5"), engine)
        before = {name: tensor.clone() for name, tensor in trainer.objective.state_dict().items()}
        trainer.run()
        after = trainer.objective.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = ("network.image_encoder.", "network.audnet.")
    assert not any(name.startswith(frozen) for name in changed)
    assert any(name.startswith("network.visnet.") for name in changed)
    # Running statistics of the parts that train move; those of frozen ones are in the set above.
    assert "network.readout.2.running_mean" in changed
    assert "network.mlp_vis.0.weight" in changed
    trainer.objective.train()
    assert not trainer.objective.network.image_encoder.training
    assert trainer.objective.network.visnet.training


def test_silent_samples_take_no_part_in_the_alignment(make_config, tree):
    with Engine("cpu") as engine:
        task = Trainer(make_config(), engine).objective.eval()
    samples = TrainingSamples(
        open_stavis(tree, ("DIEM",), "train"), task.inputs, AugmentSettings(), 0
    )
    batch = torch.utils.data.default_collate([samples[0, 0], samples[0, 1]])
    assert batch["heard"].all()
    silent = {**batch, "heard": torch.zeros(2, dtype=torch.bool)}
    first = {**batch, "heard": torch.tensor([True, False])}
    alone = {key: value[:1] for key, value in batch.items()}
    with torch.no_grad():
        assert float(task(silent).alignment) == 0
        assert float(task(first).alignment) == pytest.approx(float(task(alone).alignment), abs=1e-5)
        assert float(task(batch).alignment) != pytest.approx(float(task(alone).alignment), abs=1e-7)


def test_accumulating_equals_a_larger_batch(make_config):
    """Without batch statistics, that is: the tiny network's BatchNorms are in evaluation mode."""

    def gradients(*changes: str) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        with Engine("cpu") as engine:
            trainer = Trainer(make_config("network.head_norm=layer", *changes), engine, fresh=True)
            trainer.objective.eval()
            for group in trainer._groups():
                for part in (part for batch in group for part in batch):
                    trainer._backward(part, len(group))
                break
            for name, parameter in trainer.objective.named_parameters():
                if parameter.grad is not None:
                    found[name] = parameter.grad.clone()
        return found

    whole = gradients("optimiser.batch=2")
    parts = gradients("optimiser.batch=1", "optimiser.accumulate=2")
    assert whole.keys() == parts.keys()
    scale = max(float(gradient.abs().max()) for gradient in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, parts[name], rtol=2e-3, atol=2e-5 * scale)


def test_moving_average_is_what_is_exported(make_config):
    config = make_config("schedule.epochs=1", "optimiser.ema=0.75", "loss.alignment=0")
    seen: list[dict[str, torch.Tensor]] = []
    name = "readout.12.weight"
    with Engine("cpu") as engine:
        trainer = Trainer(config, engine)
        start = trainer.objective.core.state_dict()[name].clone()

        def on_step(done: int, total: int) -> None:
            seen.append(trainer.objective.core.state_dict()[name].clone())

        trainer.on_step = on_step
        trainer.run()
    assert not torch.equal(start, seen[0])
    average = seen[0]  # the first step sets it
    for weights in seen[1:]:
        average = 0.75 * average + 0.25 * weights
    torch.testing.assert_close(best_weights(trainer.folder)[name], average)


def test_a_moving_average_copies_what_is_no_fraction():
    """VideoSwin looks its position biases up by a buffer of whole numbers."""
    attention = WindowAttention(8, 2)
    average = moving_average(attention, 0.997)
    expected = attention.relative_position_index.clone()
    before = attention.qkv.weight.detach().clone()
    average.update_parameters(attention)
    with torch.no_grad():
        attention.qkv.weight += 1
    average.update_parameters(attention)
    assert torch.equal(average.module.relative_position_index, expected)
    torch.testing.assert_close(average.module.qkv.weight, before + 0.003)


def test_image_training_makes_an_encoder_for_the_whole_network(make_config, tmp_path):
    config = make_config("run.task=image", "schedule.epochs=3", "optimiser.learning_rate=3e-3")
    folder = train(config)
    losses = [float(row["loss"]) for row in log_rows(folder, "epochs.csv")]
    assert losses[-1] < losses[0]
    weights = best_weights(folder)
    assert any(name.startswith("image_encoder.decoder.") for name in weights)
    assert {name.split(".")[0] for name in weights} == {"image_encoder"}

    initial = json.dumps([str(folder / "best.safetensors")])
    with Engine("cpu") as engine:
        output = f"run.output={tmp_path / 'whole'}"
        trainer = Trainer(make_config(f"network.initial={initial}", output), engine)
        network = trainer.objective.network.state_dict()
        again = Trainer(make_config(f"network.initial={initial}", output, "run.task=image"), engine)
    for name, tensor in weights.items():
        if "decoder" not in name:
            assert torch.equal(network[name], tensor)
        assert torch.equal(again.objective.state_dict()[name], tensor)


def test_initial_weights_that_do_not_fit(make_config, tmp_path):
    from safetensors.torch import save_file

    def start(state: dict[str, torch.Tensor]) -> None:
        save_file(state, tmp_path / "other.safetensors")
        initial = json.dumps([str(tmp_path / "other.safetensors")])
        with Engine("cpu") as engine:
            Trainer(make_config(f"network.initial={initial}"), engine)

    with pytest.raises(WeightsError, match="none of its 1 names"):
        start({"something": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"readout\.12\.bias 7 instead of 1"):
        start({"readout.12.bias": torch.zeros(7)})
    with pytest.raises(WeightsError, match="1 names are not the network's: something"):
        start({"readout.12.bias": torch.zeros(1), "something": torch.zeros(1)})


def test_train_command(avsal_command, make_config, tmp_path):
    make_config()
    code, out, _ = avsal_command(
        "train", tmp_path / "config.toml", "--set", "schedule.epochs=1", "--set", "run.seed=2"
    )
    assert code == 0
    assert "epoch 1/1  loss" in out
    assert "val_cc" in out
    code, _, err = avsal_command("train", tmp_path / "config.toml", "--set", "run.sed=2")
    assert code == 2
    assert "run.sed: unknown key; did you mean seed?" in err


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_stops_a_run_with_one_line(make_config, tmp_path, workers):
    write_tree(tmp_path / "tree", ("SumMe",))
    for path in (tmp_path / "tree/video_frames").rglob("img_00016.jpg"):
        path.write_bytes(b"no picture")  # frame 15 is in every window
    with pytest.raises(DataError, match=r"img_00016\.jpg") as caught:
        train(make_config(f"run.workers={workers}", data=tmp_path / "tree"))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
