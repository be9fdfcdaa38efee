"""Weights from the authors' release and from any address, against a server on this machine."""

from __future__ import annotations

import io
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from release_server import RELEASE, running_github

from avsal import models, weights
from avsal.models.variants import VARIANTS
from avsal.weights import download, registry
from avsal.weights.download import WebFile
from avsal.weights.registry import REGISTRY, WeightsRow

NAME = "mspi-tiny"
FILE = "MSPI_tiny_fold1.pth"
YES = ("--yes",)


@pytest.fixture
def github():
    with running_github() as server:
        yield server


@pytest.fixture
def home(github, tmp_path, monkeypatch) -> Path:
    """A machine with an empty avsal folder, whose GitHub is the server, online."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("avsal.weights.download.PAUSE", 0)
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(download.API_VARIABLE, github.url)
    monkeypatch.delenv("AVSAL_HUB_REPO", raising=False)
    return tmp_path / "home"


@pytest.fixture
def tiny(tiny, monkeypatch) -> str:
    """The tiny network without its image branch, which has most of the weights."""
    name = f"{tiny}-blind"
    monkeypatch.setitem(VARIANTS, name, replace(VARIANTS[tiny], name=name, image=None))
    return name


@pytest.fixture
def row(tiny, monkeypatch, home) -> WeightsRow:
    """A small network that the authors are said to have released."""
    row = WeightsRow(NAME, tiny, f"{NAME}.safetensors", released=True)
    monkeypatch.setitem(REGISTRY, NAME, row)
    return row


@pytest.fixture
def released(row, github) -> bytes:
    """The release holds the network's checkpoint."""
    github.files[FILE] = checkpoint(models.build(row.variant))
    github.files["README.md"] = b"text"
    return github.files[FILE]


def checkpoint(network: torch.nn.Module) -> bytes:
    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    return content.getvalue()


def downloads(home: Path) -> list[Path]:
    return [path for path in (home / "weights").rglob("downloads/*") if path.is_file()]


def one_error(err: str, *parts: str) -> None:
    """One line of error among the notes."""
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, err
    for part in parts:
        assert part in lines[0]


def test_pull_from_the_release(avsal_command, released, github, row, home):
    code, out, err = avsal_command("weights", "pull", NAME, *YES)
    assert code == 0, err
    path = home / "weights" / f"{NAME}.safetensors"
    assert out == f"{path}\n"
    assert "state no licence" in err
    state, metadata = weights.read_state(path)
    assert state.keys() == models.build(row.variant).state_dict().keys()
    assert metadata["source"] == FILE
    assert metadata["source_url"] == f"{github.url}/download/{FILE}"
    assert metadata["source_sha256"] == sha256(released)
    assert metadata["variant"] == row.variant
    assert downloads(home) == []
    assert github.requests == [f"GET {RELEASE}", f"GET /download/{FILE}"]
    assert avsal_command("weights", "pull", NAME) == (0, f"{path}\n", "")  # it is here now
    assert len(github.requests) == 2
    assert weights.load_weights(NAME).variant == row.variant


def sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def test_without_weights_there_is_one_command(avsal_command, row, home, example_clip, tmp_path):
    code, _out, err = avsal_command("predict", example_clip, "-o", tmp_path / "o", "--model", NAME)
    assert code == 1
    assert err.strip() == (
        f"error: {NAME}: not on this machine; run once: avsal weights pull {NAME}"
    )


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_the_licence_is_asked_about(avsal_command, released, home, monkeypatch, answer):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    code, _out, err = avsal_command("weights", "pull", NAME)
    assert code == (0 if answer == "y\n" else 1)
    assert "no licence" in err
    assert (home / "weights" / f"{NAME}.safetensors").is_file() == (answer == "y\n")


def test_nobody_to_ask(avsal_command, released, github):
    code, out, err = avsal_command("weights", "pull", NAME)
    assert (code, out) == (2, "")
    one_error(err, "--yes")
    assert github.requests == [f"GET {RELEASE}"]


def test_folds(avsal_command, released, github, home, row):
    other = models.build(row.variant)
    github.files["MSPI_tiny_fold2.pth"] = checkpoint(other)
    code, out, _err = avsal_command("weights", "pull", NAME, "--fold", "2", *YES)
    assert code == 0
    assert out.strip() == str(home / "weights" / f"{NAME}-fold2.safetensors")
    assert weights.load_weights(weights=f"{NAME}-fold2").metadata["source"] == "MSPI_tiny_fold2.pth"
    code, out, _err = avsal_command("weights", "pull", NAME, *YES)
    assert weights.load_weights(NAME).metadata["source"] == FILE


