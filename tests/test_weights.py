"""Import, detection and loading of weights, without the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import avsal
from avsal import models, weights
from avsal.errors import OutputError, UsageError, WeightsError
from avsal.models.variants import VARIANTS
from avsal.weights.loading import KeyDiff, compare, detect, expected_shapes

HEADS = ("vis_projector.", "aud_projector.", "mlp_vis.", "mlp_aud.")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty avsal folder."""
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AVSAL_HUB_REPO", raising=False)
    return tmp_path / "home"


@pytest.fixture
def trained(tiny) -> dict[str, torch.Tensor]:
    """State of a small network with its training heads, no two numbers alike by default."""
    torch.manual_seed(7)
    return models.build(tiny, heads=True).state_dict()


@pytest.fixture
def checkpoint(trained, tmp_path) -> Path:
    path = tmp_path / "authors.pt"
    torch.save(trained, path)
    return path


def without_heads(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith(HEADS)}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


# --- import ---------------------------------------------------------------------------------


def test_import_round_trip(checkpoint, trained, tiny, home):
    made = weights.import_checkpoint(checkpoint)
    assert made.path == home / "weights" / "tiny.safetensors"
    assert (made.name, made.variant) == (tiny, tiny)
    assert made.dropped == len(trained) - made.tensors > 0
    loaded = weights.load_weights(tiny)
    assert_same(loaded.state, without_heads(trained))
    models.build(tiny).load_state_dict(loaded.state, strict=True)
    assert loaded.sha256 == weights.sha256_of(made.path)
    assert (loaded.name, loaded.variant, loaded.path) == (tiny, tiny, made.path)


def test_import_writes_what_the_file_is(checkpoint):
    made = weights.import_checkpoint(checkpoint)
    with safe_open(made.path, "pt") as file:
        metadata = file.metadata()
    assert metadata == {
        "format": "pt",
        "variant": "tiny",
        "size": "32x64",
        "avsal": avsal.__version__,
        "source": "authors.pt",
        "source_sha256": weights.sha256_of(checkpoint),
    }


def test_import_to_a_file_leaves_the_folder_alone(checkpoint, tmp_path, home):
    made = weights.import_checkpoint(checkpoint, output=tmp_path / "here" / "own.safetensors")
    assert made.name == str(made.path)
    assert not home.exists()
    assert [path.name for path in made.path.parent.iterdir()] == ["own.safetensors"]


