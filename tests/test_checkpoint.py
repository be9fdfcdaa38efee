"""State dicts on disk: wrapped, damaged and hostile files."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avsal import weights
from avsal.errors import WeightsError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"model_state": state, "cfg": "text"},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"model": {f"module._orig_mod.{n}": tensor for n, tensor in state.items()}},
    ],
    ids=["state_dict", "model", "model_state", "module", "compiled"],
)
def test_unwrapping(wrap, tmp_path):
    torch.save(wrap(STATE), tmp_path / "wrapped.pth")
    state, metadata = weights.read_state(tmp_path / "wrapped.pth")
    assert metadata == {}
    assert state.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert torch.equal(state[name], tensor)
        assert state[name].dtype == tensor.dtype


def test_written_files_can_be_read_by_others(tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    weights.write_state(tmp_path / "x.safetensors", {"x": torch.zeros(2)})
    assert (tmp_path / "x.safetensors").stat().st_mode == usual.stat().st_mode


def test_shared_storage_is_written(tmp_path):
    both = torch.arange(6.0)
    weights.write_state(tmp_path / "x.safetensors", {"a": both[:4], "b": both[2:], "c": both})
    state = weights.read_state(tmp_path / "x.safetensors")[0]
    assert state["b"].tolist() == [2, 3, 4, 5]


class Hostile:
    """Runs a command when it is unpickled without care."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


def test_pickle_that_runs_code_is_refused(tmp_path):
    path, proof = tmp_path / "hostile.pt", tmp_path / "proof"
    torch.save({"state_dict": STATE, "epoch": Hostile(proof)}, path)
    with pytest.raises(WeightsError, match=r"hostile\.pt: .*mkdir.* refused"):
        weights.read_state(path)
    assert not proof.exists()


def test_pickled_network_is_refused(tmp_path):
    path = tmp_path / "module.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear.*state dict"):
        weights.read_state(path)


def spoil(content: bytes, how: str) -> bytes:
    return {"empty": b"", "cut": content[: len(content) // 2], "text": b"<html>no such page"}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "text"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_damaged_files(how, suffix, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    state = {"x": torch.zeros(1000)}
    if suffix == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(spoil(path.read_bytes(), how))
    with pytest.raises(WeightsError, match=rf"weights\.{suffix}: .*again") as caught:
        weights.read_state(path)
    assert "\n" not in str(caught.value)


def test_checkpoint_without_state_dict(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"epoch": 3, "loss": 0.5}, path)
    with pytest.raises(WeightsError, match="no state dict"):
        weights.read_state(path)


class Meter:
    """An object of a training program, which nobody else can import."""

    def __init__(self) -> None:
        self.values = [np.float32(2)]


class Log(list):
    """A list with a name of its own."""


def test_what_is_no_tensor_is_ignored_in_words(tmp_path, caplog):
    beside = {
        "best": np.float64(0.5),
        "args": argparse.Namespace(lr=np.float32(0.1), root=Path("data")),
        "meter": Meter(),
        "log": Log([1, 2]),
        "when": datetime.datetime(2026, 1, 2),
        "seen": {1, 2},
        "rng": np.random.RandomState(0).get_state(),
    }
    for name, content in (
        ("beside.pt", {"state_dict": STATE, **beside}),
        ("among.pt", {**STATE, **beside, "epoch": 3}),
    ):
        torch.save(content, tmp_path / name)
        caplog.clear()
        state = weights.read_state(tmp_path / name)[0]
        assert state.keys() == STATE.keys()
        for key, tensor in STATE.items():
            assert torch.equal(state[key], tensor)
        (said,) = [record.getMessage() for record in caplog.records]
        assert said.startswith(f"{tmp_path / name}: ")
        assert "argparse.Namespace" in said


class Config(dict):
    """Settings that are attributes too."""

    def __init__(self, **settings: object) -> None:
        super().__init__(settings)
        self.__dict__.update(settings)


OTHER_OBJECTS = {
    "dictionary with attributes": Config(lr=0.1),
    "default dictionary": collections.defaultdict(list, a=[1]),
    "queue": collections.deque([1, 2], 5),
    "counts": collections.Counter("aab"),
    "user dictionary": collections.UserDict(a=1),
    "sets": [{1, (2, 3)}, set(range(1000)), frozenset({4})],
    "numbers": [1j, np.float32(1), np.bool_(True), np.bool_(True), np.arange(3), np.zeros(0)],
    "bytes": [b"", b"abc", bytes(300)],
    "range": range(3),
    "path": Path("data"),
    "network": torch.nn.Linear(2, 2),
}


@pytest.mark.parametrize("kind", OTHER_OBJECTS)
def test_objects_of_every_kind_are_ignored(kind, tmp_path):
    torch.save({"state_dict": STATE, "other": OTHER_OBJECTS[kind]}, tmp_path / "x.pt")
    assert weights.read_state(tmp_path / "x.pt")[0].keys() == STATE.keys()


def test_torch_never_loads_more_than_weights(tmp_path, monkeypatch):
    """Its own restrictions are on for every file, whatever the file holds."""
    load, options = torch.load, []
    monkeypatch.setattr(
        torch, "load", lambda *args, **named: options.append(named) or load(*args, **named)
    )
    for name, content in (("x.pt", STATE), ("y.pt", {"state_dict": STATE, "m": Meter()})):
        torch.save(content, tmp_path / name)
        weights.read_state(tmp_path / name)
    assert [named["weights_only"] for named in options] == [True, True]
    assert not any("pickle_module" in named for named in options)


def test_what_the_host_permits_is_not_used_and_stays_permitted(tmp_path):
    torch.save({"state_dict": STATE, "m": Meter(), "s": np.float64(1)}, tmp_path / "x.pt")
    made = []
    permitted = [(lambda *arguments: made.append(arguments), f"{__name__}.Meter"), np.dtype]
    with torch.serialization.safe_globals(permitted):
        before = set(torch.serialization.get_safe_globals())
        assert weights.read_state(tmp_path / "x.pt")[0].keys() == STATE.keys()
        assert set(torch.serialization.get_safe_globals()) == before
        (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:-200])
        with pytest.raises(WeightsError):
            weights.read_state(tmp_path / "x.pt")
        assert set(torch.serialization.get_safe_globals()) == before
    assert made == []
    assert not set(torch.serialization.get_safe_globals()) & set(permitted)