def test_several_that_fit_are_listed(avsal_command, released, github, home):
    github.files["MSPI tiny_fold1_best.pth"] = released
    code, out, err = avsal_command("weights", "pull", NAME, *YES)
    assert (code, out) == (2, "")
    one_error(err, "2 files in the release", "--asset")
    command = f"avsal weights pull {NAME} --asset "
    assert f"{command}{FILE}\n" in err
    assert f"{command}'MSPI tiny_fold1_best.pth'\n" in err
    code, _out, err = avsal_command("weights", "pull", NAME, "--asset", FILE, *YES)
    assert code == 0, err
    code, _out, err = avsal_command("weights", "pull", NAME, "--asset", "none.pt", *YES)
    assert code == 2
    one_error(err, "none.pt", FILE)


def test_none_that_fits(avsal_command, released, github):
    github.files = {"MSPI_s3d_fold1.pth": b"", "MSPI_x3d_fold1.pth": b""}
    code, _out, err = avsal_command("weights", "pull", NAME, *YES)
    assert code == 2
    one_error(err, "no files in the release", "--asset")
    assert "--asset MSPI_s3d_fold1.pth" in err
    github.files = {"source.txt": b""}
    code, _out, err = avsal_command("weights", "pull", NAME, *YES)
    assert code == 1
    one_error(err, "no weights", "oraclefina/MSPI")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("limit", "requests per hour"),
        ("gone", "has no release v1.0.0"),
        ("broken", "error 500"),
        ("html", "cannot be reached"),
    ],
)
def test_github_refuses(avsal_command, released, github, fault, says):
    github.fault = fault
    code, out, err = avsal_command("weights", "pull", NAME, *YES)
    assert (code, out) == (1, "")
    one_error(err, NAME, says, "https://github.com/oraclefina/MSPI")


def test_a_short_connection_is_resumed_at_once(avsal_command, released, github):
    github.fault = "cut once"
    assert avsal_command("weights", "pull", NAME, *YES)[0] == 0
    start = int(github.requests[-1].removeprefix(f"GET /download/{FILE} from "))
    assert 0 < start <= len(released) // 2


@pytest.mark.parametrize("fault", ["cut", "short"])
def test_a_broken_download_is_resumed_by_the_next_call(
    avsal_command, released, github, home, fault
):
    github.fault = fault
    code, out, err = avsal_command("weights", "pull", NAME, *YES)
    assert (code, out) == (1, "")
    one_error(err, FILE, "same command")
    assert not (home / "weights" / f"{NAME}.safetensors").exists()
    kept = sum(path.stat().st_size for path in downloads(home) if path.suffix == ".part")
    assert 0 < kept < len(released)
    github.fault = ""
    assert avsal_command("weights", "pull", NAME, *YES)[0] == 0
    assert github.requests[-1] == f"GET /download/{FILE} from {kept}"
    assert downloads(home) == []


def test_altered_content_is_removed(avsal_command, released, github, home):
    github.fault = "altered"
    code, _out, err = avsal_command("weights", "pull", NAME, *YES)
    assert code == 1
    one_error(err, FILE, "sha256")
    assert downloads(home) == []


def test_another_network_is_refused(avsal_command, released, github, home, tiny, monkeypatch):
    network = models.build(tiny, audio=False)
    github.files[FILE] = checkpoint(network)
    code, _out, err = avsal_command("weights", "pull", NAME, *YES)
    assert code == 1
    one_error(err, f"{github.url}/download/{FILE}", "does not fit")
    assert downloads(home) == []
    assert not (home / "weights" / f"{NAME}.safetensors").exists()


def test_offline(avsal_command, released, github, monkeypatch):
    from huggingface_hub import constants

    code, _out, err = avsal_command("weights", "pull", NAME, "--offline", *YES)
    assert code == 1
    one_error(err, f"avsal weights pull {NAME}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _out, err = avsal_command("weights", "pull", NAME, *YES)
    assert code == 1
    one_error(err, "HF_HUB_OFFLINE")
    assert github.requests == []


def test_unreachable_github(avsal_command, released, monkeypatch):
    assert download.API_TIMEOUT < 10
    monkeypatch.setattr(download, "API_TIMEOUT", 1)
    for silent in (False, True):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1] if silent else 9
            monkeypatch.setenv(download.API_VARIABLE, f"http://127.0.0.1:{port}")
            begun = time.monotonic()
            code, _out, err = avsal_command("weights", "pull", NAME, *YES)
        assert code == 1
        one_error(err, NAME, "cannot be reached", "avsal weights import FILE.pt")
        assert time.monotonic() - begun < 20  # seconds, on a busy machine, too


