"""Settings of training runs: what is refused, what the defaults are, the example files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avsal import models
from avsal.errors import UsageError
from avsal.training.config import ScheduleSettings, read_config
from avsal.training.schedule import rate_factor

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = Path(__file__).parent.parent / "examples" / "training"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("optimiser.learning_rat=1", "unknown key optimiser.learning_rat; known: learning_rate"),
        ("optimiser.batch=2.5", "optimiser.batch = 2.5 must be int, not float"),
        ("optimiser.batch=true", "optimiser.batch = True must be int, not bool"),
        ("network.variant=s4d", "network.variant = 's4d': give one of"),
        ("network.changes.width=true", "network.changes.width = True must be int"),
        ("network.changes.depth=1", "unknown key network.changes.depth"),
        ("schedule.milestones=60", "schedule.milestones = 60 must be a list, not int"),
        ("schedule.milestones=['a']", r"schedule.milestones\[0\] = 'a' must be int, not str"),
        ("data.train=[]", "data.train: give at least one"),
        ("data.train=[{}]", r"data.train\[0\].root is missing"),
        ("run.task=both", "run.task = 'both': give one of avsp, image"),
        ("augment.flip=2.0", "augment.flip = 2.0: give 0 to 1.0"),
        ("optimiser", "give TABLE.KEY=VALUE"),
    ],
)
def test_config_errors_are_one_line_that_says_what_to_do(make_config, change, text):
    with pytest.raises(UsageError, match=text) as caught:
        make_config(change)
    assert "\n" not in str(caught.value)


def test_config_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[run\noutput=1")
    with pytest.raises(UsageError, match="no valid TOML"):
        read_config(tmp_path / "bad.toml")


def test_variant_changes_and_head_norm(make_config):
    changed = make_config("network.changes.audio=none", "network.changes.decoder_width=24").variant
    assert (changed.audio, changed.decoder_width, changed.head_norm) == (None, 24, "layer")
    assert make_config("optimiser.batch=3").variant.head_norm == "batch"
    assert make_config("optimiser.batch=3", "network.head_norm=layer").variant.head_norm == "layer"


def test_paper_schedule():
    paper = ScheduleSettings()
    assert [rate_factor(paper, e) for e in (0, 59.99, 60, 119)] == pytest.approx([1, 1, 0.1, 0.1])
    cosine = ScheduleSettings(epochs=10, kind="cosine", factor=0.2, warmup=1.0)
    assert rate_factor(cosine, 0.5) == pytest.approx(0.5)
    assert rate_factor(cosine, 5) == pytest.approx(0.6)
    assert rate_factor(cosine, 10) == pytest.approx(0.2)


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
