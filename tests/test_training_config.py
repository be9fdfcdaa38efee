"""Settings of training runs: what is refused, what the defaults are, the example files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from avsal import models
from avsal.errors import UsageError
from avsal.training.config import ScheduleSettings, read_config

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = Path(__file__).parent.parent / "examples" / "training"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("optimiser.learning_rat=1", "optimiser.learning_rat: unknown key; did you mean learning_"),
        ("optimizer.batch=1", "optimizer: unknown key; did you mean optimiser?"),
        ("loss.zzz=1", "loss.zzz: unknown key; known: kl, cc, alignment"),
        ("loss=1", "loss: must be a table, not 1"),
        ("loss.kl=nan", "loss.kl: must be a finite number, not nan"),
        ("optimiser.batch=2.5", "optimiser.batch: must be a valid integer, not 2.5"),
        ("optimiser.batch=true", "optimiser.batch: must be a valid integer, not True"),
        ("optimiser.batch=0", "optimiser.batch: must be greater than or equal to 1, not 0"),
        ("optimiser.ema=1", "optimiser.ema: must be less than 1, not 1"),
        ("network.variant=s4d", "network.variant: 's4d' is unknown; known: mvit"),
        (
            "network.variant=s3d-224x22",
            "network.variant: 's3d-224x22' is unknown; did you mean",
        ),
        ("network.changes.width=true", "network.changes.width: must be a valid integer, not True"),
        ("network.changes.widht=1", "network.changes: 'widht' is unknown; did you mean width?"),
        ("network.changes.motion=none", "network.changes.motion: must be a valid string, not None"),
        ("network.freeze=['eyes']", "network.freeze[0]: must be 'image', 'audio' or 'motion'"),
        ("schedule.milestones=60", "schedule.milestones: must be a valid array, not 60"),
        ("schedule.milestones=['a']", "schedule.milestones[0]: must be a valid integer, not 'a'"),
        ("data.train=[]", "data.train: give at least one"),
        ("data.train=[{}]", "data.train[0].root: missing"),
        ("data.train.0.root=1979-05-27", "dates and times"),
        ("data.train.0.fold=4", "data.train[0].fold: must be 1, 2 or 3, not 4"),
        ("data.train.0.split=val", "data.train[0].split: must be '', 'train' or 'test', not 'val'"),
        ("data.train.0.units=px", "data.train[0].units: must be 'auto', 'pixels' or 'fractions'"),
        ("data.train.0.degree=-3", "data.train[0].degree: must be greater than 0, not -3"),
        ("data.train.0.degree=inf", "data.train[0].degree: must be a finite number"),
        ("data.train.0.name=x", "data.train[0].name: unknown key; did you mean names?"),
        ("data.train.3.root=x", "the file has no 3 there"),
        ("run.task=both", "run.task: must be 'avsp' or 'image', not 'both'"),
        ("run.precision=fp8", "run.precision: must be 'auto', 'fp32', 'fp16' or 'bf16', not"),
        ("augment.flip=2.0", "augment.flip: must be less than or equal to 1, not 2.0"),
        ("loss.kl=" + "[" * 2000 + "]" * 2000, "nested too deep"),
        ("loss." + "a." * 3000 + "b=1", "nested too deep"),
        ("loss.kl=" + "9" * 5000, "no valid TOML"),
        ("optimiser", "give TABLE.KEY=VALUE"),
    ],
)
def test_config_errors_are_one_line_that_says_what_to_do(make_config, change, text):
    with pytest.raises(UsageError, match=re.escape(text)) as caught:
        make_config(change)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_config_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("[run\noutput=1")
    with pytest.raises(UsageError, match="no valid TOML"):
        read_config(bad)
    bad.write_bytes(b"[run]\noutput = '\xe9'")
    with pytest.raises(UsageError, match="no valid TOML"):
        read_config(bad)
    for deep in ("a = " + "[" * 1500 + "]" * 1500, "[" + ".".join("a" * 1500) + "]"):
        bad.write_text(deep)
        with pytest.raises(UsageError, match=r"bad\.toml: tables or arrays are nested too deep"):
            read_config(bad)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_config_files_as_editors_save_them(make_config, tmp_path, encoding):
    expected = make_config()
    path = tmp_path / "config.toml"
    path.write_text(path.read_text("utf-8"), encoding)
    assert read_config(path) == expected


def test_an_image_run_needs_an_image_encoder(make_config):
    with pytest.raises(UsageError, match="tiny has no image encoder"):
        make_config("run.task=image", "network.changes.image=none")


def test_an_empty_text_or_0_is_not_given(make_config):
    (one,) = make_config("data.train.0.names=", "data.train.0.degree=0").data.train
    assert (one.names, one.degree) == (None, None)


def test_variant_changes_and_head_norm(make_config):
    changed = make_config("network.changes.audio=none", "network.changes.decoder_width=24").variant
    assert (changed.audio, changed.decoder_width, changed.head_norm) == (False, 24, "layer")
    assert make_config("optimiser.batch=3").variant.head_norm == "batch"
    assert make_config("optimiser.batch=3", "network.head_norm=layer").variant.head_norm == "layer"


def test_paper_schedule():
    paper = ScheduleSettings()
    assert [paper.rate_factor(e) for e in (0, 59.99, 60, 119)] == pytest.approx([1, 1, 0.1, 0.1])
    cosine = ScheduleSettings(epochs=10, kind="cosine", factor=0.2, warmup=1.0)
    assert cosine.rate_factor(0.5) == pytest.approx(0.5)
    assert cosine.rate_factor(5) == pytest.approx(0.6)
    assert cosine.rate_factor(10) == pytest.approx(0.2)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_configs_in_the_repository(avsal_command, tree, tmp_path, path):
    """Each reads the data it is meant for, in tiny, and belongs to a network that exists."""
    from PIL import Image

    config = read_config(path)
    assert config.variant.name in models.VARIANTS
    pictures = tmp_path / "pictures"
    for folder in ("images", "maps"):
        (pictures / folder).mkdir(parents=True)
        for number in range(4):
            values = np.full((30, 40), 60 * number + 5, np.uint8)
            Image.fromarray(values).convert("RGB" if folder == "images" else "L").save(
                pictures / folder / f"{number}.png"
            )
    root = tree if config.run.task == "avsp" else pictures
    roots = [
        argument
        for part in ("train", "validation")
        for place in range(len(getattr(config.data, part)))
        for argument in ("--set", f"data.{part}.{place}.root={root}")
    ]
    code, out, err = avsal_command("train", path, "--dry-run", *roots)
    assert (code, err) == (0, "")
    assert out.count("0 problems") == 2
    assert f"({', '.join(map(str, config.variant.size))}) float32" in out
