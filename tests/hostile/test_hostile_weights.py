"""Files of weights that ask for too much, or hold what no network can use."""

from __future__ import annotations

import io
import os
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avsal import models, weights
from avsal.errors import WeightsError
from avsal.weights.pickles import Global, requests_of
from avsal.weights.upstream import read_blobs

LARGE = 64 << 30  # bytes
MEMORY = 200 << 20  # bytes that refusing a small file may take

# Reads one file in a process of its own, which must neither crash nor grow.
READ = """
import resource, sys
from pathlib import Path
import torch
from avsal.errors import WeightsError
from avsal.weights.upstream import read_blobs
from avsal.weights.state import read_state

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

for name in sys.argv[1:]:
    before = peak()
    try:
        (read_blobs if name.endswith(".pkl") else read_state)(Path(name))
        said = "read"
    except WeightsError as error:
        said = str(error)
    print(peak() - before, said, flush=True)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AVSAL_HOME", str(tmp_path / "home"))


def archive(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """A PyTorch file around a pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", "3\n")
    return path


def nested_key(depth: int = 500_000) -> bytes:
    """A dictionary with a tuple in a tuple in a tuple ... as its key, which hashing descends."""
    return b"\x80\x02})" + b"\x85" * depth + b"K\x01s."


def doubled_key(times: int = 60) -> bytes:
    """The same with pairs of twice the same: hashing it takes 2 ** times steps."""
    return b"\x80\x02})" + b"2\x86" * times + b"K\x01s."


def far_memo(pieces: bytes = b"") -> bytes:
    """Remembers a value under the number 2 ** 32 - 1, for which C Python makes 64 GiB of places."""
    return b"\x80\x02K\x01r\xff\xff\xff\xff" + pieces + b"."


def called_storage(size: int = LARGE) -> bytes:
    """Asks for memory by calling the class of a storage, which checkpoints only refer to."""
    call = b"ctorch.storage\nUntypedStorage\n\x8a\x06" + size.to_bytes(6, "little") + b"\x85R"
    return b"\x80\x02}(X\x01\x00\x00\x00a" + call + b"u."


def with_length(content: bytes, length: int) -> bytes:
    """A pickle of one tensor of 1000 floats, whose storage says to be of another length."""
    assert content.count(b"M\xe8\x03tq") == 1
    return content.replace(b"M\xe8\x03tq", b"\x8a\x06" + length.to_bytes(6, "little") + b"tq")


def long_storages(folder: Path) -> dict[str, Path]:
    """Checkpoints whose pickle says another length of a storage than it has in the file."""
    new, old = folder / "record.pt", folder / "old.pt"
    torch.save({"x": torch.zeros(1000)}, new)
    with zipfile.ZipFile(new) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(new, "w") as file:
        for name, content in entries.items():
            long = name.endswith("data.pkl")
            file.writestr(name, with_length(content, 100_000_000) if long else content)
    torch.save({"x": torch.zeros(1000)}, old, _use_new_zipfile_serialization=False)
    content = old.read_bytes()
    old.write_bytes(content.replace(b"M\xe8\x03Ntq", b"\x8a\x05\x00\x00\x00\x00\x04Ntq"))
    assert old.read_bytes() != content
    return {path.name: path for path in (new, old)}


def safetensors_header(header: str) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode()


def copies(times: int = 200) -> bytes:
    """The same 8 MB again and again, each time as another object."""
    text = b"x" * (8 << 20)
    start = b"\x80\x02(X" + len(text).to_bytes(4, "little") + text + b"q\x000"
    one = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    return start + one * times + b"l."


