"""MATLAB files: what SciPy wrote is read alike, damage is one line and never ends the process."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz_readers import matlab
from mutations import mutated
from scipy.io import savemat
from scipy.sparse import csc_matrix

from avsal.datasets.matlab import read_matlab
from avsal.errors import DataError

KINDS = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?")


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_and_structs_come_back(tmp_path, compressed):
    arrays = {f"a{kind}": np.arange(12).reshape(3, 4).astype(kind) for kind in KINDS if kind != "?"}
    arrays["logical"] = np.eye(5, dtype=bool)
    arrays["cube"] = np.arange(24.0).reshape(2, 3, 4)
    record = np.zeros((2, 1), [("x", "O"), ("fixations", "O")])
    record[0, 0], record[1, 0] = (np.zeros((0, 2)), np.ones((3, 2))), (np.eye(2), np.zeros((1, 2)))
    others = {"text": "abc", "sparse": csc_matrix(np.eye(3)), "struct": record}
    path = tmp_path / "a.mat"
    savemat(path, {**arrays, **others}, do_compression=compressed)
    found = read_matlab(path)
    assert list(found) == [*arrays, *others]
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values, strict=True)
    assert found["text"] is None
    np.testing.assert_array_equal(found["sparse"], np.eye(3))
    for one, other in zip(found["struct"], record.ravel(), strict=True):
        assert list(one) == ["x", "fixations"]
        np.testing.assert_array_equal(one["x"], other["x"])
        np.testing.assert_array_equal(one["fixations"], other["fixations"])


def test_version_4(tmp_path):
    path = tmp_path / "a.mat"
    values = {"a": np.arange(6.0).reshape(2, 3), "b": np.eye(3, dtype=np.uint8)}
    savemat(path, values | {"text": "abc"}, format="4")
    found = read_matlab(path)
    assert found["text"] is None
    for name, array in values.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("form", ["4", "5"])
def test_sparse_arrays_come_back(tmp_path, form):
    values = np.zeros((7, 4))
    values[2, 0], values[6, 0], values[3, 2] = 1, 2.5, -3
    path = tmp_path / "a.mat"
    savemat(path, {"some": csc_matrix(values), "none": csc_matrix((7, 4))}, format=form)
    found = read_matlab(path)
    np.testing.assert_array_equal(found["some"], values)
    np.testing.assert_array_equal(found["none"], np.zeros((7, 4)))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (128, b"\x0f", "damaged"),  # compressed, which it is not
        (136, b"\xff\xff\x00\x00", "damaged"),  # a type that SciPy took for an address
        (152, b"\x05\x00\x00\x00\xff\xff\xff\x7f", "ends inside"),
        (124, b"\x00\x02", "7.3"),
        (126, b"XX", "no MATLAB file"),
    ],
)
def test_damage_is_told(tmp_path, place, value, message):
    path = tmp_path / "a.mat"
    savemat(path, {"eyeMap": np.eye(9)})
    data = bytearray(path.read_bytes())
    data[place : place + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_matlab(path)


def test_mutations(tmp_path):
    whole = tmp_path / "whole.mat"
    record = np.zeros((1, 1), [("fixations", "O")])
    record[0, 0] = (np.ones((3, 2)),)
    contents = ({"eyeMap": np.eye(9)}, {"gaze": record, "resolution": np.array([[9, 9]])})
    path, clear = tmp_path / "a.mat", 0
    for content in contents:
        savemat(whole, content)
        matlab(whole)
        for seed in range(300):
            path.write_bytes(mutated(whole.read_bytes(), seed))
            try:
                matlab(path)
            except DataError as error:
                clear += 1
                assert str(error).isprintable()
    assert clear > 100
