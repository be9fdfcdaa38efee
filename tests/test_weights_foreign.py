"""What is saved in place of weights, and weights as other programs save them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from release_server import running_github
from safetensors.torch import save_file

from avsal import models, weights
from avsal.errors import WeightsError
from avsal.models.variants import VARIANTS

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 19332096\n"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pt"))
    return content.getvalue()


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("fold1.pt", b"x")
        archive.writestr("fold2.pt", b"x")
    return content.getvalue()


def npz() -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, frames=np.zeros(1000))
    return content.getvalue()


FOREIGN = {
    "pointer": (LFS, "Git LFS pointer.*git lfs pull"),
    "page": (b"\n <!DOCTYPE html><html>Sign in</html>", "is a web page.*in a browser"),
    "json": (json.dumps({"error": "Not found"}).encode(), 'is JSON text.*"Not found"'),
    "tar": (tar(), "is a tar archive; unpack it"),
    "gzip": (gzip.compress(b"x"), "compressed by gzip; unpack it"),
    "bzip2": (bz2.compress(b"x"), "compressed by bzip2; unpack it"),
    "xz": (lzma.compress(b"x"), "compressed by xz; unpack it"),
    "npz": (npz(), r"is a zip archive \(frames\.npy\), not a checkpoint"),
    "zip": (zipped(), r"is a zip archive \(fold1\.pt, fold2\.pt\).*unpack it"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    "nothing": (b"", "is empty; download it again"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_file_of_weights_is_named(kind, suffix, tmp_path, avsal_command):
    content, says = FOREIGN[kind]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"x\{suffix}: .*{says}") as caught:
        weights.load_weights(weights=path)
    assert "\n" not in str(caught.value)
    code, _out, err = avsal_command("weights", "import", path)
    assert code == 1
    assert len(err.splitlines()) == 1


def test_a_page_is_not_downloaded_to_its_end(avsal_command, monkeypatch, home):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("avsal.weights.download.CHUNK", 1 << 12)
    monkeypatch.setattr("avsal.weights.download.LARGEST", 1 << 12)  # two chunks are an error
    with running_github() as github:
        github.files["x.pt"] = b"<html>" + b"x" * (1 << 20)
        code, _out, err = avsal_command("weights", "import", f"{github.url}/download/x.pt")
    assert code == 1
    assert f"{github.url}/download/x.pt: is a web page" in err
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_checkpoint_called_safetensors_is_read(tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    assert weights.read_state(tmp_path / "x.safetensors")[0]["x"].tolist() == [1, 1]


# --- other programs' checkpoints -------------------------------------------------------------


@pytest.fixture
def tiny(tiny, monkeypatch) -> str:
    """The tiny network without its image branch, which has most of the weights."""
    name = f"{tiny}-blind"
    monkeypatch.setitem(VARIANTS, name, replace(VARIANTS[tiny], name=name, image=None))
    return name


@pytest.fixture
def state(tiny) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return dict(models.build(tiny).state_dict())


def named(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def averaged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t + 1 if t.is_floating_point() else t for name, t in state.items()}


OTHERS = {
    "Lightning": lambda state: {
        "state_dict": {**named("net.", state), "loss.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.5",
        "hyper_parameters": {"lr": 1e-4},
    },
    "Lightning, compiled": lambda state: {"state_dict": named("model._orig_mod.", state)},
    "AveragedModel": lambda state: {"n_averaged": torch.tensor(3), **named("module.", state)},
    "AveragedModel in parallel": lambda state: named(
        "module.", {"n_averaged": torch.tensor(3), **named("module.", state)}
    ),
    "average alone": lambda state: {"ema_state_dict": state, "epoch": 3},
    "average beside": lambda state: {"model": state, "model_ema": averaged(state)},
    "average among": lambda state: {
        **named("online_model.", state),
        **named("ema_model.", averaged(state)),
        "step": torch.tensor(5),
    },
    "without counters": lambda state: {
        name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")
    },
}


@pytest.mark.parametrize("program", OTHERS)
def test_other_programs(program, state, tiny, tmp_path):
    torch.save(OTHERS[program](state), tmp_path / "x.pt")
    loaded = weights.load_weights(weights=tmp_path / "x.pt")
    assert loaded.variant == tiny
    assert loaded.state.keys() == state.keys()
    made = weights.import_checkpoint(tmp_path / "x.pt")
    models.build(tiny).load_state_dict(weights.load_weights(weights=made.name).state)
    for read in (loaded.state, weights.load_weights(weights=made.name).state):
        assert all(
            torch.equal(read[name], tensor)
            for name, tensor in state.items()
            if tensor.is_floating_point()
        )


def test_the_average_that_is_not_read_is_named(state, tmp_path, caplog):
    torch.save(OTHERS["average beside"](state), tmp_path / "x.pt")
    weights.load_weights(weights=tmp_path / "x.pt")
    assert "averaged weights under model_ema" in caplog.text


def test_safetensors_of_other_programs(state, tiny, tmp_path):
    save_file(OTHERS["without counters"](named("model.", state)), tmp_path / "x.safetensors")
    assert weights.load_weights(weights=tmp_path / "x.safetensors").variant == tiny


def test_averages_without_names_say_what_to_do(tmp_path):
    torch.save({"decay": 0.9, "shadow_params": [torch.ones(2)]}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="copy_to"):
        weights.read_state(tmp_path / "x.pt")


def test_two_networks_are_not_chosen_between(state, tmp_path):
    both = {**named("student.", state), **named("critic.", state)}
    torch.save(both, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"several networks \(under student\., critic\.\)"):
        weights.load_weights(weights=tmp_path / "x.pt")


def test_a_checkpoint_to_resume_from_points_to_the_weights(state, tmp_path):
    content = {"task": state, "optimiser": {}, "config": "{}", "average": None}
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match=rf"resume.* {tmp_path / 'best.safetensors'}"):
        weights.load_weights(weights=tmp_path / "last.pt")


def test_a_program_of_torchscript_is_named(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="TorchScript"):
        weights.read_state(tmp_path / "x.pt")


def test_weights_of_earlier_versions_of_the_default_network(tmp_path):
    torch.manual_seed(0)
    state = models.build("small-224x384").state_dict()
    added = "decoder.motion."
    earlier = {name: t for name, t in state.items() if not name.startswith(added)}
    save_file(earlier, tmp_path / "earlier.safetensors")
    loaded = weights.load_weights(weights=tmp_path / "earlier.safetensors")
    assert loaded.variant == "small-224x384"
    assert loaded.state.keys() == state.keys()
    assert not any(t.any() for name, t in loaded.state.items() if name not in earlier)