def test_failed_write_leaves_the_old_file(checkpoint, trained, tmp_path, monkeypatch):
    output = tmp_path / "out.safetensors"
    weights.import_checkpoint(checkpoint, output=output)
    before = output.read_bytes()

    def full(state, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avsal.weights.state.save_file", full)
    with pytest.raises(OutputError, match="no space left on device"):
        weights.import_checkpoint(checkpoint, output=output)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authors.pt", "out.safetensors"]


# --- names and shapes -----------------------------------------------------------------------


def test_published_names(parity):
    lines = (parity / "keys" / "s3d-224x224.tsv").read_text().splitlines()
    published = {}
    for name, _, shape in (line.split("\t") for line in lines):
        size = () if shape == "scalar" else tuple(map(int, shape.split("x")))
        if not name.startswith(HEADS):
            published[name] = size
    assert not compare(expected_shapes("s3d-224x224"), published)


def fake_state(variant: str) -> dict[str, torch.Tensor]:
    """A state dict of the right names and shapes that takes no memory."""
    with torch.device("meta"):
        return models.build(variant).state_dict()


@pytest.mark.parametrize(
    ("variant", "detected"),
    [
        ("mvitv2s-224x224", "mvitv2s-224x384"),  # same names: the larger input is taken
        ("s3d-224x224", "s3d-224x384"),
        ("x3dl-224x224", "x3dl-224x224"),
    ],
)
def test_detection(variant, detected):
    assert detect(fake_state(variant)) == (detected, KeyDiff())


def test_variant_overrides_detection(checkpoint, tiny, monkeypatch, tmp_path):
    smaller = avsal_variant(tiny, "tiny-small", 32, 64)
    monkeypatch.setitem(VARIANTS, smaller.name, smaller)
    assert weights.import_checkpoint(checkpoint).variant == tiny
    made = weights.import_checkpoint(checkpoint, "tiny-small")
    assert made.variant == "tiny-small"
    assert weights.read_state(made.path)[1]["size"] == "32x64"
    # and the file keeps saying so, against detection
    assert weights.load_state(made.path).variant == "tiny-small"


def avsal_variant(base: str, name: str, height: int, width: int):
    import dataclasses

    return dataclasses.replace(VARIANTS[base], name=name, height=height, width=width)


def test_diff_names_what_differs():
    wanted = {"a": (1,), "b": (2, 3), **{f"m{i}": (1,) for i in range(5)}}
    diff = compare(wanted, {"a": (1,), "b": (3, 2), "extra": ()})
    assert len(diff) == 7
    assert str(diff) == (
        "5 missing: m0, m1, m2, ...; 1 unexpected: extra; 1 of wrong shape: b 3x2 instead of 2x3"
    )


def test_import_is_strict(trained, tmp_path):
    del trained["audnet.conv1.weight"]
    trained["surplus"] = torch.zeros(3)
    trained["readout.0.bias"] = torch.zeros(5)
    path = tmp_path / "broken.pt"
    torch.save(trained, path)
    with pytest.raises(WeightsError) as caught:
        weights.import_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in (str(path), "tiny", "audnet.conv1.weight", "surplus", "readout.0.bias 5 instead"):
        assert part in text


def test_encoder_alone_is_no_network(tmp_path):
    path = tmp_path / "encoder.pt"
    torch.save({"layer.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="--component"):
        weights.import_checkpoint(path)


# --- resolving and loading ------------------------------------------------------------------


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pt: no such file"):
        weights.load_weights(weights=tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="is a folder"):
        weights.load_weights(weights=tmp_path)
    with pytest.raises(WeightsError, match=r"none\.pt: no such file"):
        weights.import_checkpoint(tmp_path / "none.pt")


def test_order_of_places(tmp_path, monkeypatch, home):
    row = weights.get_row("mspi-s3d")
    monkeypatch.chdir(tmp_path)
    shipped = tmp_path / "shipped"
    monkeypatch.setattr("avsal.weights.places.CHECKOUT", shipped)
    made = {}
    for folder in (Path(), shipped, home / "weights"):
        folder.mkdir(parents=True, exist_ok=True)
        made[folder] = folder / (row.name if folder == Path() else row.file)
        made[folder].touch()
    assert weights.resolve(row.name) == made[Path()]
    made[Path()].unlink()
    assert weights.resolve(row.name) == made[shipped]
    assert weights.locate(row).where == "shipped"
    made[shipped].unlink()
    assert weights.resolve(row.name) == made[home / "weights"]
    assert weights.locate(row).where == "imported"
    assert weights.present() == ["mspi-s3d"]
    made[home / "weights"].unlink()
    assert weights.locate(row) is None
    with pytest.raises(WeightsError, match="run once: avsal weights pull mspi-s3d"):
        weights.resolve(row.name)


def test_user_folder_follows_the_desktop_conventions(monkeypatch, tmp_path):
    monkeypatch.delenv("AVSAL_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert weights.user_folder() == tmp_path / "avsal" / "weights"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.user_folder() == tmp_path / ".local" / "share" / "avsal" / "weights"


def test_names_mean_rows():
    for name in ("mspi-s3d", "s3d", "s3d-224x384"):
        assert weights.get_row(name).name == "mspi-s3d"
    with pytest.raises(UsageError, match="mspi-mvitv2s"):
        weights.get_row("nonsense")
    with pytest.raises(UsageError, match="mspi-mvitv2s"):
        weights.load_weights("nonsense", "untrained")


def test_registry_rows_are_buildable():
    assert weights.DEFAULT in weights.REGISTRY
    for row in weights.REGISTRY.values():
        assert row.variant in VARIANTS


def test_checkpoint_is_used_directly(checkpoint, trained, tiny):
    loaded = weights.load_weights(weights=checkpoint)
    assert loaded.variant == tiny
    assert loaded.name == "authors.pt"
    assert loaded.sha256 == weights.sha256_of(checkpoint)
    assert_same(loaded.state, without_heads(trained))


def test_half_precision_files_come_back_as_float32(trained, tiny, tmp_path):
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in without_heads(trained).items()
    }
    weights.write_state(tmp_path / "half.safetensors", half, weights.describe(tiny))
    state = weights.load_state(tmp_path / "half.safetensors").state
    for name, tensor in half.items():
        wanted = torch.float32 if tensor.is_floating_point() else tensor.dtype
        assert state[name].dtype == wanted
        assert torch.equal(state[name], tensor.to(wanted))


def test_weights_of_another_network(checkpoint):
    with pytest.raises(WeightsError) as caught:
        weights.load_weights("s3d-224x224", checkpoint)
    text = str(caught.value)
    assert "weights of tiny, not of s3d-224x224" in text
    assert "--model tiny" in text
    assert "\n" not in text


def test_variant_that_nobody_published(tiny):
    with pytest.raises(WeightsError, match=r"tiny: .*--weights FILE"):
        weights.load_weights(tiny)


def test_untrained_weights_are_the_same_each_time(tiny):
    first = weights.load_weights(tiny, "untrained")
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    second = weights.load_weights(tiny, "untrained")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_same(second.state, first.state)
    assert second.sha256 == first.sha256
    assert "untrained" in first.notes[0]
    other = weights.untrained_state(tiny, seed=1)
    assert any(not torch.equal(other[name], tensor) for name, tensor in first.state.items())


def test_sha256_of_untrained_weights_is_that_of_their_file(tiny, tmp_path):
    loaded = weights.load_weights(tiny, "untrained")
    save_file(loaded.state, tmp_path / "x.safetensors")
    assert weights.sha256_of(tmp_path / "x.safetensors") == loaded.sha256


def test_looking_for_weights_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys; from avsal import weights; weights.present(); print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


# --- command line ---------------------------------------------------------------------------


def test_commands(avsal_command, checkpoint, tiny, home):
    code, out, _ = avsal_command("weights", "import", checkpoint)
    assert code == 0
    assert "--weights tiny" in out
    file = home / "weights" / "tiny.safetensors"
    assert avsal_command("weights", "path", tiny) == (0, f"{file}\n", "")
    code, out, _ = avsal_command("weights", "list")
    assert code == 0
    assert "tiny" in out
    assert f"{weights.DEFAULT} (default)" in out
    code, out, _ = avsal_command("weights", "verify")
    assert code == 0
    assert weights.sha256_of(file) in out
    file.write_bytes(file.read_bytes()[:-1])
    code, out, _ = avsal_command("weights", "verify", tiny)
    assert code == 1
    assert "damaged" in out


def test_command_errors(avsal_command, checkpoint):
    code, out, err = avsal_command("weights", "path", "mspi-s3d")
    assert (code, out) == (1, "")
    assert "run once: avsal weights pull mspi-s3d" in err
    assert len(err.splitlines()) == 1
    assert avsal_command("weights", "pull", "nonsense")[0] == 2
    assert avsal_command("weights", "import", checkpoint, "--variant", "nonsense")[0] == 2
    assert avsal_command("weights", "import", checkpoint, "--variant", "s3d-224x224")[0] == 1
    assert avsal_command("weights", "import", checkpoint, "--component", "motion")[0] == 2


@pytest.mark.slow
def test_full_size_checkpoint(parity, tmp_path):
    torch.manual_seed(0)
    state = models.build("s3d-224x224", heads=True).state_dict()
    path = tmp_path / "mspi_s3d.pt"
    torch.save({"state_dict": state}, path)
    made = weights.import_checkpoint(path)
    assert (made.name, made.variant) == ("mspi-s3d", "s3d-224x384")
    network = models.build("s3d-224x224")
    network.load_state_dict(weights.load_weights("s3d-224x224", "mspi-s3d").state, strict=True)
    assert_same(dict(network.state_dict()), without_heads(state))