def test_options_of_the_release_belong_to_released_weights(avsal_command, home):
    code, _out, err = avsal_command("weights", "pull", "avsal-small", "--fold", "1")
    assert code == 2
    one_error(err, "avsal-small")


# --- any address ----------------------------------------------------------------------------


def test_import_from_an_address(avsal_command, released, github, home, tiny):
    url = f"{github.url}/download/{FILE}"
    code, out, err = avsal_command("weights", "import", url)
    assert code == 0, err
    assert f"--weights {NAME}" in out
    metadata = weights.load_weights(tiny).metadata
    assert metadata["source_url"] == url
    assert metadata["source_sha256"] == sha256(released)
    code, _out, err = avsal_command("weights", "import", f"{url}.gone")
    assert code == 1
    one_error(err, f"{url}.gone: there is no such file")


def test_a_page_in_place_of_weights(avsal_command, released, github, home):
    github.files["page"] = b"<html>log in first</html>" * 100
    code, _out, err = avsal_command("weights", "import", f"{github.url}/download/page")
    assert code == 1
    one_error(err, f"{github.url}/download/page", "neither safetensors nor")
    assert downloads(home) == []


def test_what_changed_meanwhile_is_downloaded_anew(avsal_command, released, github, row):
    github.fault = "cut"
    url = f"{github.url}/download/{FILE}"
    assert avsal_command("weights", "import", url)[0] == 1
    github.fault = ""
    github.files[FILE] = checkpoint(models.build(row.variant))
    assert avsal_command("weights", "import", url)[0] == 0
    assert weights.load_weights(NAME).metadata["source_sha256"] == sha256(github.files[FILE])


def test_import_of_an_encoder_from_an_address(avsal_command, released, github, tiny, tmp_path):
    network = models.build(tiny).state_dict()
    audio = {n.removeprefix("audnet."): t for n, t in network.items() if n.startswith("audnet.")}
    content = io.BytesIO()
    torch.save(audio, content)
    github.files["sound.pth"] = content.getvalue()
    output = tmp_path / "sound.safetensors"
    options = ("--component", "audio", "--variant", tiny, "-o", output)
    url = f"{github.url}/download/sound.pth"
    assert avsal_command("weights", "import", url, *options)[0] == 0
    assert weights.read_state(output)[1]["source_url"] == url


# --- names of files -------------------------------------------------------------------------


def chosen(names: str, row: str, fold: int = 1) -> str:
    files = [WebFile("http://x", name) for name in names.split()]
    return " ".join(file.name for file in download.fitting_files(files, weights.get_row(row), fold))


@pytest.mark.parametrize(
    ("names", "row", "fold", "expected"),
    [
        ("only.pt", "mspi-mvitv2s", 1, "only.pt"),
        ("mspi_mvitv2_384.pth mspi_s3d.pth", "mspi-mvitv2s", 1, "mspi_mvitv2_384.pth"),
        ("MViTv2-S_224x384.pt MViTv2-S_224x224.pt", "mspi-mvitv2s", 1, "MViTv2-S_224x384.pt"),
        ("MViTv2-S_224x384.pt MViTv2-S_224x224.pt", "mspi-mvitv2s-224", 1, "MViTv2-S_224x224.pt"),
        ("mvit_384x224_1.pt mvit_384x224_2.pt", "mspi-mvitv2s", 2, "mvit_384x224_2.pt"),
        ("mvit_f1.pt mvit_f2.pt mvit_f3.pt", "mspi-mvitv2s", 3, "mvit_f3.pt"),
        ("mvit.split2.pth.tar mvit.split1.pth.tar", "mspi-mvitv2s", 1, "mvit.split1.pth.tar"),
        ("mvit_fold0.pt mvit_fold1.pt", "mspi-mvitv2s", 1, "mvit_fold0.pt mvit_fold1.pt"),
        ("mvit_v1.0.pt s3d_v1.0.pt", "mspi-mvitv2s", 1, "mvit_v1.0.pt"),
        ("a.pt b.pt", "mspi-mvitv2s", 1, "a.pt b.pt"),
        ("swin.pt slow-fast.pt x3d.pt", "mspi-slowfast4x16", 1, "slow-fast.pt"),
        ("s3d.pt", "mspi-mvitv2s", 1, ""),
    ],
)
def test_files_are_chosen_by_what_their_names_tell(names, row, fold, expected):
    assert chosen(names, row, fold) == expected


def test_every_released_network_has_a_name():
    for row in REGISTRY.values():
        assert not row.released or VARIANTS[row.variant].motion in registry.NETWORKS