def named(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def text(content: bytes) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content


def doubled_bytes(codec: bytes = b"hex", times: int = 40) -> bytes:
    """Encodes the result of an encoding again and again, each time twice as long."""
    start = named("_codecs", "encode") + text(bytes(8)) + text(b"latin1") + b"\x86R"
    wrapped = start
    for _ in range(times):
        wrapped = named("_codecs", "encode") + wrapped + text(codec) + b"\x86R"
    return b"\x80\x02" + wrapped + b"."


def sets_of_one_list(module: str, name: str, values: int = 100_000, times: int = 2000) -> bytes:
    """Makes set after set of the same list."""
    numbers = b"".join(b"J" + number.to_bytes(4, "little") for number in range(values))
    start = b"\x80\x02](" + numbers + b"eq\x000("
    return start + (named(module, name) + b"h\x00\x85R") * times + b"l."


def called_tensor() -> bytes:
    """Asks for memory by calling a class of tensors that torch permits."""
    call = named("torch", "FloatTensor") + b"\x8a\x06" + LARGE.to_bytes(6, "little") + b"\x85R"
    return b"\x80\x02](" + call + named("own", "Thing") + b")Re."


def hostile_files(folder: Path) -> dict[str, Path]:
    itself: dict = {}
    itself["state_dict"] = itself
    torch.save(itself, folder / "itself.pt")
    files = {
        "bomb.pt": archive(folder / "bomb.pt", bytes(400 << 20), zipfile.ZIP_DEFLATED),
        "nested.pt": archive(folder / "nested.pt", nested_key()),
        "doubled.pt": archive(folder / "doubled.pt", doubled_key()),
        "copies.pt": archive(folder / "copies.pt", copies()),
        "itself.pt": folder / "itself.pt",
        "storage.pt": archive(folder / "storage.pt", called_storage()),
        "hex.pt": archive(folder / "hex.pt", doubled_bytes()),
        "sets.pt": archive(folder / "sets.pt", sets_of_one_list("__builtin__", "set")),
        "counts.pt": archive(folder / "counts.pt", sets_of_one_list("collections", "Counter")),
        "tensor.pt": archive(folder / "tensor.pt", called_tensor()),
        **long_storages(folder),
    }
    for name, content in (
        ("nested.pkl", nested_key()),
        ("doubled.pkl", doubled_key()),
        ("memo.pkl", far_memo()),
        ("copies.pkl", copies()),
        (
            "array.pkl",
            b"\x80\x02cnumpy\nndarray\n\x8a\x06" + (64 << 30).to_bytes(6, "little") + b"\x85R.",
        ),
        (
            "tensor.safetensors",
            safetensors_header(
                '{"x":{"dtype":"F32","shape":[4000000000],"data_offsets":[0,16000000000]}}'
            ),
        ),
        ("header.safetensors", LARGE.to_bytes(8, "little") + b"{}"),
        ("length.pkl", b"\x80\x04\x8e" + (64 << 30).to_bytes(8, "little") + b"x."),
    ):
        (folder / name).write_bytes(content)
        files[name] = folder / name
    return files


@pytest.mark.slow
def test_files_that_ask_for_too_much_are_refused_cheaply(tmp_path):
    files = hostile_files(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", READ, *map(str, files.values())],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr  # a crash would be a signal
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) == len(files), lines
    for (name, path), line in zip(files.items(), lines, strict=True):
        grown, _, said = line.partition(" ")
        assert said.startswith(str(path)), name
        assert int(grown) < MEMORY, name


def test_only_what_state_dicts_are_made_of_is_unpickled(tmp_path):
    path = archive(tmp_path / "x.pt", b"\x80\x02cbuiltins\nbytearray\nK\x01\x85R.")
    with pytest.raises(WeightsError, match=r"builtins\.bytearray.* can run code"):
        weights.read_state(path)
    archive(path, pickle.dumps({"x": np.zeros(3)}, 2))
    with pytest.raises(WeightsError, match=r"numpy.*_reconstruct.* can run code"):
        weights.read_state(path)


def test_globals_are_found_in_every_protocol():
    for protocol in (0, 2, 4):
        content = pickle.dumps({"x": Path("y"), "z": (1, [2.5, "t", b"u"], None)}, protocol)
        requests = list(requests_of(io.BytesIO(content)))
        names = [request.name for request in requests if isinstance(request, Global)]
        assert any(name.startswith("pathlib.") for name in names)


def test_a_storage_longer_than_its_bytes_is_refused(tmp_path):
    """torch would read beyond its memory, or reserve all that the pickle says."""
    for path in long_storages(tmp_path).values():
        with pytest.raises(WeightsError, match=r"would unpack to .* MB"):
            weights.read_state(path)


def test_a_called_storage_is_refused(tmp_path):
    path = archive(tmp_path / "x.pt", called_storage())
    with pytest.raises(WeightsError, match=r"calls torch\.storage\.UntypedStorage"):
        weights.read_state(path)


@pytest.mark.parametrize("old", [False, True], ids=["archive", "old format"])
def test_damaged_checkpoints_give_one_line(old, tmp_path):
    """Whatever a flipped byte makes of a pickle."""
    path = tmp_path / "x.pt"
    state = {"a.weight": torch.arange(6.0), "b": {"c": (1, [2.0])}}
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    choice = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        for _flip in range(choice.randint(1, 4)):
            content[choice.randrange(len(content))] = choice.randrange(256)
        path.write_bytes(content[: choice.choice([len(content), choice.randrange(len(content))])])
        try:
            weights.read_state(path)
        except WeightsError as error:
            assert "\n" not in str(error)


def test_damaged_caffe2_pickles_give_one_line(tmp_path):
    path = tmp_path / "x.pkl"
    whole = pickle.dumps({"blobs": {"w": np.arange(4, dtype=np.float32)}}, 2)
    choice = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        content[choice.randrange(len(content))] = choice.randrange(256)
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                read_blobs(path)
            except WeightsError as error:
                assert "\n" not in str(error)


def test_caffe2_arrays_may_not_be_repeated_beyond_the_file(tmp_path):
    array = np.ones(20_000, np.float32)
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"blobs": {f"w{i}": array for i in range(500)}}, 2))
    with pytest.raises(WeightsError, match="larger than the file"):
        read_blobs(path)