def test_several_threads_may_read(tmp_path):
    for index, other in enumerate((Meter(), np.float64(1), argparse.Namespace(), STATE)):
        torch.save({"state_dict": STATE, "other": other}, tmp_path / f"{index}.pt")
    with ThreadPoolExecutor(4) as pool:
        for state, _metadata in pool.map(weights.read_state, [*tmp_path.glob("*.pt")] * 10):
            assert state.keys() == STATE.keys()


def test_what_torch_does_not_load_safely_is_refused_with_the_remedy(tmp_path):
    log = Log([1, 2])
    log.name = "loss"  # torch appends to plain lists only, and these have no attributes
    torch.save({"state_dict": STATE, "log": log}, tmp_path / "log.pt")
    torch.save({"state_dict": STATE, "m": Meter()}, tmp_path / "new.pt", pickle_protocol=4)
    torch.save(STATE, tmp_path / "plain.pt", pickle_protocol=4)
    for path in tmp_path.glob("*.pt"):
        with pytest.raises(WeightsError, match=r"\.pt: .*save only the state dict") as caught:
            weights.read_state(path)
        assert "\n" not in str(caught.value)


def test_other_entries_are_ignored_in_words(tmp_path, caplog):
    torch.save({**STATE, "epoch": 3}, tmp_path / "x.pt")
    assert weights.read_state(tmp_path / "x.pt")[0].keys() == STATE.keys()
    assert "ignored epoch" in caplog.text


def test_nothing_is_imported_for_what_is_ignored(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "foreign_settings.py"
    module.write_text("class Settings:\n    pass\n")
    import foreign_settings

    torch.save({"state_dict": STATE, "cfg": foreign_settings.Settings()}, tmp_path / "x.pt")
    proof = tmp_path / "proof"
    module.write_text(f"open({str(proof)!r}, 'w')\nclass Settings:\n    pass\n")
    monkeypatch.delitem(sys.modules, "foreign_settings")
    assert weights.read_state(tmp_path / "x.pt")[0].keys() == STATE.keys()
    assert "foreign_settings" not in sys.modules
    assert not proof.exists()


def test_other_objects_in_the_old_format_are_refused(tmp_path):
    """Also if the end of the file looks like an archive's, which torch does not look at."""
    path = tmp_path / "x.pt"
    torch.save({"state_dict": STATE, "m": Meter()}, path, _use_new_zipfile_serialization=False)
    torch.save(STATE, tmp_path / "archive.pt")
    for content in (path.read_bytes(), path.read_bytes() + (tmp_path / "archive.pt").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"Meter.* refused"):
            weights.read_state(path)
