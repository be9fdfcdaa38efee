"""Under which names imported weights are saved and found again."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from release_server import running_github

from avsal import models, weights
from avsal.errors import UsageError, WeightsError
from avsal.models.variants import VARIANTS
from avsal.weights import download, registry
from avsal.weights.download import WebFile
from avsal.weights.registry import REGISTRY, WeightsRow

NAME = "mspi-tiny"
YES = ("--yes",)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AVSAL_HUB_REPO", raising=False)
    return tmp_path / "home" / "weights"


@pytest.fixture
def rows(tiny, monkeypatch) -> None:
    """Two sizes of a small network, whose weights the authors are said to have released."""
    least = dataclasses.replace(VARIANTS[tiny], image=None)  # most weights are of that branch
    smaller = dataclasses.replace(least, name="tiny-smaller", height=224, width=224)
    larger = dataclasses.replace(least, name="tiny-larger", height=224, width=384)
    monkeypatch.delitem(VARIANTS, tiny)
    for name, variant in ((NAME, larger), (f"{NAME}-224", smaller)):
        monkeypatch.setitem(VARIANTS, variant.name, variant)
        row = WeightsRow(name, variant.name, f"{name}.safetensors", released=True)
        monkeypatch.setitem(REGISTRY, name, row)


def save(path: Path, value: float, tiny: str = "tiny-larger") -> Path:
    """A checkpoint that can be told from others by one value."""
    torch.manual_seed(0)
    state = models.build(tiny).state_dict()
    state["readout.0.weight"].view(-1)[0] = value
    torch.save(state, path)
    return path


def value_of(name: str, how: str = "weights") -> float:
    state = weights.load_weights(**{how: name}).state
    return float(state["readout.0.weight"].view(-1)[0])


def test_folds_and_sizes_are_kept_apart(rows, avsal_command, tmp_path, home):
    names_of = {
        "MSPI_fold1.pt": NAME,
        "MSPI_split-02.pth": f"{NAME}-fold2",
        "mspi_224x224_split3_of_3.pt": f"{NAME}-224-fold3",
        "mspi-224.pt": f"{NAME}-224",
    }
    for value, (file, name) in enumerate(names_of.items()):
        code, out, err = avsal_command("weights", "import", save(tmp_path / file, value))
        assert code == 0, err
        assert f"--weights {name}\n" in out
    assert {path.stem for path in home.iterdir()} == set(names_of.values())
    for value, name in enumerate(names_of.values()):
        assert value_of(name) == value_of(name, "name") == value
    _code, out, _err = avsal_command("weights", "list")
    assert re.search(rf"{NAME}-fold2 +tiny-larger +imported +MSPI_split-02.pth", out)
    assert weights.load_weights(f"{NAME}-224-fold3").variant == "tiny-smaller"


def test_other_weights_are_replaced_only_by_force(rows, avsal_command, tmp_path, home):
    first, second = save(tmp_path / "a.pt", 1), save(tmp_path / "b.pt", 2)
    for _ in range(2):  # the same file again is fine
        assert avsal_command("weights", "import", first)[0] == 0
    code, out, err = avsal_command("weights", "import", second)
    assert (code, out) == (2, "")
    for part in (str(home / f"{NAME}.safetensors"), "a.pt", "--force"):
        assert part in err
    assert value_of(NAME) == 1
    code, out, _err = avsal_command("weights", "import", second, "--name", "other")
    assert code == 0
    assert "--weights other" in out
    assert (value_of("other"), value_of("other", "name")) == (2, 2)
    assert avsal_command("weights", "import", second, "--force")[0] == 0
    assert value_of(NAME) == 2


def test_a_file_that_avsal_did_not_write_stays(rows, avsal_command, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("notes")
    code, _out, err = avsal_command("weights", "import", save(tmp_path / "a.pt", 1), "-o", notes)
    assert code == 2
    assert "something else" in err
    assert notes.read_text() == "notes"


def test_own_weights_of_a_network_that_is_shipped(rows, avsal_command, monkeypatch, tmp_path, home):
    """As weights trained further from the default ones."""
    shipped = dataclasses.replace(REGISTRY[NAME], sha256="0" * 64)
    monkeypatch.setitem(REGISTRY, NAME, shipped)
    own = save(tmp_path / "finetuned.pt", 5)
    code, out, _err = avsal_command("weights", "import", own)
    assert code == 0
    assert f"--weights {NAME}-own" in out
    assert value_of(f"{NAME}-own") == 5
    code, _out, err = avsal_command("weights", "import", own, "--name", NAME)
    assert code == 2
    assert f"the weights {NAME}" in err
    assert [path.stem for path in home.iterdir()] == [f"{NAME}-own"]
    (home / shipped.file).touch()  # as version 0.2 wrote it
    assert f"{home / shipped.file}: never used" in avsal_command("weights", "list")[2]


@pytest.mark.parametrize("name", ["untrained", "a/b", "x.pt", "s3d", "avsal-small", "", "../x"])
def test_names_by_which_nothing_would_be_found(name):
    with pytest.raises(UsageError):
        registry.require_free(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [("mspi-s3dd", "mspi-s3d"), ("mvit", "mspi-mvitv2s"), ("avsal-smal", "avsal-small")],
)
def test_the_nearest_name_is_named(name, near):
    for load in (weights.get_row, weights.load_weights, weights.load_state):
        with pytest.raises(UsageError, match=rf"{name}.*did you mean {near}"):
            load(name)


def test_a_fold_that_is_not_here_says_how_to_get_it():
    for how in ("name", "weights"):
        with pytest.raises(WeightsError, match="avsal weights pull mspi-s3d --fold 2"):
            weights.load_weights(**{how: "mspi-s3d-fold2"})


# --- the authors' release -------------------------------------------------------------------


@pytest.fixture
def github(rows, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with running_github() as server:
        monkeypatch.setenv(download.API_VARIABLE, server.url)
        yield server


def downloads(github) -> list[str]:
    return [request for request in github.requests if "/download/" in request]


def test_a_fold_that_no_name_says_is_not_made_up(github, avsal_command, tmp_path, home):
    github.files["mspi.pt"] = save(tmp_path / "mspi.pt", 3).read_bytes()
    code, _out, err = avsal_command("weights", "pull", NAME, "--fold", "3", *YES)
    assert code == 2
    assert "fold 3" in err
    assert downloads(github) == []
    code, _out, err = avsal_command("weights", "pull", NAME, *YES)
    assert code == 0
    assert "no fold" in err
    known = ("--asset", "mspi.pt", "--fold", "3")
    assert avsal_command("weights", "pull", NAME, *known, *YES)[0] == 0
    assert value_of(f"{NAME}-fold3") == 3


def test_an_asset_is_saved_under_its_fold(github, avsal_command, tmp_path, home):
    for fold in (1, 2):
        name = f"mspi_fold{fold}.pt"
        github.files[name] = save(tmp_path / name, fold).read_bytes()
    assert avsal_command("weights", "pull", NAME, "--asset", "mspi_fold2.pt", *YES)[0] == 0
    assert [path.stem for path in home.glob("*.safetensors")] == [f"{NAME}-fold2"]
    asked = len(github.requests)
    code, out, _err = avsal_command("weights", "pull", NAME, "--fold", "2", *YES)
    assert (code, out) == (0, f"{home / f'{NAME}-fold2.safetensors'}\n")  # it is here
    assert len(github.requests) == asked
    wrong = ("--asset", "mspi_fold2.pt", "--fold", "3")
    code, _out, err = avsal_command("weights", "pull", NAME, *wrong, *YES)
    assert code == 2
    assert "fold 2" in err


def test_another_asset_replaces_only_by_force(github, avsal_command, tmp_path):
    for value, name in enumerate(("a.pt", "b.pt")):
        github.files[name] = save(tmp_path / name, value).read_bytes()
    assert avsal_command("weights", "pull", NAME, "--asset", "a.pt", *YES)[0] == 0
    code, _out, err = avsal_command("weights", "pull", NAME, "--asset", "b.pt", *YES)
    assert code == 2
    assert "a.pt, not b.pt; add --force" in err
    assert len(downloads(github)) == 1
    assert avsal_command("weights", "pull", NAME, "--asset", "b.pt", "--force", *YES)[0] == 0
    assert value_of(NAME) == 1


def test_damaged_weights_are_downloaded_again(github, avsal_command, tmp_path, home):
    github.files["mspi.pt"] = save(tmp_path / "mspi.pt", 4).read_bytes()
    for _ in range(2):
        assert avsal_command("weights", "pull", NAME, *YES)[0] == 0
        assert value_of(NAME) == 4
        path = home / f"{NAME}.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    assert len(downloads(github)) == 2


def test_offline_pull_does_not_answer_with_itself(github, avsal_command):
    for fold in ((), ("--fold", "2")):
        code, _out, err = avsal_command("weights", "pull", NAME, "--offline", *fold)
        assert code == 1
        assert f"run {' '.join(('avsal weights pull', NAME, *fold))} without --offline" in err
    assert github.requests == []


@pytest.mark.parametrize("name", ["weights.zip", "folds.tar.gz", "all.tar"])
def test_archives_are_named_before_the_download(name, github, avsal_command):
    github.files[name] = b"x"
    code, _out, err = avsal_command("weights", "pull", NAME, *YES)
    assert code == 1
    assert f"only archives, which avsal does not unpack ({name})" in err
    if name != "all.tar":  # which may be an old PyTorch file
        code, _out, err = avsal_command("weights", "import", f"{github.url}/download/{name}")
        assert code == 2
        assert "is an archive" in err
    assert downloads(github) == []


def chosen(files: str, row: str, fold: int = 1) -> str:
    web = [WebFile("http://x", name) for name in files.split()]
    return " ".join(file.name for file in download.fitting_files(web, weights.get_row(row), fold))


@pytest.mark.parametrize(
    ("files", "row", "fold", "expected"),
    [
        ("mspi_s3d.pt mspi_x3d.pt pretrained_vggsound.pth", "mspi-uniformerb", 1, ""),
        ("mspi_s3d.pt mspi_x3d.pt other.pth", "mspi-s3d", 1, "mspi_s3d.pt"),
        ("mspi_mvit.pt mvit_k400.pth", "mspi-mvitv2s", 1, "mspi_mvit.pt"),
        ("model_best.pt checkpoint_2.pt", "mspi-s3d", 1, "model_best.pt checkpoint_2.pt"),
        ("mvit_split1_of_3.pth mvit_split2_of_3.pth", "mspi-mvitv2s", 1, "mvit_split1_of_3.pth"),
        ("MViT-S-split-01.pth MViT-S-split-02.pth", "mspi-mvitv2s", 2, "MViT-S-split-02.pth"),
        ("s3d_fold2of3.pt s3d-fold_3.pt", "mspi-s3d", 3, "s3d-fold_3.pt"),
    ],
)
def test_files_are_chosen_by_what_their_names_tell(files, row, fold, expected):
    assert chosen(files, row, fold) == expected


@pytest.mark.parametrize(
    ("name", "folds"),
    [
        ("split-01.pt", "1"),
        ("split1_of_3.pth", "1"),
        ("Fold 02.pt", "2"),
        ("s3d_epoch_2.pt", ""),
        ("s3d_2.pt", "2"),
        ("checkpoint_2.pt", ""),
        ("mspi_f3.pth.tar", "3"),
    ],
)
def test_folds_in_names(name, folds):
    assert registry.folds_in(name) == set(folds)


def test_a_home_that_may_not_be_entered_has_no_files(avsal_command, monkeypatch):
    """As in containers with the home of another user; root may enter all, but no name this long."""
    for name in ("AVSAL_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, f"/{'x' * 300}")
    code, out, err = avsal_command("weights", "list")
    assert (code, err) == (0, "")
    assert "avsal-small" in out
    assert weights.resolve().is_file()
    with pytest.raises(UsageError, match="neither a file nor"):
        weights.resolve(NAME)