def test_caffe2_arrays_of_objects_are_refused(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"w": np.array([None, "x"])}}, 2))
    with pytest.raises(WeightsError, match="values of type object"):
        read_blobs(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
@pytest.mark.timeout(20)
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    for read in (weights.read_state, weights.import_checkpoint, read_blobs, weights.sha256_of):
        with pytest.raises(WeightsError, match="regular file"):
            read(tmp_path / "pipe.pt")


# --- tensors that no network can use --------------------------------------------------------


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.zeros(3, device="meta"),
        torch.zeros(1).expand(1 << 40),
    ],
    ids=["sparse", "meta", "repeated"],
)
def test_tensors_without_values_of_their_own_are_refused(tensor, tmp_path):
    torch.save({"x": tensor}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt: (x is a sparse|contains torch)"):
        weights.read_state(tmp_path / "x.pt")


def spoilt(state: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """A state dict with one tensor that is not as it should be."""
    name = "readout.0.weight"
    value = state[name].clone()
    if kind in ("nan", "inf"):
        value.view(-1)[3] = float(kind)
    else:
        value = value.to(getattr(torch, kind))
    return {**state, name: value}


@pytest.mark.parametrize("kind", ["nan", "inf", "int32", "bool", "complex64"])
def test_unusable_values_are_refused_at_import_and_at_load(
    kind, tiny, tmp_path, avsal_command, example_clip
):
    state = spoilt(models.build(tiny).state_dict(), kind)
    says = "NaN or infinity" if kind in ("nan", "inf") else f"is {kind}, not floating"
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=says):
        weights.import_checkpoint(tmp_path / "x.pt", output=tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    save_file(state, tmp_path / "x.safetensors", {"variant": tiny})
    for name in ("x.pt", "x.safetensors"):
        with pytest.raises(WeightsError, match=says):
            weights.load_weights(weights=tmp_path / name)
    network = ("--model", tiny, "--weights", tmp_path / "x.safetensors")
    code, _out, err = avsal_command("predict", example_clip, "-o", tmp_path / "maps", *network)
    assert code == 1
    assert "readout.0.weight" in err
    assert not (tmp_path / "maps").exists()


def test_values_too_large_for_float32_are_refused(tiny, tmp_path):
    state = models.build(tiny).double().state_dict()
    state["readout.0.weight"].view(-1)[0] = 1e300
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="NaN or infinity"):
        weights.load_weights(weights=tmp_path / "x.pt")


def test_unusable_values_of_an_encoder_are_refused(tiny, tmp_path):
    state = models.build(tiny).state_dict()
    encoder = {n.removeprefix("audnet."): t for n, t in state.items() if n.startswith("audnet.")}
    encoder["conv1.weight"].view(-1)[0] = float("nan")
    torch.save(encoder, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth: .*NaN or infinity"):
        weights.import_component(tmp_path / "x.pth", "audio", tiny, tmp_path / "o.safetensors")
